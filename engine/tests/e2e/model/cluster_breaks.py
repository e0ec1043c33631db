"""Trains on a cluster that breaks meanwhile; run where Dask or Ray is, which the engine does not need.

Prints, as JSON: the model's digest here, and there while a node is killed in the midst; the error of a head that hangs,
and after how many seconds it came; the digest when the head goes on; and what is left in the folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
from trained_on_cluster import RayCluster

from local_github.processes import kept, wait_until_open
from mergeline.errors import CodeError
from mergeline.model import backend as watched
from mergeline.model.artifact import folder_digest
from toy_data import train_toy

SELF = Path(__file__).resolve()
LOST_SECONDS = 15
FITS = 4 * 5 + 1
"""Of one search: on a few rows here, on these there, and then on all of them there."""


class DaskNodes:
    """A scheduler and two workers, each a process of its own that nobody starts again."""

    def __init__(self, host: str, port: int, stack: ExitStack) -> None:
        self.address, self.stack, self.log = f"tcp://{host}:{port}", stack, Path("dask.log").resolve()
        self.head = self._start("scheduler", f"--host={host}", f"--port={port}", "--no-dashboard")
        wait_until_open(port, self.head, self.log)
        for _ in range(2):
            self._start("worker", self.address, "--no-nanny", "--nthreads=1")
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        return self.stack.enter_context(kept(command, self.log))

    def kill_a_node(self) -> None:
        """The one that holds the most: joblib puts the rows on one worker alone."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            held = client.has_what()
            numbers = client.run(os.getpid)
        os.kill(numbers[max(held, key=lambda name: len(held[name]))], signal.SIGKILL)


class RayNodes(RayCluster):
    def __init__(self, host: str, port: int, stack: ExitStack) -> None:
        super().__init__(host, port, stack)
        self.add_workers()
        self.wait_until_ready()
        self.head = self.processes[0]

    def kill_a_node(self) -> None:
        send(signal.SIGKILL, self.processes[-1])


def send(number: int, process: subprocess.Popen[bytes]) -> None:
    """To a program and all that it started, but not to what keeps it."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.send_signal(number)


def train(root: Path, backend: str) -> str:
    """The model's digest, or the error."""
    watched.LOST_SECONDS = LOST_SECONDS
    arguments = {"seconds": 0.3, "folder": str(root / "fitted")}
    model = {"factory": "toy.searches:searched_slowly", "arguments": arguments, "threshold": 0.5, "backend": backend}
    try:
        return folder_digest(train_toy(root, model=model))
    except CodeError as error:
        return str(error)


def main(root: Path, backend: str) -> None:
    kind, _, address = backend.partition("://")
    host, _, port = address.partition(":")
    (root / "fitted").mkdir()
    os.chdir(root)

    def trained(breaks: Callable[[], None] = lambda: None) -> str:
        """In a process of its own, which must end; `breaks` is called in the midst of the search."""
        before = len(os.listdir(root / "fitted"))

        def wait() -> None:
            while len(os.listdir(root / "fitted")) < before + 2 * FITS + 6:
                time.sleep(0.05)
            breaks()

        threading.Thread(target=wait, daemon=True).start()
        command = [sys.executable, str(SELF), str(root), backend, "alone"]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=150).stdout.strip()

    with ExitStack() as stack:
        cluster = {"dask": DaskNodes, "ray": RayNodes}[kind](host, int(port), stack)
        told: dict[str, object] = {"here": train(root, "threads"), "killed": trained(cluster.kill_a_node)}
        stopped: list[float] = []

        def stop() -> None:
            send(signal.SIGSTOP, cluster.head)
            stopped.append(time.monotonic())

        told["hung"] = trained(stop)
        told["seconds"] = time.monotonic() - stopped[0]
        told["kept"] = folder_digest(root / "model")
        send(signal.SIGCONT, cluster.head)
        told["again"] = trained()
    told["left"] = sorted(path.name for path in root.iterdir())
    sys.stdout.write("\n" + json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.alarm(450)  # what hangs ends, and the cluster's processes with it
    if sys.argv[3:] == ["alone"]:
        sys.stdout.write(train(Path(sys.argv[1]), sys.argv[2]) + "\n")
    else:
        main(Path(sys.argv[1]), sys.argv[2])
