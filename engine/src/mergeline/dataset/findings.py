"""What the data gate found: typed reasons, and how they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergeline.documents import Frozen

if TYPE_CHECKING:
    import pandas as pd


class Example(Frozen):
    """One offending cell; `row` counts from 1 in the file's order, 0 means the whole column."""

    row: int
    value: str


class Finding(Frozen):
    """One broken rule."""

    partition: str
    column: str
    rule: str
    rows: int = 0
    examples: tuple[Example, ...] = ()
    meaning: str

    def __str__(self) -> str:
        cells = ", ".join(f"row {e.row}: {e.value}" for e in self.examples if e.row)
        rows = f" in {self.rows:,} row{'' if self.rows == 1 else 's'}" if self.rows else ""
        place = f"{self.partition}: {self.column}" if self.column else self.partition
        return f"{place}: {self.rule}{rows}: {self.meaning}" + (f" ({cells})" if cells else "")


class PartitionSummary(Frozen):
    """One partition that was read."""

    name: str
    rows: int


class ValidationReport(Frozen):
    """What was checked, and what was found."""

    partitions: tuple[PartitionSummary, ...]
    columns: int
    findings: tuple[Finding, ...]


MAX_EXAMPLES = 5


def shorten(value: object, length: int = 60) -> str:
    """The value as one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def broken_cells(  # noqa: PLR0917 - where, which rule, which cells, why: read in this order
    partition: str, column: str, rule: str, cells: pd.Series, broken: pd.Series, meaning: str
) -> Finding:
    """A rule that some cells of a column break, with the first of them."""
    rows = [index for index, bad in enumerate(broken) if bad]
    examples = tuple(Example(row=i + 1, value=shorten(cells.iloc[i])) for i in rows[:MAX_EXAMPLES])
    return Finding(partition=partition, column=column, rule=rule, rows=len(rows), examples=examples, meaning=meaning)
