"""Measures the server against its peers, in turn, with journal, router and metrics on.

    python benchmarks/serving.py [--seconds 4] [--rounds 3] [--day 600] [--only ROW ...]

Everybody serves one HistGradientBoosting pipeline on 30 named columns with one worker: `mlflow models serve` from the
locked environment, FastAPI with pandas and scikit-learn in an environment of its own, and a bare ASGI function on
uvicorn that runs our compiled model. The load generator is a process of its own with 8 connections. Rounds alternate
between the servers and medians are compared. With --day, 10 million requests a day at their daily peak (347 a second)
are held for so many seconds on one of the cores, with two reloads and a rollback inside. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).with_name("peers")))

from mergeline.image.build import find_uv
from model import Project, write_bodies
from servers import Server

PEERS = Path(__file__).with_name("peers")
PEAK_RATE = 3 * 10_000_000 / 86_400
SHADOW = {"strategy": "shadow", "steps": [], "analysis": []}
STEADY_RATE = 50
"""Requests a second: half of what scikit-learn scores of this pipeline."""
ROWS = ("single", "hundred", "shadow", "beside", "journal", "traces", "memory", "start", "workers", "day")


class Bench:
    """The project, the bodies, and the servers that run."""

    def __init__(self, folder: Path, seconds: float, rounds: int) -> None:
        self.folder, self.seconds, self.rounds = folder, seconds, rounds
        self.project = Project(folder)
        self.releases = [self.project.release(seed, seed) for seed in (1, 2)]
        self.one, self.hundred = folder / "one.jsonl", folder / "hundred.jsonl"
        self.mlflow_one, self.mlflow_hundred = folder / "mlflow-one.jsonl", folder / "mlflow-hundred.jsonl"
        write_bodies(self.one, 1)
        write_bodies(self.hundred, 100, lines=50)
        write_bodies(self.mlflow_one, 1, wrap="dataframe_records")
        write_bodies(self.mlflow_hundred, 100, wrap="dataframe_records", lines=50)
        self.failures: list[str] = []
        self.running: list[Server] = []

    def ours(
        self,
        name: str = "mergeline",
        *,
        core: int | None = None,
        workers: int = 1,
        environment: dict[str, str] | None = None,
        **candidate: Any,
    ) -> Server:
        """Our server in a folder of its own, with the command that users type."""
        folder, store = self._deployed(**candidate)
        command = [str(Path(sys.executable).with_name("mergeline")), "serve", "--port", "PORT", "--store", store]
        command += ["--workers", str(workers)]
        return self._started(
            Server(name, command, "/predict", self.one, folder=folder, alone_on_core=core, environment=environment)
        )

    def without_journal(self) -> Server:
        """The same, with its journal taken out."""
        folder, store = self._deployed()
        command = [sys.executable, str(PEERS / "without_journal.py"), store, "PORT"]
        return self._started(Server("without journal", command, "/predict", self.one, folder=folder))

    def _deployed(self, **candidate: Any) -> tuple[Path, str]:
        """A folder to serve from, and the store."""
        folder = Path(tempfile.mkdtemp(prefix="ours-", dir=self.folder))
        self.project.deploy(folder, self.releases[0], **candidate)
        return folder, str(self.folder / "store")

    def mlflow(self) -> Server:
        """MLflow's own scoring server."""
        import mlflow

        place = self.folder / "mlflow-model"
        if not place.exists():
            mlflow.sklearn.save_model(
                self.project.pipeline,
                place,
                pyfunc_predict_fn="predict_proba",
                pip_requirements=[],
                serialization_format="cloudpickle",
            )
        command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", str(place), "-p", "PORT"]
        command += ["-h", "127.0.0.1", "--env-manager", "local", "--workers", "1"]
        environment = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return self._started(
            Server("mlflow", command, "/invocations", self.mlflow_one, folder=self.folder, environment=environment)
        )

    def fastapi(self) -> Server:
        """FastAPI in an environment of its own."""
        needs = ["fastapi", "uvicorn[standard]", "joblib"]
        needs += [f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "numpy", "scipy")]
        command = [find_uv(), "run", "--isolated", "--no-project", "--python", sys.executable]
        command += [part for need in needs for part in ("--with", need)]
        command += ["python", str(PEERS / "fastapi_pandas.py"), str(self.folder / "pipeline.joblib"), "PORT"]
        subprocess.run([*command[:-3], "-c", "import fastapi"], check=True, capture_output=True)  # downloads once
        return self._started(Server("fastapi", command, "/predict", self.one, folder=self.folder))

    def raw(self) -> Server:
        """The floor."""
        command = [sys.executable, str(PEERS / "raw_asgi.py"), str(self.folder / "model-1"), "PORT"]
        return self._started(Server("raw asgi", command, "/predict", self.one, folder=self.folder))

    def _started(self, server: Server) -> Server:
        self.running.append(server)
        return server

    def stop(self) -> None:
        """End every server that runs."""
        while self.running:
            self.running.pop().stop()

    def in_turn(self, servers: Iterable[tuple[Server, Path]], **load: Any) -> dict[str, dict[str, Any]]:
        """Medians over the rounds, by server."""
        told: dict[str, list[dict[str, Any]]] = {}
        for number in range(self.rounds + 1):
            for server, bodies in servers:
                found = server.load(seconds=self.seconds if number else 1.5, bodies=bodies, **load)
                if found["failed"]:
                    raise SystemExit(f"{server.name}: {found}")
                if number:  # the first round warms up
                    told.setdefault(server.name, []).append(found)
        return {
            name: {
                "rate": statistics.median(found["rate"] for found in all_found),
                "p99": statistics.median(found["milliseconds"]["p99"] for found in all_found),
                "processor_us": statistics.median(found["processor_us"] for found in all_found),
            }
            for name, all_found in told.items()
        }

    def judge(self, what: str, value: float, target: float, unit: str = "", *, most: bool = False) -> None:
        """A line that says whether a target was met."""
        met = value < target if most else value >= target
        if not met:
            self.failures.append(what)
        bound = f"{'under' if most else 'at least'} {target:g}{unit}"
        print(f"  {'met   ' if met else 'MISSED'} {what}: {value:.3g}{unit} ({bound})", flush=True)


