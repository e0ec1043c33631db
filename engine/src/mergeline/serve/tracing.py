"""One OpenTelemetry span a request, where the standard variables name a collector."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from random import getrandbits
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeline.serve.rollout.counts import Role

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import TraceFlags

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
LAST_SECONDS = 3.0
"""For the spans that are left at the end: a collector that does not answer must not hold the server up."""


_LOW_BITS = (1 << 64) - 1
"""Of a trace's id: those that samplers by ratio look at."""


class _Sampled(NamedTuple):
    """As much of a span's context as the SDK's processor looks at."""

    trace_flags: TraceFlags


class RequestSpan:
    """The span of one request that is sampled: `trace_id` in hex, and the `header` that names both.

    `content` and `context` are what is sent of it, once it has ended.
    """

    content: bytes
    context: _Sampled
    __slots__ = ("content", "context", "header", "ids", "method", "parent", "route", "start_ns", "state", "trace_id")

    def __init__(self, ids: bytes, parent: bytes, state: str, method: str, route: str) -> None:
        self.trace_id = ids[:16].hex()
        self.header = b"traceparent", f"00-{self.trace_id}-{ids[16:].hex()}-01".encode()
        self.ids, self.parent, self.state, self.method, self.route = ids, parent, state, method, route
        self.start_ns = time.time_ns()


class Tracing:
    """Begins spans, and sends them in the background; see `start_tracing`.

    The SDK's sampler decides, its processor gathers and its exporter sends. Its tracer, its spans and its encoder are
    left out: a span that nobody sees while it is open needs neither the current context nor locks, and to encode its
    object in the background would take the interpreter's lock from requests for longer than all the rest.
    """

    def __init__(self, sampler: Sampler, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import TraceFlags
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._sampler, self._processor = sampler, processor
        self._context = _Sampled(TraceFlags(TraceFlags.SAMPLED))
        self._extract = TraceContextTextMapPropagator().extract
        self._follows_parent = isinstance(sampler, ParentBased)
        told = sampler.get_description()
        ratio = re.search(r"(?:^|root:)TraceIdRatioBased\{(.+?)\}", told)
        self._bound = TraceIdRatioBased.get_bound_for_rate(float(ratio[1])) if ratio else 1 << 64
        self._is_foreseen = bool(ratio or re.search("(?:^|root:)AlwaysOnSampler", told))

    def begin(self, headers: Mapping[bytes, bytes], method: str, route: str) -> RequestSpan | None:
        """The span of a request that came now; None where it is not sampled."""
        given = headers.get(b"traceparent")
        trace_id = getrandbits(128)
        # What the sampler would say, at a tenth of its cost: most requests end here.
        if trace_id & _LOW_BITS >= self._bound if given is None else self._follows_parent and _is_unsampled(given):
            return None
        parent, state = 0, ""
        if given is not None or not self._is_foreseen:
            from opentelemetry.context import Context
            from opentelemetry.sdk.trace.sampling import Decision
            from opentelemetry.trace import SpanKind, get_current_span

            carrier = {"traceparent": given or b"", "tracestate": headers.get(b"tracestate", b"")}
            context = self._extract({name: value.decode("latin-1") for name, value in carrier.items()}, Context())
            found = get_current_span(context).get_span_context()
            if found.is_valid:
                trace_id, parent = found.trace_id, found.span_id
            result = self._sampler.should_sample(context, trace_id, f"{method} {route}", SpanKind.SERVER)
            if result.decision is not Decision.RECORD_AND_SAMPLE:
                return None
            state = result.trace_state.to_header() if result.trace_state else ""
        ids = trace_id.to_bytes(16, "big") + (getrandbits(64) or 1).to_bytes(8, "big")
        return RequestSpan(ids, parent.to_bytes(8, "big") if parent else b"", state, method, route)

    def end(self, span: RequestSpan, status: int, roles: Sequence[Role] = ()) -> None:
        """The answer is sent: its status, and the role of the model that answered each record."""
        kind = encode_kind(span.method, span.route, status, len(roles), tuple(sorted(set(roles))))
        span.content = encode_span(span.ids, span.parent, span.state, span.start_ns, time.time_ns(), kind=kind)
        span.context = self._context
        self._processor.on_end(span)  # type: ignore[arg-type]  # it looks at the context alone

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
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "mergeline"}))
        sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        processor = BatchSpanProcessor(_exporter(resource))
    except (ImportError, ValueError, OSError) as cause:
        logger.error("no traces: %s; check the variables OTEL_…", cause)  # noqa: TRY400 - a variable, not a fault
        return None
    return Tracing(sampler, processor)


