"""One HTTP connection that is kept alive, with one request at a time on it."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from mergeline.errors import TrafficError

STALE_SECONDS = 1.0
"""A connection that was idle for so long may be closed by the server in the moment of the next request."""


class Reply(NamedTuple):
    """What came back: a status, or the name of what went wrong instead (then the status is 0)."""

    status: int
    body: bytes
    problem: str = ""


class Target(NamedTuple):
    """Where a server answers."""

    host: str
    port: int
    tls: bool
    prefix: str
    authority: str
    key: str = ""

    def request(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST."""
        return (
            self._head("POST", path)
            + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )

    def get(self, path: str) -> bytes:
        """The bytes of a GET."""
        return self._head("GET", path) + b"\r\n"

    def _head(self, method: str, path: str) -> bytes:
        key = f"authorization: Bearer {self.key}\r\n" if self.key else ""
        return f"{method} {self.prefix}{path} HTTP/1.1\r\nhost: {self.authority}\r\n{key}".encode()


def parse_target(url: str, key: str = "") -> Target:
    """The parts of a server's address.

    Raises:
        TrafficError: it is no address of a web server.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TrafficError(f"no address of a server: {url!r}", where="--url", hint="write it as http://127.0.0.1:3000")
    tls = parts.scheme == "https"
    return Target(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"), parts.netloc, key)


class Connection(asyncio.Protocol):
    """Sends a request and waits for its reply; connects again when it must."""

    def __init__(self, target: Target, timeout_seconds: float) -> None:
        self._target, self._timeout = target, timeout_seconds
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._body: list[bytes] = []
        self._received = False
        self._used_at = 0.0

    async def ask(self, content: bytes) -> Reply:
        """Send one request and return what came back; never raises for what the server or the network does."""
        loop = asyncio.get_running_loop()
        stale = self._transport is not None and loop.time() - self._used_at > STALE_SECONDS
        reply = await self._ask_once(content, loop)
        if stale and reply.problem == "closed" and not self._received:
            reply = await self._ask_once(content, loop)
        self._used_at = loop.time()
        return reply

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _ask_once(self, content: bytes, loop: asyncio.AbstractEventLoop) -> Reply:
        if self._transport is None or self._transport.is_closing():
            context = ssl.create_default_context() if self._target.tls else None
            try:
                async with asyncio.timeout(self._timeout):
                    await loop.create_connection(lambda: self, self._target.host, self._target.port, ssl=context)
            except TimeoutError:
                return Reply(0, b"", "timeout")
            except ConnectionRefusedError:
                return Reply(0, b"", "refused")
            except OSError as cause:
                return Reply(0, b"", (cause.strerror or type(cause).__name__).lower())
        transport = self._transport
        if transport is None:
            return Reply(0, b"", "closed")
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._received = [], False
        waiting: asyncio.Future[Reply] = loop.create_future()
        self._waiting = waiting
        timer = loop.call_later(self._timeout, self._give_up, waiting)
        transport.write(content)
        try:
            return await waiting
        finally:
            timer.cancel()
            self._waiting = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands (asyncio calls this)."""
        self._transport = transport  # type: ignore[assignment]  # TCP transports are read and written

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio calls this)."""
        self._received = True
        if self._parser is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish(Reply(0, b"", "not HTTP"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended (asyncio calls this)."""
        self._transport = None
        self._finish(Reply(0, b"", "reset" if exc else "closed"))

    def on_body(self, body: bytes) -> None:
        """A part of the body came (httptools calls this)."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The reply is whole (httptools calls this)."""
        parser = self._parser
        if parser is None:
            return
        if not parser.should_keep_alive():
            self.close()
        self._finish(Reply(parser.get_status_code(), b"".join(self._body)))

    def _give_up(self, waiting: asyncio.Future[Reply]) -> None:
        if not waiting.done():
            waiting.set_result(Reply(0, b"", "timeout"))
            self.close()

    def _finish(self, reply: Reply) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)
