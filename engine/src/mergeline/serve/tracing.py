"""One OpenTelemetry span a request, where the standard variables name a collector."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from random import getrandbits
from typing import TYPE_CHECKING, Any

from mergeline.serve.rollout.counts import Role

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
LAST_SECONDS = 3.0
"""For the spans that are left at the end: a collector that does not answer must not hold the server up."""


_LOW_BITS = (1 << 64) - 1
"""Of a trace's id: those that samplers by ratio look at."""


class RequestSpan:
    """The span of one request that is sampled: `trace_id` in hex, and the `header` that names both."""

    def __init__(self, context: SpanContext, parent: SpanContext | None, attributes: dict[str, Any]) -> None:
        self.trace_id = f"{context.trace_id:032x}"
        self.header = b"traceparent", f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
        self.context, self.parent, self.attributes = context, parent, attributes
        self.start_ns = time.time_ns()


class Tracing:
    """Begins spans, and sends them in the background; see `start_tracing`.

    The SDK's sampler decides and its processor sends. Its tracer is left out: a span that nobody sees while it is open
    needs neither the current context nor locks, which cost most of it.
    """

    def __init__(self, sampler: Sampler, processor: SpanProcessor, resource: Resource) -> None:
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._sampler, self._processor, self._resource = sampler, processor, resource
        self._scope = InstrumentationScope("mergeline", version("mergeline"))
        self._extract = TraceContextTextMapPropagator().extract
        self._follows_parent = isinstance(sampler, ParentBased)
        ratio = re.search(r"(?:^|root:)TraceIdRatioBased\{(.+?)\}", sampler.get_description())
        self._bound = TraceIdRatioBased.get_bound_for_rate(float(ratio[1])) if ratio else 1 << 64

    def begin(self, headers: Mapping[bytes, bytes], method: str, route: str) -> RequestSpan | None:
        """The span of a request that came now; None where it is not sampled."""
        given = headers.get(b"traceparent")
        trace_id = getrandbits(128)
        # What the sampler would say, at a tenth of its cost: most requests end here.
        if trace_id & _LOW_BITS >= self._bound if given is None else self._follows_parent and _is_unsampled(given):
            return None
        from opentelemetry.context import Context
        from opentelemetry.sdk.trace.sampling import Decision
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, get_current_span

        context, parent = Context(), None
        if given is not None:
            carrier = {"traceparent": given, "tracestate": headers.get(b"tracestate", b"")}
            context = self._extract({name: value.decode("latin-1") for name, value in carrier.items()}, context)
            found = get_current_span(context).get_span_context()
            if found.is_valid:
                trace_id, parent = found.trace_id, found
        name = f"{method} {route}"
        result = self._sampler.should_sample(context, trace_id, name, SpanKind.SERVER)
        if result.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        flags = TraceFlags(TraceFlags.SAMPLED)
        own = SpanContext(
            trace_id, getrandbits(64) or 1, is_remote=False, trace_flags=flags, trace_state=result.trace_state
        )
        return RequestSpan(own, parent, {"http.request.method": method, "http.route": route})

    def end(self, span: RequestSpan, status: int, roles: Sequence[Role] = ()) -> None:
        """The answer is sent: its status, and the role of the model that answered each record."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind, Status, StatusCode

        attributes = span.attributes
        attributes["http.response.status_code"] = status
        if roles:
            attributes["mergeline.records"] = len(roles)
            attributes["mergeline.roles"] = sorted(set(roles))
        self._processor.on_end(
            ReadableSpan(
                f"{attributes['http.request.method']} {attributes['http.route']}",
                span.context,
                span.parent,
                self._resource,
                attributes,
                kind=SpanKind.SERVER,
                status=Status(StatusCode.ERROR if status >= 500 else StatusCode.UNSET),
                start_time=span.start_ns,
                end_time=time.time_ns(),
                instrumentation_scope=self._scope,
            )
        )

    def stop(self) -> None:
        """Send what is left, if the collector takes it soon."""
        sender = threading.Thread(target=self._processor.shutdown, name="last-spans", daemon=True)
        sender.start()
        sender.join(LAST_SECONDS)


def _is_unsampled(parent: bytes) -> bool:
    return len(parent) == 55 and parent.endswith(b"-00")


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
        sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        processor = BatchSpanProcessor(OTLPSpanExporter())
    except (ImportError, ValueError, OSError) as cause:
        logger.error("no traces: %s; check the variables OTEL_…", cause)  # noqa: TRY400 - a variable, not a fault
        return None
    return Tracing(sampler, processor, resource)
