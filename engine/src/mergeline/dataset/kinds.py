"""The kinds of value that a column can hold."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """How a column's values are written, in a partition and in a request."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    TIME = "time"
