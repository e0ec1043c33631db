from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceState

from mergeline.serve.tracing import RequestEncoder, encode_kind, encode_span

TRACE, SPAN, PARENT = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 0xB7AD6B7169203331
RESOURCE = Resource({"service.name": "late-flights", "answers": 42}, schema_url="https://opentelemetry.io/schemas/1.40")
SCOPE = InstrumentationScope("mergeline", "1.2.3")


@pytest.mark.parametrize("parent", [None, PARENT])
@pytest.mark.parametrize("state", ["", "vendor=ab,other=1"])
@pytest.mark.parametrize(
    ("status", "roles"), [(200, ("stable",)), (200, ("candidate", "stable")), (422, ()), (503, ())]
)
def test_a_span_is_what_the_sdk_would_have_sent(parent, state, status, roles):
    records = 300 * len(roles)
    ids = TRACE.to_bytes(16, "big") + SPAN.to_bytes(8, "big")
    kind = encode_kind("POST", "/v2/models/{name}/infer", status, records, roles)
    start, end = 1_764_000_000_123_456_789, 1_764_000_000_987_654_321
    span = encode_span(ids, PARENT.to_bytes(8, "big") if parent else b"", state, start, end, kind=kind)
    attributes = {
        "http.request.method": "POST",
        "http.route": "/v2/models/{name}/infer",
        "http.response.status_code": status,
    }
    theirs = ReadableSpan(
        "POST /v2/models/{name}/infer",
        SpanContext(TRACE, SPAN, is_remote=False, trace_state=TraceState.from_header([state]) if state else None),
        SpanContext(TRACE, PARENT, is_remote=True) if parent else None,
        RESOURCE,
        attributes | ({"mergeline.records": records, "mergeline.roles": roles} if roles else {}),
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if status >= 500 else StatusCode.UNSET),
        start_time=start,
        end_time=end,
        instrumentation_scope=SCOPE,
    )
    ours = ExportTraceServiceRequest.FromString(RequestEncoder(RESOURCE, SCOPE).encode([span, span]))
    assert ours == encode_spans([theirs, theirs])