def single(bench: Bench) -> None:
    """One record a request, 8 connections, against three peers; then the latency at half the top rate."""
    servers = [bench.ours(), bench.raw(), bench.fastapi(), bench.mlflow()]
    bodies = [bench.one, bench.one, bench.one, bench.mlflow_one]
    found = bench.in_turn(list(zip(servers, bodies, strict=True)))
    print_table("one record, 8 connections", found)
    ours = found["mergeline"]["rate"]
    bench.judge("times `mlflow models serve`", ours / found["mlflow"]["rate"], 110)
    bench.judge("times FastAPI + pandas + scikit-learn", ours / found["fastapi"]["rate"], 75)
    bench.judge("of raw ASGI with the same compiled model", ours / found["raw asgi"]["rate"], 0.8)
    half = [servers[0].load(seconds=3 * bench.seconds, rate=ours / 2) for _ in range(bench.rounds)]
    p99 = statistics.median(told["milliseconds"]["p99"] for told in half)
    print(f"at half its top rate ({ours / 2:.0f} a second): {half[-1]['milliseconds']}, failed {half[-1]['failed']}")
    bench.judge("p99 at half its top rate", p99, 4, " ms", most=True)


def hundred(bench: Bench) -> None:
    """A hundred records a request, against MLflow."""
    servers = [bench.ours(), bench.raw(), bench.mlflow()]
    found = bench.in_turn(list(zip(servers, [bench.hundred, bench.hundred, bench.mlflow_hundred], strict=True)))
    print_table("100 records, 8 connections", found)
    bench.judge("times mlflow at 100 records", found["mergeline"]["rate"] / found["mlflow"]["rate"], 16)


