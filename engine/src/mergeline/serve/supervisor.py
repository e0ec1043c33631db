"""Keeps several workers on one socket: starts them, starts again one that dies, and ends them all together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from mergeline.serve.draining import stop_accepting
from mergeline.timing import backoff_seconds

UPDATE_SECONDS = 0.1
SHORT_LIFE_SECONDS = 5.0
"""A worker that dies sooner is started again after a pause, which doubles from time to time."""
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 20.0
"""How long workers may take to end after the time that they go on answering."""


class Worker:
    """One place for a worker process, and when to fill it again."""

    def __init__(self, command: list[str], handle: int) -> None:
        self._command, self._handle = command, handle
        self._metrics = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        self._short_lives = 0
        self._start_at = 0.0
        self._started = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self, now: float) -> None:
        """Start the worker if it is due, and note when it has died; `now` is monotonic."""
        if self.process is not None and (code := self.process.poll()) is not None:
            for gauge in self._metrics.glob(f"gauge_live*_{self.process.pid}.db"):
                gauge.unlink()  # as prometheus_client's mark_process_dead: a dead worker's state is no state
            self.process = None
            self._pause(now, f"a worker ended with code {code}")
        if self.process is None and now >= self._start_at:
            self._started = now
            try:
                self.process = subprocess.Popen(self._command, pass_fds=[self._handle])
            except OSError as cause:  # there is no memory for it, or no number
                self._pause(now, f"a worker cannot be started: {cause}")

    def _pause(self, now: float, why: str) -> None:
        self._short_lives = self._short_lives + 1 if now - self._started < SHORT_LIFE_SECONDS else 0
        pause = 0.0
        if self._short_lives:
            pause = backoff_seconds(self._short_lives - 1, first=1.0, longest=LONGEST_PAUSE_SECONDS)
        self._start_at = now + pause
        with contextlib.suppress(OSError):  # the log's disk is full, or nobody reads it any more
            print(f"{why}; another starts in {pause:g} s", flush=True)  # noqa: T201 - it has no logger


class Supervisor:
    """Ends with the first SIGTERM or Ctrl-C."""

    def __init__(self, handle: int, workers: int, drain_seconds: float) -> None:
        command = [sys.executable, "-P", "-m", "mergeline.serve.worker", str(handle)]
        self._workers = [Worker(command, handle) for _ in range(workers)]
        self._listener, self._drain_seconds = socket.socket(fileno=handle), drain_seconds
        self._signal = 0

    def run(self) -> None:
        """Tend the workers until a signal comes, then pass it on and wait for them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        while not self._signal:
            for worker in self._workers:
                worker.tend(time.monotonic())
            time.sleep(UPDATE_SECONDS)
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.send_signal(self._signal)
        if self._signal == signal.SIGTERM:
            time.sleep(self._drain_seconds)
        stop_accepting(self._listener)
        self._listener.close()  # the workers have it; with the last of them the port closes
        end = time.monotonic() + PATIENCE_SECONDS
        for process in running:
            try:
                process.wait(timeout=max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signal = self._signal or number


def main(handle: int, workers: int, drain_seconds: float) -> None:
    """Serve on the listening socket `handle` with so many workers."""
    os.environ["MERGELINE_SUPERVISED"] = "1"
    try:
        Supervisor(handle, workers, drain_seconds).run()
    finally:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
