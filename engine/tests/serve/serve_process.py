"""A server in a process of its own, as tests start, ask and end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import yaml
from pyarrow import parquet
from serve_samples import PARAMS, Production

from mergeline.journal.parquet_export import seal_all
from mergeline.serve.run import open_listener

QUICK = {**PARAMS, "serve": {"poll_seconds": 0.1, "max_records": 50, "max_body_mb": 0.1}}
START = (
    "import sys; from pathlib import Path; from mergeline.serve.run import serve; root = Path(sys.argv[1]); "
    "place, store = (*sys.argv[3:], '', '')[:2]; "
    "serve(root, host='127.0.0.1', port=int(sys.argv[2]), manifest=place or str(root / 'deploy/manifest.yaml'), "
    "store=store or str(root / 'store'))"
)


class Running:
    """A server process and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.client = httpx.Client(base_url=url, timeout=10)

    def predict(self, body) -> httpx.Response:
        return self.client.post("/predict", json=body)

    def post(self, content: bytes, **headers: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/predict", content=content, headers=headers)

    @property
    def status(self) -> dict:
        return self.client.get("/status").json()

    def wait(self, what: Callable[[], object], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(httpx.TransportError):
                if what():
                    return
            time.sleep(0.05)
        raise AssertionError(f"nothing came in {seconds} s; the log says:\n{self.log.read_text()}")

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200


@contextmanager
def running(command: list[str], url: str, log: Path, environment: dict[str, str]) -> Iterator[Running]:
    """Start a server in a process group of its own, and leave nothing of that group behind."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        yield Running(process, url, log)
    finally:
        # BentoML's launcher puts its workers into groups of their own.
        left = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()


@contextmanager
def serving(production: Production, manifest: str = "", key: str = "", store: str = "", **serve) -> Iterator[Running]:
    """`mergeline.serve.run.serve` on a free port, with some of the params' section `serve` of the test's own."""
    params = {**QUICK, "serve": {**QUICK["serve"], **serve}}
    (production.root / "params.yaml").write_text(yaml.safe_dump(params))
    temporary = production.root / "tmp"
    temporary.mkdir(exist_ok=True)
    with open_listener("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", START, str(production.root), str(port), manifest, store]
    environment = {**os.environ, "TMPDIR": str(temporary), "MERGELINE_SERVE_API_KEY": key}
    with running(command, f"http://127.0.0.1:{port}", production.root / "log", environment) as server:
        yield server


def group_is_empty(group: int, seconds: float = 5) -> bool:
    """Whether all processes of a server are gone, or soon are: one that still imports its libraries ends after that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def journalled(production: Production) -> list[str]:
    """The ids of every prediction in the journal of a server that has ended."""
    folder = production.root / "journal"
    seal_all(folder)
    files = (folder / "predictions").rglob("*.parquet")
    return [key for file in files for key in parquet.read_table(file, columns=["_id"]).column("_id").to_pylist()]
