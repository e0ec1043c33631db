"""What a fitted pipeline computes from a record, column by column, as values that can be compared and folded."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mergeline.errors import ModelError
from mergeline.scorer.program import IDENTITIES, OPERATIONS, PRODUCTS, Floats, Lookup, Step, operate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MISSING, UNSEEN = -2, -1
"""Where the values of a missing and of an unseen key stand in a table."""

FOLDABLE = frozenset({"fill", "subtract", "divide", "multiply", "add", "clip", "float32", "isnan"})
"""Operations that keep the order of numbers, rounding included: a threshold behind them can be moved in front."""


class NotCompilableError(ModelError):
    """The pipeline holds something that has no exact form here; scikit-learn serves it."""


class Op(NamedTuple):
    """One operation with its parameters."""

    kind: str
    a: float = 0.0
    b: float = 0.0


@dataclass(frozen=True)
class Text:
    """A text column on its way to an encoder: what it is for each key of the vocabulary, if missing, if unseen."""

    source: int
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Table:
    """A number that one column's value decides: a value for each key, then for a missing and for an unseen one."""

    source: int
    numeric: bool
    keys: tuple[str, ...] | tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Raw:
    """A number as the record gives it."""

    source: int


@dataclass(frozen=True)
class Product:
    """The product of other features, multiplied from the right; of none, 1."""

    factors: tuple[Feature, ...]


@dataclass(frozen=True)
class Chain:
    """A number after some operations."""

    base: Raw | Product
    ops: tuple[Op, ...] = ()


Feature = Table | Chain
Column = Text | Feature


@dataclass(frozen=True)
class Guard:
    """A number that scikit-learn refuses the row for, unless it is finite (or, with `nan_ok`, missing)."""

    feature: Feature
    nan_ok: bool


@dataclass
class Context:
    """What the compiler of one pipeline knows: the texts that any part of it names, and what it refuses."""

    vocabulary: tuple[str, ...]
    guards: list[Guard] = field(default_factory=list)

    def guard(self, columns: Iterable[Column], *, nan_ok: bool) -> None:
        """Note that a part refuses what is not finite among `columns`."""
        self.guards += [Guard(column, nan_ok) for column in columns if not isinstance(column, Text)]


def make_table(
    source: int, *, numeric: bool, keys: tuple[str, ...] | tuple[float, ...], values: Iterable[float]
) -> Table:
    """A table whose missing values are one object, so that equal tables are equal."""
    plain = tuple(math.nan if value != value else float(value) for value in values)  # noqa: PLR0124 - NaN alone differs
    return Table(source, numeric, keys, plain)


def apply(feature: Column, *ops: Op) -> Feature:
    """The feature after more operations.

    Raises:
        NotCompilableError: it is text, or an operation that would turn the order of numbers round.
    """
    for op in ops:
        if op.kind in {"divide", "multiply"} and not op.a > 0:
            raise NotCompilableError(f"a column is scaled by {op.a:g}", where="scaler")
    match feature:
        case Text():
            raise NotCompilableError("text reaches a step that computes with numbers", where="pipeline")
        case Table():
            return replace(
                feature, values=make_table(0, numeric=False, keys=(), values=after(ops, feature.values)).values
            )
        case Chain():
            return replace(feature, ops=feature.ops + ops)


def after(ops: Sequence[Op], values: Sequence[float] | Floats) -> Floats:
    """Numbers after operations, bit for bit as scikit-learn makes them."""
    x = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        for op in ops:
            x = operate(op.kind, x, op.a, op.b)
    return x


def split_foldable(ops: tuple[Op, ...]) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """What must be computed first, and the operations after it that a threshold can absorb."""
    cut = len(ops)
    while cut and ops[cut - 1].kind in FOLDABLE:
        cut -= 1
    return ops[:cut], ops[cut:]


def refusing(context: Context) -> list[Guard]:
    """The guards that some finite or missing value of the record does not pass."""
    return [guard for guard in dict.fromkeys(context.guards) if not _always_passes(guard)]


