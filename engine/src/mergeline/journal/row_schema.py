"""Says what the values of a journalled record stand for."""

from __future__ import annotations

import msgspec

OWN = "_"
"""Names of the journal's own columns begin so."""


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """What the values of a record stand for, in their order.

    `columns` are names and kinds of what the model reads, `unread` the names of what it does not read; where
    `timed`, the first of those is the record's own time. `classes` are the names of a multiclass task's classes,
    in the order of its scores.
    """

    columns: tuple[tuple[str, str], ...]
    unread: tuple[str, ...]
    timed: bool
    classes: tuple[str, ...]


def stored_name(name: str) -> str:
    """A column's name in the Parquet files: one that looks like the journal's own is told apart."""
    return f"column{name}" if name.startswith(OWN) else name
