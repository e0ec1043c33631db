"""The routes that are asked now and then: what is served, what the fields are, what was counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from mergeline.errors import MergelineError
from mergeline.serve.asgi import STATUS_HEADERS, explain, json_bytes
from mergeline.serve.inference_protocol import check_name, describe_model
from mergeline.serve.metrics import RolloutCollector
from mergeline.serve.openapi import describe_api

if TYPE_CHECKING:
    from starlette.requests import Request

    from mergeline.serve.engine import Engine

logger = logging.getLogger(__name__)

ROUTES = "POST /predict, POST /feedback, GET /status, /openapi.json, /livez, /readyz, /metrics, /v2/models/NAME"
OTHER_METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def make_routes(engine: Callable[[], Engine]) -> Starlette:
    """The application behind `PredictApp`; `engine` is asked anew for each request."""

    async def status(_: Request) -> Response:
        """What is served, and what went wrong last."""
        return _json(engine().describe())

    async def openapi(_: Request) -> Response:
        """The routes, with the fields that the served model reads."""
        current = engine()
        stable = current.serving().stable
        return _json(describe_api(stable.model.signature, stable.version, current.settings))

    def metrics(_: Request) -> Response:
        """What all workers counted; a plain function, so that Starlette reads their files in a thread."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess

        engine().metrics.flush()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(RolloutCollector(engine().controller))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def live(_: Request) -> Response:
        """That the process answers, in the Open Inference Protocol's words."""
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        """Whether requests should be sent here, in the same words."""
        is_ready = engine().is_ready
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    async def model(request: Request) -> Response:
        """The tensors that the served model takes and gives."""
        serving = engine().serving()
        check_name(request.path_params["name"], serving.name)
        return _json(describe_model(serving.name, serving.stable))

    async def model_ready(request: Request) -> Response:
        """Whether the served model answers."""
        current = engine()
        name = current.serving().name
        check_name(request.path_params["name"], name)
        return _json({"name": name, "ready": current.is_ready}, 200 if current.is_ready else 503)

    async def routes(_: Request) -> Response:
        """What can be asked here, for whoever opens the address in a browser."""
        return _json({"name": "mergeline", "version": version("mergeline"), "routes": ROUTES.split(", ")})

    async def server(_: Request) -> Response:
        """Who answers, and what of the protocol is there."""
        return _json({"name": "mergeline", "version": version("mergeline"), "extensions": []})

    return Starlette(
        routes=[
            Route("/", routes, methods=["GET"]),
            Route("/v2", server, methods=["GET"]),
            Route("/v2/health/live", live, methods=["GET"]),
            Route("/v2/health/ready", ready, methods=["GET"]),
            Route("/v2/models/{name}", model, methods=["GET"]),
            Route("/v2/models/{name}/ready", model_ready, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/status", status, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            *(Route(path, _only_get, methods=OTHER_METHODS) for path in ("/livez", "/readyz")),
        ],
        exception_handlers={
            HTTPException: _http_error,  # type: ignore[dict-item]
            MergelineError: _known_error,  # type: ignore[dict-item]
            Exception: _fault,
        },
    )


async def _only_get(_: Request) -> Response:
    """Refuse what BentoML, which answers these paths, does not want."""
    raise HTTPException(405, headers={"Allow": "GET"})


async def _known_error(_: Request, error: MergelineError) -> Response:
    status, content = explain(error)
    more = [STATUS_HEADERS[status]] if status in STATUS_HEADERS else []
    return _json(content, status, {name.decode(): value.decode() for name, value in more})


async def _http_error(_: Request, error: HTTPException) -> Response:
    allowed = (error.headers or {}).get("Allow")
    text = "there is no such route" if error.status_code == 404 else error.detail.lower()
    hint = f"use {allowed}" if allowed else f"there are {ROUTES}"
    return _json({"error": text, "hint": hint}, error.status_code, error.headers)


async def _fault(request: Request, _: Exception) -> Response:
    logger.error("a fault of the server at %s", request.url.path)
    return _json({"error": "a fault of the server", "hint": "see the server's log"}, 500)


def _json(content: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(json_bytes(content), status, headers, "application/json")
