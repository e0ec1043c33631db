"""Writes spans in OTLP's protobuf form: an object of the SDK for each, and its encoder, take ten times as long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

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