def shadow(bench: Bench) -> None:
    """With and without a candidate that scores every request beside."""
    plain = bench.ours("without shadow")
    shadowed = bench.ours("with shadow", candidate=bench.releases[1], rollout=SHADOW)
    wait_for(shadowed, lambda status: (status["rollout"] or {}).get("phase") == "progressing")
    found = bench.in_turn([(plain, bench.one), (shadowed, bench.one)])
    counts = status_of(shadowed)["counts"]
    if not counts["shadow"]["records"]:
        raise SystemExit("the candidate scored nothing beside")
    print_table("one record, 8 connections", found)
    print(f"  scored beside: {counts['shadow']['records']:,} records; dropped: {counts['shadow_dropped']:,}")
    bench.judge(
        "of its throughput with shadow on every request",
        found["with shadow"]["rate"] / found["without shadow"]["rate"],
        0.45,
    )


def beside(bench: Bench) -> None:
    """Alone, and with a candidate beside that scikit-learn serves in a process of its own; at a steady rate."""
    alone = bench.ours("alone")
    candidate = bench.project.release(4, 4, compiled=False)
    both = bench.ours("beside", candidate=candidate, rollout=SHADOW)
    wait_for(both, lambda status: (status["rollout"] or {}).get("phase") == "progressing")
    found = bench.in_turn([(alone, bench.one), (both, bench.one)], rate=STEADY_RATE)
    counts = status_of(both)["counts"]
    if not counts["shadow"]["records"]:
        raise SystemExit("the candidate scored nothing beside")
    print_table(f"one record, {STEADY_RATE} a second", found)
    print(f"  scored beside: {counts['shadow']['records']:,} records; dropped: {counts['shadow_dropped']:,}")
    print(f"  memory {alone.memory_mb():.0f} MB alone, {both.memory_mb():.0f} MB beside")
    bench.judge("p99 beside a model that scikit-learn serves", found["beside"]["p99"], 10, " ms", most=True)


def journal(bench: Bench) -> None:
    """With the journal, and with it taken out."""
    written, silent = bench.ours("with journal"), bench.without_journal()
    for title, bodies in (("one record, 8 connections", bench.one), ("100 records, 8 connections", bench.hundred)):
        found = bench.in_turn([(written, bodies), (silent, bodies)])
        print_table(title, found)
        if bodies == bench.one:
            share = found["with journal"]["rate"] / found["without journal"]["rate"]
            bench.judge("of its throughput with the journal on", share, 0.9)
    kept = status_of(written)["journal"]["predictions"]
    print(f"  journal: {kept}; without: {status_of(silent)['journal']['predictions']}")