def _exporter(resource: Resource) -> SpanExporter:
    """The SDK's exporter, for spans that are encoded already."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    encoder = RequestEncoder(resource, InstrumentationScope("mergeline", version("mergeline")))

    class Exporter(OTLPSpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            result = self._client.export(encoder.encode([span.content for span in spans]))
            return SpanExportResult.SUCCESS if result.success else SpanExportResult.FAILURE

    exporter = Exporter()
    if not hasattr(exporter, "_client"):  # what sends bytes is not public
        raise ImportError("this version of opentelemetry-exporter-otlp-proto-http sends otherwise than 1.45 does")
    return exporter


# The protobuf form of spans: an object of the SDK for each, and its encoder, take ten times as long.

SERVER_KIND, ERROR_STATUS = 2, 2
REMOTE_IS_KNOWN, PARENT_IS_REMOTE = 0x100, 0x200
"""Flags of a span: every parent here came by a header."""


def encode_span(ids: bytes, parent: bytes, state: str, start_ns: int, end_ns: int, *, kind: bytes) -> bytes:
    """One span of a batch.

    Args:
        ids: of the trace, 16 bytes, and of the span, 8 bytes.
        parent: the id of the caller's span, or nothing.
        state: what the caller's `tracestate` says.
        start_ns: Unix time in nanoseconds.
        end_ns: the same.
        kind: what the span has in common with others; see `encode_kind`.
    """
    flags = REMOTE_IS_KNOWN | (PARENT_IS_REMOTE if parent else 0)
    content = b"\x0a\x10%b\x12\x08%b%b%b\x39%b\x41%b\x85\x01%b%b" % (
        ids[:16],
        ids[16:],
        _field(3, state.encode()) if state else b"",
        b"\x22\x08" + parent if parent else b"",
        start_ns.to_bytes(8, "little"),
        end_ns.to_bytes(8, "little"),
        flags.to_bytes(4, "little"),
        kind,
    )
    return _field(2, content)


@lru_cache(maxsize=1024)
def encode_kind(method: str, route: str, status: int, records: int, roles: tuple[str, ...]) -> bytes:
    """The name, the attributes and the status of a span; `records` and `roles` only where there are some."""
    attributes = [
        _attribute("http.request.method", _text(method)),
        _attribute("http.route", _text(route)),
        _attribute("http.response.status_code", _integer(status)),
    ]
    if records:
        values = b"".join(_field(1, _text(role)) for role in roles)
        attributes += [
            _attribute("mergeline.records", _integer(records)),
            _attribute("mergeline.roles", _field(5, values)),
        ]
    fault = _field(15, b"\x18" + _varint(ERROR_STATUS) if status >= 500 else b"")
    return b"%b\x30%b%b%b" % (
        _field(5, f"{method} {route}".encode()),
        _varint(SERVER_KIND),
        b"".join(attributes),
        fault,
    )


class RequestEncoder:
    """Puts spans of one process into the body of a request to a collector."""

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext

        context = SpanContext(1, 1, is_remote=False)
        sample = ReadableSpan("sample", context, resource=resource, instrumentation_scope=scope)
        (of_resource,) = encode_spans([sample]).resource_spans
        self._resource = _field(1, of_resource.resource.SerializeToString())
        self._scope = _field(1, of_resource.scope_spans[0].scope.SerializeToString())
        self._schema = _field(3, of_resource.schema_url.encode()) if of_resource.schema_url else b""

    def encode(self, spans: Sequence[bytes]) -> bytes:
        """The body that brings these spans."""
        return _field(1, self._resource + _field(2, self._scope + b"".join(spans)) + self._schema)


def _attribute(name: str, value: bytes) -> bytes:
    return _field(9, _field(1, name.encode()) + _field(2, value))


def _text(value: str) -> bytes:
    return _field(1, value.encode())


def _integer(value: int) -> bytes:
    return b"\x18" + _varint(value)


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)
