"""uvicorn's HTTP protocol with bounds on a request's head, and a short way for plain requests to /predict."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import time
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mergeline.serve.asgi import PredictApp

if TYPE_CHECKING:
    from mergeline.serve.tracing import RequestSpan

MAX_HEAD_BYTES = 32_768
MAX_URL_BYTES = 8_192
HEAD_SECONDS = 10.0
FRAMING_BYTES = 8
"""A byte of a chunked body pays for so many that frame it; the smallest chunk takes five."""
MAX_UNREAD_BYTES = 16_000_000
"""Of a body that comes after its answer, for no longer than `HEAD_SECONDS`: what is left unread would reset the
connection, and most clients would see that and not the answer."""
MAX_HEADERS = 256
"""Of one request; each takes up to thirty times the memory of its bytes."""
MAX_PIPELINED, MAX_AHEAD = 100, 2_000
"""Requests that a connection, and all connections together, may send before they have the answer to the first. Each
takes up to 20 kB of memory, and one read brings thousands."""
MAX_CONNECTIONS, SPARE_DESCRIPTORS = 10_000, 100
"""An idle connection takes 17 kB."""
LOOKED_AT = 32
"""Connections of which one is closed for a new one: that whose last prediction is longest ago."""
UNREAD_SECONDS = 60.0
"""How long a caller may leave its answers unread."""

BETWEEN_CONNECTIONS_SECONDS = 1e-6
"""What a worker waits when it has taken a connection, some 60 µs in fact: meanwhile another wakes, and takes the next.
Of many that are opened at once, as by a pool, one worker would take all, and the others stay idle."""
MAX_PLAIN_HEAD = 4_096
KNOWN_HEADS = 256
"""A caller's heads are all the same, or differ in a number that its proxy gives them."""

