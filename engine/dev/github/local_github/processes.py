"""Starts the servers that the local GitHub is made of; each ends with the block, or with this process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
START_SECONDS = 30


class ServerError(Exception):
    """A server of the local GitHub did not start, or answered what it must not."""


@contextlib.contextmanager
def kept(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own until the block ends; its words go to `log`."""
    with log.open("ab") as words:
        process = subprocess.Popen(
            [sys.executable, "-SE", str(KEEPER), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if environment is None else environment),
            start_new_session=True,  # Ctrl-C is for this process, which then ends the others in order
        )
    try:
        yield process
    finally:
        close(process)


def close(process: subprocess.Popen[bytes]) -> None:
    """End a program that watches its standard input, and wait for it."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when somebody listens on the port.

    Raises:
        ServerError: the program ended, or took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ServerError(f"the server on port {port} did not start; its last words:\n{log.read_text()[-2000:]}")


def direct_opener() -> urllib.request.OpenerDirector:
    """Opens addresses on this machine without asking a proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
