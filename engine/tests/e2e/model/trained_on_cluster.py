"""Trains models here and on a cluster of two workers; run where Dask or Ray is, which the engine does not need.

Prints, as JSON: the models' digests, here and there; how many tasks or actors the workers ran; and the errors of
clusters that are not ready.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from local_github.processes import free_port, kept
from mergeline.errors import CodeError
from mergeline.model.artifact import folder_digest
from toy_data import train_toy

FACTORIES = {  # Ray starts a process for each, seconds each
    "dask": ("searched_by_chance", "searched", "unseeded_forest"),
    "ray": ("searched_by_chance", "unseeded_forest"),
}


class DaskCluster:
    def __init__(self, host: str, port: int, stack: ExitStack) -> None:
        from distributed import LocalCluster

        self.cluster = stack.enter_context(
            LocalCluster(n_workers=0, threads_per_worker=1, host=host, scheduler_port=port, dashboard_address=None)
        )

    def add_workers(self) -> None:
        self.cluster.scale(2)

    def wait_until_ready(self) -> None:
        while len(self.cluster.scheduler.workers) < len(self.cluster.worker_spec):
            time.sleep(0.1)

    def worked(self) -> int:
        return sum(each[1:3] == ("processing", "memory") for each in self.cluster.scheduler.transition_log)

    def change_numpy(self) -> None:
        from distributed import Client

        with Client(self.cluster, set_as_default=False) as client:
            client.run(_change_numpy)


def _change_numpy() -> None:
    import importlib.metadata

    known = importlib.metadata.version
    importlib.metadata.version = lambda name: "0.0.1" if name == "numpy" else known(name)


class RayCluster:
    """A head without a CPU, and nodes with one each; each has an address of its own, as if on its own machine."""

    def __init__(self, host: str, port: int, stack: ExitStack) -> None:
        self.stack = stack
        # Ray's sockets are below this folder, and a socket's path has at most 107 bytes: pytest's own is too long.
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray.", ignore_cleanup_errors=True)))
        self.logs: list[Path] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.gcs = f"{host}:{free_port()}"
        head = ["--head", f"--port={self.gcs.partition(':')[2]}", f"--ray-client-server-port={port}"]
        self._start(*head, "--include-dashboard=false", cpus=0)

    def add_workers(self) -> None:
        for _ in range(2):
            self._start(f"--address={self.gcs}", cpus=1)

    def _start(self, *options: str, cpus: int, **environment: str) -> None:
        number = len(self.logs) + 1
        self.logs.append(self.folder / f"{number}.log")
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options, f"--num-cpus={cpus}",
            f"--node-ip-address=127.0.0.{number + 1}", f"--temp-dir={self.folder / str(number)}",
            f"--object-store-memory={2**27}", f"--dashboard-agent-listen-port={free_port()}",
        ]  # fmt: skip
        self.processes.append(self.stack.enter_context(kept(command, self.logs[-1], {**os.environ, **environment})))

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        for log in self.logs:
            while "Ray runtime started" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)

    def worked(self) -> int:
        """How many actors there were, if both nodes had some."""
        from ray._private.state import GlobalState
        from ray._raylet import GcsClientOptions

        state = GlobalState()
        state._initialize_global_state(
            GcsClientOptions.create(self.gcs, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
        )
        by_address = Counter(actor["Address"]["IPAddress"] for actor in state.actor_table(None).values())
        assert set(by_address) == {"127.0.0.3", "127.0.0.4"}, by_address
        return by_address.total()

    def change_numpy(self) -> None:
        found_first = self.folder / "found-first"
        (found_first / "numpy-0.0.1.dist-info").mkdir(parents=True)
        (found_first / "numpy-0.0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.0.1\n")
        path = f"{found_first}{os.pathsep}{os.environ['PYTHONPATH']}"
        self._start(f"--address={self.gcs}", cpus=1, PYTHONPATH=path)


def main(root: Path, backend: str, nobody: str) -> None:
    kind, _, address = backend.partition("://")
    host, _, port = address.partition(":")

    def digests(where: str) -> list[str]:
        models = ({"factory": f"toy.searches:{factory}", "backend": where} for factory in FACTORIES[kind])
        return [folder_digest(train_toy(root, model=model)) for model in models]

    with ExitStack() as stack:
        cluster = {"dask": DaskCluster, "ray": RayCluster}[kind](host, int(port), stack)
        errors = [refusal(root, nobody)]
        cluster.wait_until_ready()
        errors.append(refusal(root, backend))
        cluster.add_workers()
        here = digests("threads")
        cluster.wait_until_ready()
        there, worked = digests(backend), cluster.worked()
        errors.append(refusal(root, backend, factory="toy.searches:tempered"))
        cluster.change_numpy()
        cluster.wait_until_ready()
        errors.append(refusal(root, backend))
    sys.stdout.write("\n" + json.dumps({"here": here, "there": there, "worked": worked, "errors": errors}))


def refusal(root: Path, backend: str, **model: str) -> str:
    """The error of training there, which must come in time."""
    started = time.monotonic()
    try:
        train_toy(root, model={"backend": backend, **model})
    except CodeError as error:
        return error.what if time.monotonic() - started < 60 else "too late"
    return "trained"


if __name__ == "__main__":
    signal.alarm(300)  # what hangs ends, and the cluster's processes with it
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
