"""Damages rows on request: a drill for drift checks, alerts and people."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from mergeline.errors import TrafficError
from mergeline.traffic.rows import Field

KINDS = ("drift", "nulls", "unseen")
_FORM = re.compile(r"(?P<kind>\w+)(?::(?P<columns>[^=]+))?=(?P<amount>-?\d+(?:\.\d+)?)(?P<unit>sd)?")


@dataclass(frozen=True)
class Fault:
    """One kind of damage.

    `drift` moves numbers by `amount` standard deviations, within the schema's bounds; `nulls` makes that share of
    values missing; `unseen` gives that share of categories a value that training never saw. `columns` are those it
    is done to; empty takes all that it can be done to.
    """

    kind: str
    amount: float
    columns: tuple[str, ...] = ()

    def suits(self, field: Field) -> bool:
        """Whether this can be done to a field without the server refusing it."""
        if self.kind == "drift":
            return bool(field.types & {"number", "integer"}) and not field.is_closed
        if self.kind == "nulls":
            return "null" in field.types
        return "string" in field.types and not field.is_closed


def parse_fault(text: str) -> Fault:
    """A fault as the command line has it: `drift=0.5sd`, `nulls=0.2`, `unseen:carrier,dest=0.1`.

    Raises:
        TrafficError: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    kind = found["kind"] if found else ""
    if not found or kind not in KINDS or (found["unit"] and kind != "drift"):
        raise TrafficError(
            f"no fault: {text!r}", where="--fault", hint="write drift=0.5sd, nulls=0.2, unseen=0.1 or nulls:temp=0.5"
        )
    amount = float(found["amount"])
    if kind != "drift" and not 0 <= amount <= 1:
        raise TrafficError(f"a share of {amount:g}", where=f"--fault {text}", hint="give a share from 0 to 1")
    columns = tuple(name.strip() for name in (found["columns"] or "").split(",") if name.strip())
    return Fault(kind, amount, columns)


class Damage:
    """Faults made ready for one server and one data set.

    Args:
        faults: what to do.
        fields: those that the model reads.
        sample: some rows, for the standard deviations.
        seed: which rows are hit.

    Raises:
        TrafficError: a fault names a column that it cannot be done to, or there is none.
    """

    def __init__(
        self, faults: Sequence[Fault], fields: Mapping[str, Field], sample: Sequence[Mapping[str, Any]], seed: int
    ) -> None:
        self._random = Random(seed)  # noqa: S311 - rows are hit at random, nothing is kept secret
        self._steps = [
            (fault, field, fault.amount * (_spread(sample, field.name) if fault.kind == "drift" else 1.0))
            for fault in faults
            for field in _targets(fault, fields)
        ]

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record, damaged in place."""
        for fault, field, amount in self._steps:
            value = record.get(field.name)
            if fault.kind == "drift":
                if value is not None:
                    record[field.name] = _moved(value, amount, field)
            elif self._random.random() < amount:
                record[field.name] = None if fault.kind == "nulls" else f"unseen-{self._random.randrange(10)}"
        return record


def _targets(fault: Fault, fields: Mapping[str, Field]) -> list[Field]:
    able = [field for field in fields.values() if fault.suits(field)]
    unable = [name for name in fault.columns if name not in {field.name for field in able}]
    chosen = [field for field in able if not fault.columns or field.name in fault.columns]
    if unable or not chosen:
        which = f"column {unable[0]!r}" if unable else "any column of the model"
        raise TrafficError(
            f"{fault.kind} cannot be done to {which}: the server would refuse the record",
            where="--fault",
            hint=f"it suits {', '.join(field.name for field in able) or 'no column here'}",
        )
    return chosen


def _spread(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """The standard deviation of a column."""
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _moved(value: float, by: float, field: Field) -> float | int:
    moved = value + by
    if field.minimum is not None:
        moved = max(moved, field.minimum)
    if field.maximum is not None:
        moved = min(moved, field.maximum)
    return moved if "number" in field.types else round(moved)
