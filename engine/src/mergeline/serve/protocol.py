"""uvicorn's HTTP protocol with bounds on a request's head, and a short way for plain requests to /predict."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from http import HTTPStatus
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
MAX_PIPELINED = 100
"""Requests that a connection may send before it has the answer to the first. Each takes 20 kB of memory, and one read
brings thousands."""
MAX_AT_ONCE = 32
"""Predictions that one read may be answered on the spot: others wait meanwhile."""
UNREAD_SECONDS = 60.0
"""How long a caller may leave its answers unread."""


_NOWHERE = cast("list[tuple[bytes, bytes]]", deque[tuple[bytes, bytes]](maxlen=0))
"""Keeps nothing of what is appended to it."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), a URL that is too long (414) and a head that does not end (408).

    The parser knows no bounds of its own. So whatever a connection sends outside a body is counted until it makes
    progress: a head without an end, trailers, chunk extensions, empty lines, bytes after an upgrade.

    A small POST to /predict that came in one piece is answered on the spot: a task, a scope and messages for it would
    cost as much as the prediction. It is held back until it is whole, and sent the long way, through ASGI, where
    anything about it is not plain.

    Who sends many requests at once is answered in turn with the others, and not without an end: see `MAX_PIPELINED`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = self._in_message = self._progressed = False
        self._outside = self._body = self._unread = self._chunk = self._at_once = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._held: list[bytes] | None = None
        self._running: RequestResponseCycle | None = None
        self._app: PredictApp = self.config.app  # type: ignore[assignment]
        self._refusal: tuple[HTTPStatus, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        self._stop_unread_timer()
        if self._running is not None:
            self._running.disconnected = True  # uvicorn says so to the last request, which may be another
        super().connection_lost(exc)

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
        """Parse, and count what does not belong to a body."""
        self._chunk = len(data)
        self._body, self._at_once, self._progressed = 0, 0, False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._held is not None:
            self._release()
        if self._progressed:
            self._outside = 0  # a message began or ended: what is left of this piece is less than one read
        else:
            self._outside = max(0, self._outside + len(data) - (1 + FRAMING_BYTES) * self._body)
            if self._outside > MAX_HEAD_BYTES:
                what = "headers are" if self._in_head else "trailers, or what frames the body, are"
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the {what} too large")
                return
        if self._timer is None and self._is_owed():
            self._start_timer()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = self._in_message = self._progressed = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole, and neither it nor its URL is too large."""
        self._in_head, self._unread = False, 0
        if self._timer is not None:
            self._stop_timer()
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.close()  # words would be taken for the answer to another request
            raise ValueError("too many requests at once")  # the parser stops
        if len(self.url) > MAX_URL_BYTES:
            self._raise(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long")
        if (
            self._chunk > MAX_HEAD_BYTES
            and sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES
        ):
            self._raise(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
        if self._is_plain():
            self._held = []
        else:
            super().on_headers_complete()
        self.headers = _NOWHERE  # trailers are no headers: they must not add an API key, nor fill the memory

    def on_body(self, body: bytes) -> None:
        """Keep a body that is expected whole, or hand its part on."""
        self._body += len(body)
        if self._held is not None:
            self._held.append(body)
            return
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > MAX_UNREAD_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        """Answer a held request at once, if that can be done."""
        self._in_message, self._progressed = False, True
        if self._timer is not None:
            self._stop_timer()
        if self._held is None:
            super().on_message_complete()
            return
        self._at_once += 1
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        answered = self._app.predict_now(cast("dict[str, Any]", self.scope), body)
        if answered is None:
            self._release()
            super().on_message_complete()
            return
        self._held = None
        answer, span, after = answered
        closing = self._app.engine.draining
        self.transport.write(self._head(len(answer), span, closing=closing) + answer)
        if closing:
            self.transport.close()
        self.on_response_complete()
        after()

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
        super()._start_asgi_task(cycle, app)

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

    def _is_plain(self) -> bool:
        """Whether this may be answered without a task and a scope of its own: a small POST to /predict, and no other.

        What was asked before on this connection must have its answer, or the answers would change places.
        """
        return (
            self.url == b"/predict"
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and not self.pipeline
            and self._at_once < MAX_AT_ONCE
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )

    def _release(self) -> None:
        """Send the held request the long way."""
        held, self._held = self._held, None
        super().on_headers_complete()
        for body in held or ():
            super().on_body(body)

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