def _always_passes(guard: Guard) -> bool:
    feature = guard.feature
    if isinstance(feature, Table):
        values = np.asarray(feature.values)
    else:
        first, rest = split_foldable(feature.ops)
        if first or not isinstance(feature.base, Raw):
            return False
        greatest = np.finfo(np.float64).max
        values = after(rest, [-greatest, greatest, math.nan])
    return bool((np.isfinite(values) | (np.isnan(values) & guard.nan_ok)).all())


@dataclass(frozen=True)
class Layout:
    """Where each feature stands in the final matrix, and how the matrix comes about."""

    place: dict[Feature, int]
    lookups: tuple[Lookup, ...]
    numbers: tuple[int, ...]
    steps: tuple[Step, ...]


def lay_out(features: Iterable[Feature]) -> Layout:
    """A matrix that holds every feature, each once, and the factors of their products."""
    needed = list(dict.fromkeys(part for feature in features for part in _with_factors(feature)))
    place: dict[Feature, int] = {}
    lookups = _lookups([feature for feature in needed if isinstance(feature, Table)], place)
    chains = sorted((feature for feature in needed if isinstance(feature, Chain)), key=_depth)
    numbers: list[int] = []
    steps: list[Step] = []
    for depth, group in itertools.groupby(chains, key=_depth):
        level = list(group)
        if depth:
            steps.append(_products(level, place))
        for chain in level:
            place[chain] = len(place)
            if isinstance(chain.base, Raw):
                numbers.append(chain.base.source)
        steps += _operations({place[chain]: chain.ops for chain in level}, len(place))
    return Layout(place, lookups, tuple(numbers), tuple(steps))


def _with_factors(feature: Feature) -> list[Feature]:
    factors = feature.base.factors if isinstance(feature, Chain) and isinstance(feature.base, Product) else ()
    return [*(part for factor in factors for part in _with_factors(factor)), feature]


def _depth(chain: Chain) -> int:
    """How many products lie inside one another."""
    if isinstance(chain.base, Raw):
        return 0
    return 1 + max((_depth(factor) for factor in chain.base.factors if isinstance(factor, Chain)), default=0)


def _lookups(tables: list[Table], place: dict[Feature, int]) -> tuple[Lookup, ...]:
    """One lookup for the tables that share a column and its keys; text before numbers."""
    groups: dict[tuple[bool, int, tuple[str, ...] | tuple[float, ...]], list[Table]] = {}
    for table in tables:
        groups.setdefault((table.numeric, table.source, table.keys), []).append(table)
    made = []
    for (numeric, source, keys), members in sorted(groups.items(), key=lambda item: item[0][:2]):
        for table in members:
            place[table] = len(place)
        values = np.array([table.values for table in members], dtype=np.float64).T
        unlike = [row for row in range(len(keys)) if values[row].tobytes() != values[-1].tobytes()]
        kept = tuple(keys[row] for row in unlike)
        made.append(Lookup(source, numeric, kept, values[[*unlike, len(keys), len(keys) + 1]]))  # type: ignore[arg-type]
    return tuple(made)


def _products(level: list[Chain], place: dict[Feature, int]) -> Step:
    columns = [[place[factor] for factor in chain.base.factors] for chain in level if isinstance(chain.base, Product)]
    degree = max(1, *(len(column) for column in columns))
    factors = np.full((degree, len(columns)), -1, dtype=np.int64)
    for number, column in enumerate(columns):
        factors[: len(column), number] = column
    return Step(PRODUCTS, None, factors)


def _operations(chains: dict[int, tuple[Op, ...]], width: int) -> list[Step]:
    """The chains' operations in as few steps as their orders allow, each on many columns at once."""
    left = {column: list(ops) for column, ops in chains.items() if ops}
    steps = []
    while left:
        heads = Counter(ops[0].kind for ops in left.values())
        kind = min(heads, key=lambda name: (-heads[name], name))
        taken = {column: ops.pop(0) for column, ops in left.items() if ops[0].kind == kind}
        left = {column: ops for column, ops in left.items() if ops}
        columns = tuple(sorted(taken))
        if kind in OPERATIONS:
            numbers = np.repeat(np.array(IDENTITIES[kind])[:, None], width, axis=1)
            for column, op in taken.items():
                numbers[:, column] = op.a, op.b
            steps.append(Step(kind, None, numbers))
        else:
            steps.append(Step(kind, columns, np.zeros((2, 0))))
    return steps
