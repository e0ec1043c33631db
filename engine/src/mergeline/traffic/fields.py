"""Reads from a server's OpenAPI document which fields its records have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergeline.traffic.pace import TrafficError


@dataclass(frozen=True)
class Field:
    """One field that the model reads; bounds are inclusive, and where `is_closed` no other values are allowed."""

    name: str
    types: frozenset[str]
    minimum: float | None
    maximum: float | None
    is_closed: bool
    is_required: bool

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers."""
        return bool(self.types & {"number", "integer"})

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return "integer" in self.types and "number" not in self.types

    @property
    def may_be_null(self) -> bool:
        """Whether it may be missing."""
        return "null" in self.types


def read_fields(document: Mapping[str, Any], url: str) -> dict[str, Field]:
    """The fields of a record, in the document's order.

    Raises:
        TrafficError: this is not the document of a Mergeline server.
    """
    try:
        record = document["components"]["schemas"]["Record"]
        required = set(record.get("required", ()))
        return {
            name: Field(
                name,
                frozenset([kinds] if isinstance(kinds := spec["type"], str) else kinds),
                spec.get("minimum"),
                spec.get("maximum"),
                "enum" in spec,
                name in required,
            )
            for name, spec in record["properties"].items()
        }
    except (KeyError, TypeError, AttributeError):
        raise TrafficError(
            "what answers there is no Mergeline server", where=f"{url}/openapi.json", hint="give its address with --url"
        ) from None
