"""Lays features out as the columns of one matrix, with the steps that compute them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mergeline.scorer.expressions import Chain, Feature, Op, Product, Raw, Table
from mergeline.scorer.operations import IDENTITIES, OPERATIONS
from mergeline.scorer.program import Elementwise, Lookup, Products

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Layout:
    """Where each feature stands in the final matrix, and how the matrix comes about."""

    place: dict[Feature, int]
    lookups: tuple[Lookup, ...]
    numbers: tuple[int, ...]
    steps: tuple[Elementwise | Products, ...]


def lay_out(features: Iterable[Feature]) -> Layout:
    """A matrix that holds every feature, each once, and the factors of their products."""
    needed = list(dict.fromkeys(part for feature in features for part in _with_factors(feature)))
    place: dict[Feature, int] = {}
    lookups = _lookups([feature for feature in needed if isinstance(feature, Table)], place)
    chains = sorted((feature for feature in needed if isinstance(feature, Chain)), key=_depth)
    numbers: list[int] = []
    steps: list[Elementwise | Products] = []
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


def _products(level: list[Chain], place: dict[Feature, int]) -> Products:
    columns = [[place[factor] for factor in chain.base.factors] for chain in level if isinstance(chain.base, Product)]
    degree = max(1, *(len(column) for column in columns))
    factors = np.full((degree, len(columns)), -1, dtype=np.int64)
    for number, column in enumerate(columns):
        factors[: len(column), number] = column
    return Products(factors)


def _operations(chains: dict[int, tuple[Op, ...]], width: int) -> list[Elementwise]:
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
            a, b = (np.full(width, value) for value in IDENTITIES[kind])
            for column, op in taken.items():
                a[column], b[column] = op.a, op.b
            steps.append(Elementwise(kind, None, a, b))
        else:
            steps.append(Elementwise(kind, columns, np.zeros(0), np.zeros(0)))
    return steps
