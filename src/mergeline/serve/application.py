"""Maps HTTP to the engine: status codes, limits and bodies."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mergeline.errors import ModelError
from mergeline.serve.engine import Engine, describe
from mergeline.serve.openapi import describe_api
from mergeline.serve.records import RequestError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)

ROUTES = "POST /predict, GET /status, /openapi.json, /livez, /readyz, /metrics"


class Application:
    """The routes that Mergeline adds to BentoML's own.

    BentoML hands a Starlette application only the paths that it knows, and answers the others itself, in
    plain text and with a page that calls an analytics service; wrapped like this, it hands over every path.
    """

    def __init__(self) -> None:
        self._starlette = Starlette(
            routes=[
                Route("/predict", predict, methods=["POST"]),
                Route("/status", status, methods=["GET"]),
                Route("/openapi.json", openapi, methods=["GET"]),
            ],
            exception_handlers={
                HTTPException: _http_error,  # type: ignore[dict-item]
                RequestError: _request_error,  # type: ignore[dict-item]
                ModelError: _model_error,  # type: ignore[dict-item]
                Exception: _fault,
            },
        )

    def use(self, engine: Engine) -> None:
        """Answer with `engine` from now on."""
        self._starlette.state.engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        await self._starlette(scope, receive, send)


async def predict(request: Request) -> Response:
    """POST /predict: the answers, or why there are none."""
    engine = _engine(request)
    status, records = 500, 0
    try:
        _check_type(request)
        body = await _read_body(request, engine.settings.max_body_bytes)
        reply = await asyncio.get_running_loop().run_in_executor(engine.executor, engine.answer, body)
        status, records = 200, reply.records
        return Response(reply.body, media_type="application/json")
    except RequestError as error:
        status = error.status
        raise
    finally:
        engine.metrics.request(status, records)


async def status(request: Request) -> Response:
    """GET /status: what is served, and what went wrong last."""
    return _json(describe(_engine(request).state))


async def openapi(request: Request) -> Response:
    """GET /openapi.json: the routes, with the fields that the served model reads."""
    engine = _engine(request)
    stable = engine.serving().stable
    return _json(describe_api(stable.model.signature, stable.version, engine.settings.max_records))


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if given.split(";")[0].strip().lower() != "application/json" or encoding != "identity":
        found = f"content type {given[:80]!r}" if given else "no content type"
        raise RequestError(
            415,
            f"the body must be plain application/json, found {found}, encoding {encoding[:80]!r}",
            mend="send the header `content-type: application/json`, uncompressed",
        )


async def _read_body(request: Request, most: int) -> bytes:
    """The whole body; reading stops as soon as it is too large."""
    too_large = RequestError(
        413,
        f"the body is larger than {most / 1e6:g} MB",
        mend="send fewer records in one request, or raise serve.max_body_mb in params.yaml",
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise too_large
    except ClientDisconnect:
        raise RequestError(400, "the body ended early", mend="send the whole body") from None
    return bytes(body)


async def _request_error(_: Request, error: RequestError) -> Response:
    content: dict[str, Any] = {"error": error.what}
    if error.mend:
        content["mend"] = error.mend
    if error.problems:
        content["problems"] = [problem._asdict() for problem in error.problems]
        content["more"] = error.more
    return _json(content, error.status, {"retry-after": "2"} if error.status == 503 else None)


async def _http_error(_: Request, error: HTTPException) -> Response:
    allowed = (error.headers or {}).get("Allow")
    text = "there is no such route" if error.status_code == 404 else error.detail.lower()
    mend = f"use {allowed}" if allowed else f"there are {ROUTES}"
    return _json({"error": text, "mend": mend}, error.status_code, error.headers)


async def _model_error(_: Request, error: ModelError) -> Response:
    logger.error("%s", error, exc_info=error.__cause__)
    return _json({"error": f"{error.where}: {error.what}", "mend": error.mend}, 500)


async def _fault(request: Request, _: Exception) -> Response:
    logger.error("a fault of the server at %s", request.url.path)
    return _json({"error": "a fault of the server", "mend": "see the server's log"}, 500)


def _json(content: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    # Escaping everything beyond ASCII keeps half a surrogate pair, echoed from a request, from being a fault.
    return Response(json.dumps(content, allow_nan=False), status, headers, "application/json")