_PLAIN_HEAD = re.compile(rb"POST /predict HTTP/1\.1(?:\r\n[\w-]+: ?[!-~](?:[ -~]*[!-~])?)+")
_NOT_PLAIN = frozenset(
    {b"content-encoding", b"expect", b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade"}
)

_NOWHERE = cast("list[tuple[bytes, bytes]]", deque[tuple[bytes, bytes]](maxlen=0))
"""Keeps nothing of what is appended to it."""


def take_descriptors() -> None:
    """Take as many as connections may need, where this user's soft limit is lower and the hard one is not."""
    wanted, (soft, hard) = MAX_CONNECTIONS + SPARE_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@lru_cache(1)
def most_connections() -> int:
    """How many connections there may be at once, by the descriptors that this process may have."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if descriptors < 0 else max(1, min(MAX_CONNECTIONS, descriptors - SPARE_DESCRIPTORS))


@lru_cache(KNOWN_HEADS)
def plain_headers(head: bytes) -> dict[bytes, bytes] | None:
    """The headers of a POST to /predict that every parser reads alike; None for any other.

    One content length, no other framing, each header once and on a line of its own, and the connection goes on.
    """
    if not _PLAIN_HEAD.fullmatch(head):
        return None
    lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
    headers = {name.lower(): value.removeprefix(b" ") for name, value in lines}
    if len(headers) < len(lines) or not headers.keys().isdisjoint(_NOT_PLAIN):
        return None
    if headers.get(b"content-type") != b"application/json" or not headers.get(b"content-length", b"").isdigit():
        return None
    return headers if headers.get(b"connection", b"keep-alive").lower() == b"keep-alive" else None


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), a URL that is too long (414) and a head that does not end (408).

    The parser knows no bounds of its own. So whatever a connection sends outside a body is counted until it makes
    progress: a head without an end, trailers, chunk extensions, empty lines, bytes after an upgrade.

    A POST to /predict that came whole in one piece is answered on the spot: the parser's callbacks, a task, a scope and
    messages for it would cost as much as the prediction. It goes the long way, through parser and ASGI, where anything
    about it is not plain.

    Who sends many requests at once is answered in turn with the others, and not without an end: see `MAX_PIPELINED`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = self._in_message = self._progressed = False
        self._outside = self._body = self._unread = self._chunk = self._ahead = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._answered_at = 0.0
        self._met: dict[str, Any] = {}
        self._running: RequestResponseCycle | None = None
        self._app: PredictApp = self.config.app  # type: ignore[assignment]
        self._refusal: tuple[HTTPStatus, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self._make_room()
        if self._app.engine.settings.workers > 1:
            time.sleep(BETWEEN_CONNECTIONS_SECONDS)
        self._start_timer()

    def _make_room(self) -> None:
        """Close a connection that is idle, or this one: the journal and the manifest need descriptors, too."""
        others = (each for each in self.connections if isinstance(each, BoundedProtocol) and each is not self)
        idle = (each for each in others if each._is_idle() and not each.transport.is_closing())
        min(islice(idle, LOOKED_AT), key=lambda each: each._answered_at, default=self).transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        self._stop_unread_timer()
        if self._running is not None:
            self._running.disconnected = True  # uvicorn says so to the last request, which may be another
        self.pipeline.clear()
        self._count_ahead()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The caller says no more, as `nc -N` does: what it has asked is answered, and the connection ends."""
        last = self.cycle
        if last is None or last.response_complete or self._in_message:
            return False
        last.keep_alive = False
        return True

    def pause_writing(self) -> None:
        """The caller does not read its answers: it is waited for, but not for ever."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller reads again."""
        super().resume_writing()
        self._stop_unread_timer()

    def data_received(self, data: bytes) -> None:
        """Answer a plain request at once; parse any other, and count what does not belong to a body."""
        if self._is_idle() and self._is_answered(data):
            return
        self._chunk = len(data)
        self._body, self._progressed = 0, False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._progressed:
            self._outside = 0  # a message began or ended: what is left of this piece is less than one read
        else:
            self._outside = max(0, self._outside + len(data) - (1 + FRAMING_BYTES) * self._body)
        if self._outside > MAX_HEAD_BYTES or (self._in_head and len(self.headers) > MAX_HEADERS):
            what = "headers are" if self._in_head else "trailers, or what frames the body, are"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the {what} too large")
            return
        if self._timer is None and self._is_owed():
            self._start_timer()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = self._in_message = self._progressed = True
        super().on_message_begin()
        if self._met:
            self.scope["state"].update(self._met)
            self._met = {}

    def on_headers_complete(self) -> None:
        """The head is whole, and neither it nor its URL is too large."""
        self._in_head, self._unread = False, 0
        if self._timer is not None:
            self._stop_timer()
        ahead = self.cycle is not None and not self.cycle.response_complete
        if ahead and (len(self.pipeline) >= MAX_PIPELINED or self._app.ahead >= MAX_AHEAD):
            self.transport.close()  # words would be taken for the answer to another request
            raise ValueError("too many requests at once")  # the parser stops
        if len(self.url) > MAX_URL_BYTES:
            self._raise(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long")
        if len(self.headers) > MAX_HEADERS or (
            self._chunk > MAX_HEAD_BYTES
            and sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES
        ):
            self._raise(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
        super().on_headers_complete()
        if ahead:
            self._count_ahead()
        self.headers = _NOWHERE  # trailers are no headers: they must not add an API key, nor fill the memory

    def on_body(self, body: bytes) -> None:
        """Hand a part of a body on."""
        self._body += len(body)
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > MAX_UNREAD_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        """A message is whole."""
        self._in_message, self._progressed = False, True
        if self._timer is not None:
            self._stop_timer()
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle for long: a timer for each answer would cost more than to look again."""
        rest = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if rest > 0:
            self.timeout_keep_alive_task = self.loop.call_later(rest, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _is_idle(self) -> bool:
        """Whether the parser has nothing in hand, and what was asked before has its answer."""
        return not (
            self._in_message
            or self._outside
            or self.pipeline
            or self.flow.write_paused
            or (self.cycle is not None and not self.cycle.response_complete)
        )

    def _is_answered(self, data: bytes) -> bool:
        """Answer a plain request to /predict, if this is one and nothing about it has to wait; no task, no scope."""
        end = data.find(b"\r\n\r\n", 0, MAX_PLAIN_HEAD)
        headers = plain_headers(data[:end]) if end > 0 else None
        body = data[end + 4 :]
        if headers is None or headers[b"content-length"] != b"%d" % len(body):
            return False
        answered = self._app.predict_now(headers, body, self._met)
        if answered is None:
            return False
        answer, span, after = answered
        closing = self._app.engine.draining
        self.transport.write(self._head(len(answer), span, closing=closing) + answer)
        if self._timer is not None:
            self._stop_timer()
        if closing:
            self.transport.close()
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()
        after()
        return True

    def _head(self, length: int, span: RequestSpan | None, *, closing: bool) -> bytes:
        """The head of an answer in JSON."""
        headers, known = self.server_state.default_headers, self._app.begun_head
        if known[0] is not headers:  # uvicorn makes them anew each second
            lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in headers)]
            begun = b"\r\n".join([*lines, b"content-type: application/json", b"content-length: "])
            self._app.begun_head = known = headers, begun
        if span is None and not closing:
            return b"%b%d\r\n\r\n" % (known[1], length)
        more = b"%b: %b\r\n" % span.header if span is not None else b""
        return b"%b%d\r\n%b%b\r\n" % (known[1], length, more, b"connection: close\r\n" if closing else b"")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._count_ahead()
        super()._start_asgi_task(cycle, app)

    def _count_ahead(self) -> None:
        """Keep the sum of all connections right after each change of `pipeline`."""
        self._app.ahead += len(self.pipeline) - self._ahead
        self._ahead = len(self.pipeline)

    def _is_owed(self) -> bool:
        """Whether the caller has begun what it must end: a head, empty lines, a body whose answer is sent."""
        if self._in_message:
            return self._in_head or self.cycle.response_complete
        return not self._progressed

    def _owes_another(self) -> bool:
        """Whether a request that came before the present one has no answer yet."""
        first = self._running
        if first is None or first.response_complete:
            return bool(self.pipeline)
        return bool(self.pipeline) or first is not self.cycle or self._in_head or not self._in_message

    def send_400_response(self, msg: str) -> None:
        """Say in JSON why the request cannot be read, and close."""
        status, text = self._refusal or (HTTPStatus.BAD_REQUEST, msg.rstrip(".").lower())
        self._refuse(status, text)

    def _raise(self, status: HTTPStatus, text: str) -> None:
        """Make the parser stop, which ends in `send_400_response`."""
        self._refusal = (status, text)
        raise ValueError(text)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        if self.transport.is_closing():
            return
        if self._owes_another():
            self.transport.close()  # words would be taken for the answer to another request
            return
        body = json.dumps({"error": text, "hint": "send a shorter and complete request"}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._is_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _is_late(self) -> None:
        self._timer = None
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not come")
        else:
            self.transport.close()
