"""Turns what an estimator computes into a program, and its trees into nodes."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from mergeline.scorer.estimators import Fitted, Linear, Trees
from mergeline.scorer.expressions import (
    Context,
    Feature,
    Guard,
    Op,
    Table,
    apply,
    make_table,
    refusing,
)
from mergeline.scorer.forest import Forest, grow
from mergeline.scorer.layout import Layout, lay_out
from mergeline.scorer.program import LinearSums, Program, TreeSums

if TYPE_CHECKING:
    from mergeline.scorer.operations import Floats


@dataclass(frozen=True)
class Lowered:
    """A program, the trees it refers to, and the numbers that each column of the record is split at."""

    program: Program
    forest: Forest | None
    splits: dict[int, Floats]


def lower(fitted: Fitted, context: Context, *, sources: int, positive: int | None) -> Lowered:
    """The program of a fitted estimator.

    Raises:
        NotCompilableError: a part of it has no exact form.
    """
    guards = refusing(context)
    sums, base = fitted.sums, fitted.base
    forest: Forest | None = None
    if isinstance(sums, Trees):
        constant = [tree for tree in sums.trees if tree.left[0] < 0]
        base = base + sum((tree.values[0] for tree in constant), np.zeros(len(base)))
        grown = tuple(tree for tree in sums.trees if tree.left[0] >= 0)
        forest = grow(Trees(sums.features, grown), guards) if grown else None
        sums = Linear((), np.zeros((0, len(base))))
    made: LinearSums | TreeSums
    if forest is not None:
        layout, made = forest.layout, TreeSums(forest.outputs, forest.leaves, forest.guarded)
    else:
        layout, made = _linear_sums(sums, guards, len(base))
    program = Program(
        sources=sources,
        lookups=layout.lookups,
        numbers=layout.numbers,
        steps=layout.steps,
        sums=made,
        base=np.ascontiguousarray(base, dtype=np.float64),
        finish=fitted.finish,
        positive=positive,
    )
    return Lowered(program, forest, forest.splits if forest else {})


def _linear_sums(sums: Linear, guards: list[Guard], targets: int) -> tuple[Layout, LinearSums]:
    features: dict[Feature, Floats] = {}

    def add(feature: Feature, weights: Floats) -> None:
        features[feature] = features.get(feature, np.zeros(targets)) + weights

    groups: dict[tuple[int, bool, tuple[str, ...] | tuple[float, ...]], list[tuple[Table, Floats]]] = {}
    # A guard weighs nothing: 0 times a number that must be refused is NaN, and makes the sum so.
    weighted = [
        *zip(sums.features, sums.weights, strict=True),
        *((_watched(guard), np.zeros(targets)) for guard in guards),
    ]
    for feature, weights in weighted:
        if isinstance(feature, Table):
            groups.setdefault((feature.source, feature.numeric, feature.keys), []).append((feature, weights))
        else:
            add(feature, weights)
    for (source, numeric, keys), members in groups.items():
        values = np.array([table.values for table, _ in members])  # (features, keys + 2)
        weights = np.array([weight for _, weight in members])
        with np.errstate(all="ignore"):
            shares = values.T @ weights
        for target, share in enumerate(shares.T):
            add(make_table(source, numeric=numeric, keys=keys, values=share), np.eye(targets)[target])
    layout = lay_out(features)
    placed = sorted(((layout.place[feature], weights) for feature, weights in features.items()), key=itemgetter(0))
    columns = tuple(place for place, _ in placed)
    matrix = np.array([weights for _, weights in placed]).reshape(len(placed), targets)
    everything = columns == tuple(range(len(layout.place)))
    return layout, LinearSums(None if everything else columns, matrix)


def _watched(guard: Guard) -> Feature:
    return apply(guard.feature, Op("fill", 0.0)) if guard.nan_ok else guard.feature
