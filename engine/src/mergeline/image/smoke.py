"""Runs an image as production would, with nothing that it may write but /tmp, and predicts once.

The repository is mounted read-only; the answer must come from the model that deploy/manifest.yaml names.
"""

from __future__ import annotations

import json
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mergeline.errors import MergelineError, ToolError
from mergeline.fetch import FetchError, fetch
from mergeline.home import Home
from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
from mergeline.process import run_program
from mergeline.serve.container import MODEL_VARIABLE

START_SECONDS = 90.0
PORT = 3000
_MOST = 4 * 2**20
NOBODY = "65534:65534"
"""Neither the image's own user nor root: an image that needs either is told here."""


def smoke(image: str) -> dict[str, Any]:
    """Start the image with docker, predict once with the model of this home, and stop it, however that ends.

    Raises:
        ToolError: docker fails, the server does not start, or another model answers.
    """
    home = Home.at(Path.cwd().resolve())
    stable = read_manifest(home.folder / MANIFEST_FILE).spec.stable
    container = _call(*run_command(image, home.root, home.model))
    try:
        url = f"http://{_call('docker', 'port', container, str(PORT)).splitlines()[0]}"
        return predict_once(url, stable.digest if stable else None)
    except MergelineError:
        sys.stderr.write(_call("docker", "logs", "--tail", "50", container) + "\n")
        raise
    finally:
        _call("docker", "rm", "--force", container)


def run_command(image: str, root: Path, model: str = "") -> list[str]:
    """The docker command that starts the image with as little as it needs; of several models it serves one."""
    limits = ["--read-only", "--tmpfs", "/tmp", "--user", NOBODY, "--cap-drop", "ALL"]  # noqa: S108 - inside the image
    limits += ["--security-opt", "no-new-privileges", "--memory", "1g", "--pids-limit", "256"]
    mounts = [
        part
        for name in ("deploy", "models", "store", "params.yaml")
        if (root / name).exists()
        for part in ("--volume", f"{root / name}:/srv/mergeline/{name}:ro")
    ]
    chosen = ["--env", f"{MODEL_VARIABLE}={model}"] if model else []
    return ["docker", "run", "--detach", *limits, *mounts, *chosen, "--publish", f"127.0.0.1::{PORT}", image]


def predict_once(url: str, digest: str | None, *, start_seconds: float = START_SECONDS) -> dict[str, Any]:
    """Wait for the server at `url`, ask it about its own example record, and check who answers.

    Args:
        url: the server's address.
        digest: the model that must answer; None where the manifest names none, and then being alive is enough.
        start_seconds: how long it may take to start.

    Raises:
        ToolError: it does not start, refuses its own example, or another model answers.
    """
    _wait(f"{url}/{'readyz' if digest else 'livez'}", start_seconds)
    if digest is None:
        return {}
    record = _json(f"{url}/openapi.json")["components"]["schemas"]["Record"]["examples"][0]
    answer: dict[str, Any] = _json(f"{url}/predict", json.dumps(record).encode())
    if answer.get("digest") != digest:
        raise ToolError(
            f"the model {answer.get('digest')} answered, the manifest names {digest}",
            where=f"{url}/predict",
            hint="see why in /status of the server",
        )
    return answer


def _wait(url: str, seconds: float) -> None:
    deadline, told = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            status = fetch(url, seconds=5, max_bytes=_MOST).status
            if status == HTTPStatus.OK:
                return
            told = f"status {status}"
        except FetchError as error:
            told = error.what
        time.sleep(0.2)
    raise ToolError(f"not ready after {seconds:g} s: {told}", where=url, hint="read what the server said, above")


def _json(url: str, body: bytes | None = None) -> Any:
    try:
        answer = fetch(url, seconds=30, max_bytes=_MOST, headers={"Content-Type": "application/json"}, body=body)
        if answer.status == HTTPStatus.OK:
            return json.loads(answer.body)
    except (FetchError, ValueError) as cause:
        what = getattr(cause, "what", str(cause))
        raise ToolError(what, where=url, hint="read what the server said, above") from cause
    words = answer.body[:2000].decode(errors="replace")
    raise ToolError(f"status {answer.status}: {words}", where=url, hint="see why in /status of the server")


def _call(*command: str) -> str:
    done = run_program(*command, hint="run it yourself to see more")
    return (done.stdout + (done.stderr if command[1] == "logs" else "")).strip()
