"""Answers predictions, in either protocol, and feedback as plain ASGI, in front of every framework."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from mergeline.errors import MergelineError
from mergeline.requests.problems import RequestError
from mergeline.serve.inference_protocol import INFER, PREFIX, check_name, model_of, read_inference, write_inference

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mergeline.serve.engine import Engine, Reply
    from mergeline.serve.rollout.counts import Role
    from mergeline.serve.tracing import RequestSpan

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready"})
STATUS_HEADERS = {
    401: (b"www-authenticate", b"Bearer"),
    405: (b"allow", b"POST"),
    408: (b"connection", b"close"),  # the rest of the body is not waited for
    429: (b"retry-after", b"1"),  # a full queue is soon shorter
    503: (b"retry-after", b"2"),  # what is not ready is looked at every few seconds
}

HELD, HELD_BODIES = "mergeline.held", 16
"""Under which a request's scope has the bytes of its body, until it is answered; and of how many largest ones there is
room at once. Beyond, a body may have what every place of the queue has of that room."""

NO_PATH = "/no-path"
"""Where there is no route."""

RAISED, SPAN = "mergeline.raised", "mergeline.span"
"""Where the short way leaves to the long way what it met, and the span that it began (None: not sampled)."""

Headers = dict[bytes, bytes]
Handler = Callable[["Engine", bytes], Awaitable[Callable[[], None] | None]]


class PredictApp:
    """The two routes that production uses, and the rules that hold for all.

    What the other routes need (Starlette, BentoML's middlewares) would cost these two more than the model does.
    """

    engine: Engine
    begun_head: tuple[object, bytes]
    """The server's own headers of this second, and the beginning of an answer that has them: the protocol's to keep."""
    ahead = 0
    """Requests of all connections that wait for the answer to another before them: the protocol's to count."""

    def __init__(self, behind: ASGIApp) -> None:
        self._behind = behind
        self._key = b""
        self.begun_head = None, b""
        self._held = 0
        self._posts = {"/predict": self._predict, "/feedback": self._feedback}

    def use(self, engine: Engine) -> None:
        """Answer with `engine` from now on; to be called before the first request."""
        self.engine = engine
        self._key = engine.settings.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        path = scope["path"]
        post = self._posts.get(path)
        if post is None and path.startswith(PREFIX) and path.endswith(INFER):
            post = self._infer
        if post is not None:
            try:
                await post(scope, receive, send)
            finally:
                self._held -= scope.pop(HELD, 0)
            return
        if self._key and path not in OPEN_PATHS and not self._is_allowed(dict(scope["headers"])):
            await _answer(send, 401, json_bytes(explain(_unauthorised())[1]), closing=True)
            return
        if not (path.isprintable() and path.startswith("/")):  # what is behind would answer in words of its own
            scope = {**scope, "path": NO_PATH}
        await self._behind(scope, receive, _closing(send) if self.engine.draining else send)

    def predict_now(
        self, headers: Headers, body: bytes, met: dict[str, Any]
    ) -> tuple[bytes, RequestSpan | None, Callable[[], None]] | None:
        """The answers to a plain request, its span, and what is left to do when they are sent.

        None where something has to wait, and where it was tried and failed. The same request then goes the long way,
        with `met` in its scope's state: a second try would count a failure twice.

        Args:
            headers: of a POST to /predict.
            body: the whole of it.
            met: takes the error as `RAISED`, and the span.
        """
        if self._key and not self._is_allowed(headers):
            return None
        span = self._begin(met, headers, "POST", "/predict")
        try:
            reply = self.engine.predict_now(body, span.trace_id if span else None)
        except Exception as error:  # noqa: BLE001 - the long way says it to the caller or to the log
            met[RAISED] = error
            return None
        if reply is None:
            return None
        met.clear()
        return reply.body, span, lambda: self._count(reply, span)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /predict: the answers, or why there are none."""

        async def ask(body: bytes, trace_id: str | None) -> Reply:
            _raise_again(scope)
            return await self.engine.predict(body, trace_id)

        await self._reply(scope, receive, send, ask, "/predict")

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v2/models/NAME/infer: the same in tensors, read, scored and journalled by the same path."""

        async def ask(body: bytes, trace_id: str | None) -> Reply:
            engine = self.engine
            serving = engine.serving()
            check_name(model_of(scope["path"]), serving.name)
            stable = serving.stable
            inference = await engine.read(body, read_inference, stable, engine.settings.max_records)
            reply = await engine.predict(inference.records, trace_id)
            output = stable.model.signature.output
            return reply._replace(body=write_inference(reply.body, inference, serving.name, output))

        await self._reply(scope, receive, send, ask, f"{PREFIX}{{name}}{INFER}")

    async def _reply(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        ask: Callable[[bytes, str | None], Awaitable[Reply]],
        route: str,
    ) -> None:
        """Answer with what `ask` gives for the body and the trace; counting and shadowing come after the answer."""
        engine, span = self.engine, self._begin_in(scope, route)
        try:
            reply = await ask(await self._body(scope, receive), span.trace_id if span else None)
        except Exception as error:  # noqa: BLE001 - `_refuse` says it to the caller or to the log
            engine.metrics.request(await self._refuse(scope, send, error, span))
        else:
            await _answer(send, 200, reply.body, span, closing=engine.draining)
            self._count(reply, span)

    def _begin_in(self, scope: Scope, route: str) -> RequestSpan | None:
        return self._begin(scope.setdefault("state", {}), dict(scope["headers"]), scope["method"], route)

    def _begin(self, state: dict[str, Any], headers: Headers, method: str, route: str) -> RequestSpan | None:
        """The request's span, begun once; None where nothing is traced, or not this."""
        tracing = self.engine.tracing
        if tracing is None:
            return None
        if SPAN not in state:
            state[SPAN] = tracing.begin(headers, method, route)
        span: RequestSpan | None = state[SPAN]
        return span

    def _end(self, span: RequestSpan | None, status: int, roles: Sequence[Role] = ()) -> None:
        if span is not None and self.engine.tracing is not None:
            self.engine.tracing.end(span, status, roles)

    async def _refuse(self, scope: Scope, send: Send, error: Exception, span: RequestSpan | None) -> int:
        """Say why there is no answer; returns the status."""
        told = error
        if not isinstance(told, MergelineError):
            logger.error("a fault of the server at %s", scope["path"], exc_info=error)
            told = _fault()
        # Who waits for leave to send a body may not send it now, and the next request would be taken for it.
        closing = self.engine.draining or any(name == b"expect" for name, _ in scope["headers"])
        status, content = explain(told)
        # Its frames know the body, and often the error itself: such a circle stays until garbage is collected.
        error.__traceback__ = None
        await _answer(send, status, json_bytes(content), span, closing=closing)
        self._end(span, status)
        return status

    def _count(self, reply: Reply, span: RequestSpan | None) -> None:
        """What is left to do when the answer is sent; the caller has it, so nothing here may become an error."""
        try:
            self._end(span, 200, reply.roles)
            self.engine.metrics.request(200, len(reply.roles))
            reply.after()
        except Exception:
            logger.exception("an answer was sent, and could not be counted")

    async def _feedback(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /feedback: what became of each label."""
        engine, span = self.engine, self._begin_in(scope, "/feedback")
        try:
            answer = await engine.feedback(await self._body(scope, receive))
        except Exception as error:  # noqa: BLE001 - `_refuse` says it to the caller or to the log
            await self._refuse(scope, send, error, span)
        else:
            await _answer(send, 200, answer, span, closing=engine.draining)
            self._end(span, 200)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body of a POST that may be read."""
        headers: Headers = dict(scope["headers"])
        if self._key and not self._is_allowed(headers):
            raise _unauthorised()
        if scope["method"] != "POST":
            raise RequestError(405, "method not allowed", hint="use POST")
        if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
            _check_type(headers)
        most = self.engine.settings.max_body_bytes
        announced = headers.get(b"content-length", b"")
        if len(announced) > 3 and int(announced) > most:  # the parser has seen that it is a whole number
            raise _too_large(most)
        seconds = self.engine.settings.max_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await receive()  # waits where nothing of the body came with the head
                if message["type"] == "http.request" and not message.get("more_body", False):
                    body: bytes = message["body"]
                    if len(body) > most:
                        raise _too_large(most)
                    return body
                with self.engine.queue.enter():
                    return await self._rest(message, receive, most, scope)
        except TimeoutError:
            raise RequestError(
                408, f"the body did not come within {seconds:g} seconds", hint="send less at once, or faster"
            ) from None

    async def _rest(self, message: Message, receive: Receive, most: int, scope: Scope) -> bytes:
        """A body that comes in pieces; reading stops as soon as it is too large, or there are too many large ones."""
        body = bytearray()
        room, places = HELD_BODIES * most, self.engine.settings.max_waiting
        while True:
            if message["type"] != "http.request":
                raise RequestError(400, "the body ended early", hint="send the whole body")
            body += message.get("body", b"")
            self._held += len(body) - scope.get(HELD, 0)
            scope[HELD] = len(body)
            if len(body) > most:
                raise _too_large(most)
            if self._held > room and len(body) > room / places:
                raise RequestError(
                    429, "too many large bodies are here already", hint="come back in a second, or send less at once"
                )
            if not message.get("more_body", False):
                return bytes(body)
            message = await receive()

    def _is_allowed(self, headers: Headers) -> bool:
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(given, self._key)


def _raise_again(scope: Scope) -> None:
    """Raise what the short way met, if it did."""
    error = scope.get("state", {}).get(RAISED)
    if error is not None:
        raise error


async def _answer(send: Send, status: int, body: bytes, span: RequestSpan | None = None, *, closing: bool) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if span is not None:
        headers.append(span.header)
    if status in STATUS_HEADERS:
        headers.append(STATUS_HEADERS[status])
    if closing and status != 408:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def explain(error: MergelineError) -> tuple[int, dict[str, Any]]:
    """The HTTP status of an error, and what is said of it."""
    if not isinstance(error, RequestError):
        logger.error("%s", error, exc_info=error.__cause__)
        return 500, {"error": f"{error.where}: {error.what}" if error.where else error.what, "hint": error.hint}
    content: dict[str, Any] = {"error": error.what}
    if error.hint:
        content["hint"] = error.hint
    if error.problems:
        content["problems"] = [problem._asdict() for problem in error.problems]
        content["more"] = error.more
    return error.status, content


def json_bytes(content: dict[str, Any]) -> bytes:
    """JSON that escapes everything beyond ASCII: half a surrogate pair, echoed from a request, is then no fault."""
    return json.dumps(content, allow_nan=False).encode()


def _closing(send: Send) -> Send:
    """`send`, with word to the caller that this connection ends."""

    async def say(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return say


def _check_type(headers: Headers) -> None:
    given = headers.get(b"content-type", b"").decode("latin-1")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if given.split(";")[0].strip().lower() != "application/json" or encoding != "identity":
        found = f"content type {given[:80]!r}" if given else "no content type"
        raise RequestError(
            415,
            f"the body must be plain application/json, found {found}, encoding {encoding[:80]!r}",
            hint="send the header `content-type: application/json`, uncompressed",
        )


def _too_large(most: int) -> RequestError:
    return RequestError(
        413,
        f"the body is larger than {most / 1e6:g} MB",
        hint="send fewer records in one request, or raise serve.max_body_mb in params.yaml",
    )


def _unauthorised() -> RequestError:
    return RequestError(401, "this needs the API key", hint="send it as `authorization: Bearer KEY`, or as `x-api-key`")


def _fault() -> MergelineError:
    return MergelineError("a fault of the server", hint="see the server's log")
