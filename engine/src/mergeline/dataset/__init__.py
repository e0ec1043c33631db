"""Reads the team's data, judges them, and divides them by time."""

from enum import StrEnum


class Kind(StrEnum):
    """How a column's values are written, in a partition and in a request."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    TIME = "time"


VALIDATION_FORMAT = 1
"""Changes when the stage `validate` would find or write something else on the same data and params."""