def traces(bench: Bench) -> None:
    """Without a collector, with one and every tenth request sampled, and every request."""
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    sampler = {**to, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    servers = [bench.ours("off"), bench.ours("10 %", environment=sampler), bench.ours("100 %", environment=to)]
    found = bench.in_turn([(server, bench.one) for server in servers])
    collector.shutdown()
    print_table("one record, 8 connections", found)
    print(f"  {Collector.taken:,} bytes of spans came")
    for name, target in (("10 %", 0.95), ("100 %", 0.5)):
        bench.judge(f"of its throughput with traces of {name}", found[name]["rate"] / found["off"]["rate"], target)


class Collector(BaseHTTPRequestHandler):
    """Takes spans, and counts their bytes."""

    taken = 0

    def do_POST(self) -> None:
        """Take one batch."""
        Collector.taken += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def memory(bench: Bench) -> None:
    """PSS of all processes of the server after load, and of the peers."""
    servers = [(bench.ours(), bench.one), (bench.fastapi(), bench.one), (bench.mlflow(), bench.mlflow_one)]
    for server, bodies in servers:
        server.load(seconds=bench.seconds, bodies=bodies)
        processes = len(server.processes())
        print(f"  {server.name:16} {server.memory_mb():6.1f} MB in {processes} process{'es' if processes > 1 else ''}")
    bench.judge("memory of the whole server", servers[0][0].memory_mb(), 250, " MB", most=True)


def start(bench: Bench) -> None:
    """From the command to the first answer; the model is fetched from the store each time."""
    found: dict[str, list[float]] = {}
    for _ in range(bench.rounds):
        for make in (bench.ours, bench.fastapi, bench.mlflow):
            server = make()
            found.setdefault(server.name, []).append(server.seconds_to_answer)
            bench.stop()
    for name, seconds in found.items():
        print(f"  {name:16} {statistics.median(seconds):5.1f} s")
    bench.judge("from start to first answer", statistics.median(found["mergeline"]), 5, " s", most=True)


def workers(bench: Bench) -> None:
    """One worker and two, with 100 records a request: then the load generator takes little of two cores."""
    servers = [bench.ours("one worker"), bench.ours("two workers", workers=2)]
    found = bench.in_turn([(server, bench.hundred) for server in servers], connections=16)
    print_table("100 records, 16 connections", found)
    bench.judge("times one worker with two", found["two workers"]["rate"] / found["one worker"]["rate"], 1.7)


def day(bench: Bench, seconds: float) -> None:
    """The peak of 10 million requests a day on one core, with two reloads and a rollback inside."""
    first, second, third = *bench.releases, bench.project.release(3, 3)
    server = bench.ours(core=0)
    changes = [(0.25, second), (0.5, third), (0.75, second)]
    served: list[int] = []

    def change() -> None:
        start = time.monotonic()
        for share, release in changes:
            time.sleep(max(0.0, share * seconds - (time.monotonic() - start)))
            bench.project.deploy(server.folder, release)
            wait_for(server, lambda status, wanted=release: status["stable"]["digest"] == wanted.digest)
            served.append(release.version)

    thread = threading.Thread(target=change)
    thread.start()
    told = server.load(seconds=seconds, rate=PEAK_RATE, connections=16)
    thread.join()
    print(f"{PEAK_RATE:.0f} requests a second for {seconds:g} s on one core: {told}")
    kept = status_of(server)["journal"]["predictions"]
    print(f"  served version {first.version}, then {served}; journal: {kept}; memory {server.memory_mb():.0f} MB")
    planned = int(seconds * PEAK_RATE)
    bench.judge("requests that failed", told["failed"] + planned - told["requests"], 1, most=True)
    bench.judge("of its answers are in the journal", (kept["written"] - 1) / told["requests"], 1)  # one at its start
    bench.judge("reloads and rollbacks inside", len(served), len(changes))


def status_of(server: Server) -> dict[str, Any]:
    """What GET /status says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/status", timeout=30) as response:
        found: dict[str, Any] = json.load(response)
    return found


def wait_for(server: Server, what: Callable[[dict[str, Any]], bool]) -> None:
    """Ask for the status until that says what is wanted."""
    end = time.monotonic() + 60
    while not what(status_of(server)):
        if time.monotonic() > end:
            raise SystemExit(f"{server.name} never got there: {status_of(server)}")
        time.sleep(0.2)


def print_table(title: str, found: dict[str, dict[str, Any]]) -> None:
    """The medians."""
    print(f"{title}:")
    for name, median in found.items():
        print(
            f"  {name:16} {median['rate']:9.1f} a second   p99 {median['p99']:8.2f} ms   "
            f"{median['processor_us']:9.1f} µs of processor time a request"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn; medians are shown")
    parser.add_argument("--day", type=float, default=0, help="seconds of the daily peak; 0 leaves it out")
    parser.add_argument("--only", nargs="*", choices=ROWS, help="some of the rows")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mergeline-bench-") as folder:
        bench = Bench(Path(folder), given.seconds, given.rounds)
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", flush=True)
        rows: dict[str, Callable[[], None]] = {
            "single": lambda: single(bench),
            "hundred": lambda: hundred(bench),
            "shadow": lambda: shadow(bench),
            "beside": lambda: beside(bench),
            "journal": lambda: journal(bench),
            "traces": lambda: traces(bench),
            "memory": lambda: memory(bench),
            "start": lambda: start(bench),
            "workers": lambda: workers(bench),
        }
        if given.day:
            rows["day"] = lambda: day(bench, given.day)
        for name, row in rows.items():
            if not given.only or name in given.only:
                try:
                    row()
                finally:
                    bench.stop()
    return 1 if bench.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
