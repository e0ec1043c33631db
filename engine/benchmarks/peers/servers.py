"""Starts a server for a benchmark, and tells what its processes take."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

LOAD = Path(__file__).with_name("load.py")


class Server:
    """One server process group, from its start to its end."""

    def __init__(
        self,
        name: str,
        command: list[str],
        path: str,
        bodies: Path,
        *,
        folder: Path,
        environment: dict[str, str] | None = None,
        alone_on_core: int | None = None,
    ) -> None:
        self.name, self.path, self.bodies, self.folder = name, path, bodies, folder
        self.port = free_port()
        self._command = [part.replace("PORT", str(self.port)) for part in command]
        self._core = alone_on_core
        if alone_on_core is not None:  # from its start, so that every thread and process of it stays there
            self._command = ["taskset", "--cpu-list", str(alone_on_core), *self._command]
        self._log = (folder / f"{name.replace(' ', '-')}.log").open("wb")
        self._start = time.perf_counter()
        self.process = subprocess.Popen(
            self._command,
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        self.seconds_to_answer = self._first_answer()

    def _first_answer(self) -> float:
        body = self.bodies.read_bytes().splitlines()[0]
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})  # noqa: S310 - our own
        while time.perf_counter() - self._start < 120:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended; see {self._log.name}")
            try:
                with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - our own
                    response.read()
                return time.perf_counter() - self._start
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
        raise SystemExit(f"{self.name} gave no answer; see {self._log.name}")

    @property
    def url(self) -> str:
        """Where it predicts."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def load(
        self, *, seconds: float, connections: int = 8, rate: float = 0, bodies: Path | None = None
    ) -> dict[str, Any]:
        """What the load generator saw, and the processor time that a request took."""
        command = [sys.executable, str(LOAD), "--url", self.url, "--bodies", str(bodies or self.bodies)]
        command += ["--connections", str(connections), "--seconds", str(seconds), "--rate", str(rate)]
        others = sorted(os.sched_getaffinity(0) - {self._core})
        if self._core is not None and others:
            command = ["taskset", "--cpu-list", ",".join(map(str, others)), *command]
        before = self.processor_seconds()
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if told["requests"]:
            told["processor_us"] = round(1e6 * (self.processor_seconds() - before) / told["requests"], 1)
        return told

    def processes(self) -> list[psutil.Process]:
        """The server's processes."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def processor_seconds(self) -> float:
        """Processor time of all processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())

    def memory_mb(self) -> float:
        """PSS of all processes, in megabytes of 10⁶ bytes."""
        return sum(process.memory_full_info().pss for process in self.processes()) / 1e6

    def stop(self) -> None:
        """End it, and everything that it started."""
        processes = self.processes()
        self.process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=20)
        for process in alive:
            process.kill()
        self.process.wait()
        self._log.close()


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
