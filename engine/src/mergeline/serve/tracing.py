"""One OpenTelemetry span a request, where the standard variables name a collector."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from mergeline.serve.rollout.counts import Role

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span, TracerProvider

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
LAST_SECONDS = 3.0
"""For the spans that are left at the end: a collector that does not answer must not hold the server up."""


class RequestSpan:
    """The span of one request that is sampled: its trace, in hex, and the header that names both."""

    def __init__(self, span: Span) -> None:
        context = span.get_span_context()
        self._span = span
        self.trace_id = f"{context.trace_id:032x}"
        self.header = b"traceparent", f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}".encode()

    def end(self, status: int, roles: Sequence[Role] = ()) -> None:
        """The answer is sent: its status, and the role of the model that answered each record."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if roles:
            self._span.set_attribute("mergeline.records", len(roles))
            self._span.set_attribute("mergeline.roles", sorted(set(roles)))
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """Begins spans, and sends them in the background; see `start_tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.sdk.trace.sampling import ParentBased
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._kind = provider, SpanKind.SERVER
        self._tracer = provider.get_tracer("mergeline", version("mergeline"))
        self._extract = TraceContextTextMapPropagator().extract
        self._follows_parent = isinstance(provider.sampler, ParentBased)

    def begin(self, headers: Mapping[bytes, bytes], method: str, route: str) -> RequestSpan | None:
        """The span of a request that came now; None where it is not sampled."""
        parent = headers.get(b"traceparent", b"")
        if self._follows_parent and len(parent) == 55 and parent.endswith(b"-00"):
            return None  # what the sampler would say, without the span that it says it about
        carrier = {
            "traceparent": parent.decode("latin-1"),
            "tracestate": headers.get(b"tracestate", b"").decode("latin-1"),
        }
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._extract(carrier) if parent else None,
            kind=self._kind,
            attributes={"http.request.method": method, "http.route": route},
            start_time=time.time_ns(),
        )
        return RequestSpan(span) if span.is_recording() else None  # type: ignore[arg-type]  # the SDK's own

    def stop(self) -> None:
        """Send what is left, if the collector takes it soon."""
        sender = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sender.start()
        sender.join(LAST_SECONDS)


def start_tracing() -> Tracing | None:
    """What sends spans to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names; None where there is none to send to.

    Everything else is said by the standard variables, which the SDK reads itself: sampler, headers, resource, limits.
    Variables of a whole cluster must not keep one server from starting: what cannot be done is logged.
    """
    if not any(map(os.environ.get, ENDPOINTS)) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    protocol = next(filter(None, map(os.environ.get, PROTOCOLS)), "http/protobuf")
    if protocol != "http/protobuf":
        logger.error("no traces: %s is %s; the server speaks http/protobuf (port 4318)", PROTOCOLS[1], protocol)
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "mergeline"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except (ImportError, ValueError, OSError) as cause:
        logger.error("no traces: %s; check the variables OTEL_…", cause)  # noqa: TRY400 - a variable, not a fault
        return None
    return Tracing(provider)
