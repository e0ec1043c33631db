"""Tests whether whole rows of two samples differ, by how well a classifier tells them apart."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mergeline.model.bin_counts import literal, quoted
from mergeline.scorer.signature import Kind
from mergeline.stats.two_samples import auc_of_runs
from mergeline.watch.results import WholeRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

    from mergeline.scorer.signature import Signature

LEVEL = 0.01
"""The chance that two samples of one population are told apart."""

MIN_ROWS = 200
"""With fewer rows on a side a classifier learns nothing."""

NAMED = 5
_PARTS = 1_000_003

Rows = list[tuple[Any, ...]]


class Table(NamedTuple):
    """Rows to sample.

    Attributes:
        relation: SQL that can stand after FROM.
        rows: how many it has.
        against: what they are, for people.
        key: the column that names a row; where there is none, rows are told apart by all of their columns.
        time: the column that orders the rows; where there is none, their order is by chance.
    """

    relation: str
    rows: int
    against: str = ""
    key: str = ""
    time: str = ""


def sample(connection: duckdb.DuckDBPyConnection, table: Table, signature: Signature, most: int) -> Rows:
    """About `most` rows, or all where there are fewer, with the signature's columns: the same ones each time.

    The oldest comes first.
    """
    order = f"hash({_told_by(table, signature)})"
    order = f"{quoted(table.time)}, {order}" if table.time else order
    return connection.execute(f"{_sampling(table, signature, most)} order by {order}").fetchall()


def write_sample(
    connection: duckdb.DuckDBPyConnection, table: Table, signature: Signature, most: int, target: Path
) -> None:
    """Write what `sample` would give as Parquet."""
    query = _sampling(table, signature, most)
    connection.execute(f"copy ({query}) to {literal(str(target))} (format parquet)")


def _sampling(table: Table, signature: Signature, most: int) -> str:
    part = math.ceil(_PARTS * most / table.rows)
    chosen = f" where hash({_told_by(table, signature)}) % {_PARTS} < {part}" if table.rows > most else ""
    read = ", ".join(
        f"try_cast({quoted(column.name)} as {'varchar' if column.kind is Kind.CATEGORY else 'double'})"
        f" as {quoted(column.name)}"
        for column in signature.columns
    )
    return f"select {read} from {table.relation}{chosen}"


def _told_by(table: Table, signature: Signature) -> str:
    return quoted(table.key) if table.key else ", ".join(map(quoted, signature.names))


def compare_rows(now: Rows, before: Rows, signature: Signature, against: str, min_auc: float) -> WholeRow | None:
    """The classifier two-sample test (Lopez-Paz and Oquab, 2017), with the area under the ROC curve as its statistic.

    Boosted trees learn on the older half of each sample which one a row is from, and are judged on the newer half: if
    the samples are of one population, the AUC there is 0.5 but for chance. It sees what no single column shows, such as
    a changed correlation. Rows of one hour share so much (its weather) that they are no independent witnesses: so the
    halves are of different times, and the AUC's error is that of runs of neighbouring rows (see
    `auc_of_runs`).

    Args:
        now: rows of the window, oldest first, see `sample`.
        before: rows to compare them with, oldest first.
        signature: names the columns.
        against: what `before` is, for people.
        min_auc: from which AUC on the difference counts.

    Returns:
        None where a side has fewer than `MIN_ROWS` rows.
    """
    if min(len(now), len(before)) < MIN_ROWS:
        return None
    size = min(len(now), len(before))  # of one size, so that the classifier learns more than which one is larger
    rows = [*_thinned(now, size), *_thinned(before, size)]
    is_now = np.arange(2 * size) < size
    learn = np.arange(2 * size) % size < size // 2
    columns = list(zip(*rows, strict=True))
    codes = np.column_stack(
        [
            _text_codes(columns[place], learn)
            if column.kind is Kind.CATEGORY
            else _number_codes(np.array(columns[place], dtype=np.float64), learn)
            for place, column in enumerate(signature.columns)
        ]
    )
    model = boost(codes[learn], is_now[learn])
    judged = is_now[~learn]
    auc, p_value = auc_of_runs(model.score(codes[~learn]), judged)
    gains = sorted(zip(signature.names, model.gains.tolist(), strict=True), key=lambda pair: -pair[1])
    total = float(model.gains.sum())
    return WholeRow(
        against=against,
        rows=size,
        auc=round(auc, 4),
        p_value=float(f"{p_value:.3g}"),
        differs=p_value <= LEVEL and auc >= min_auc,
        features={name: round(gain / total, 4) for name, gain in gains[:NAMED] if gain >= 0.01 * total}
        if total
        else {},
    )


def _thinned(rows: Rows, size: int) -> Rows:
    """So many of the rows, evenly over all of them."""
    return [rows[place] for place in np.linspace(0, len(rows) - 1, size).round().astype(np.intp).tolist()]


def _number_codes(values: NDArray[np.float64], learn: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Bins of about equal mass; 0 stands for what is missing or not finite."""
    known = np.isfinite(values)
    inner = values[known & learn]
    if not inner.size:
        return known.astype(np.intp)
    borders = np.unique(np.quantile(inner, np.arange(1, BINS - 1) / (BINS - 1)))
    return np.where(known, np.searchsorted(borders, np.where(known, values, 0.0), side="right") + 1, 0)


def _text_codes(values: Sequence[str | None], learn: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Categories by how often they come, the rarest together; 0 stands for what is missing."""
    places = {value: place for place, value in enumerate(sorted({value for value in values if value is not None}))}
    codes = np.array([-1 if value is None else places[value] for value in values], dtype=np.intp)
    seen = np.bincount(codes[learn & (codes >= 0)], minlength=len(places))
    ranks = np.empty(len(places), dtype=np.intp)
    ranks[np.argsort(-seen, kind="stable")] = np.arange(1, len(places) + 1)
    return np.where(codes >= 0, np.minimum(ranks, BINS - 1)[codes], 0) if places else np.zeros_like(codes)


BINS = 32
DEPTH, TREES = 3, 60
RATE, PENALTY = 0.2, 10.0

Codes = NDArray[np.intp]
Floats = NDArray[np.float64]


class _Tree(NamedTuple):
    """For each inner node, in breadth-first order, the column and the last code that goes left; the leaves' scores."""

    columns: NDArray[np.intp]
    borders: NDArray[np.intp]
    leaves: Floats

    def score(self, codes: Codes) -> Floats:
        rows = np.arange(len(codes))
        node = np.zeros(len(codes), dtype=np.intp)
        for _ in range(DEPTH):
            node = 2 * node + 1 + (codes[rows, self.columns[node]] > self.borders[node])
        return np.asarray(self.leaves[node - len(self.columns)])


class Boosted(NamedTuple):
    """The trees, and what each column gained in the fit."""

    trees: list[_Tree]
    gains: Floats

    def score(self, codes: Codes) -> Floats:
        """The log odds of each row, shape (n,), but for a constant."""
        return np.asarray(np.sum([tree.score(codes) for tree in self.trees], axis=0))


def boost(codes: Codes, truth: NDArray[np.bool_]) -> Boosted:
    """Fit trees of depth `DEPTH` to the logistic loss, by second-order steps (Friedman, 2001; Chen and Guestrin, 2016).

    Each tree first parts the rows at the median of one column, each column in its turn. A greedy first split would
    follow noise where columns differ only together, as when a correlation has changed.

    Args:
        codes: the columns' bins, shape (n, k), from 0 to `BINS` - 1; their order carries meaning.
        truth: shape (n,).
    """
    width = codes.shape[1]
    flat = codes + np.arange(width) * BINS
    # The last code that keeps at most half of the rows on the left, but always some.
    middles = np.maximum(np.median(codes, axis=0).astype(np.intp) - 1, codes.min(axis=0))
    odds = np.zeros(len(codes))
    gains = np.zeros(width)
    trees = []
    for turn in range(TREES):
        chance = 1 / (1 + np.exp(-odds))
        root = turn % width
        tree, found = _grow(codes, flat, truth - chance, chance * (1 - chance), (root, int(middles[root])))
        odds += tree.score(codes)
        gains += found
        trees.append(tree)
    return Boosted(trees, gains)


def _grow(codes: Codes, flat: Codes, slopes: Floats, curves: Floats, root: tuple[int, int]) -> tuple[_Tree, Floats]:
    """One tree that begins with the split `root`, and what each column gained in it."""
    rows, width = codes.shape
    node = (codes[:, root[0]] > root[1]).astype(np.intp)
    gained = np.zeros(width)
    columns, borders = [np.array([root[0]])], [np.array([root[1]])]
    many_slopes, many_curves = np.repeat(slopes, width), np.repeat(curves, width)
    for level in range(1, DEPTH):
        nodes = 2**level
        cells = (node[:, np.newaxis] * (width * BINS) + flat).ravel()
        size = nodes * width * BINS
        left = [
            np.bincount(cells, weights=weights, minlength=size).reshape(nodes, width, BINS).cumsum(axis=2)
            for weights in (many_slopes, many_curves)
        ]
        whole = [sums[:, :, -1:] for sums in left]
        gain = _worth(left[0], left[1]) + _worth(whole[0] - left[0], whole[1] - left[1]) - _worth(whole[0], whole[1])
        best = gain.reshape(nodes, -1).argmax(axis=1)
        column, border = best // BINS, best % BINS
        np.add.at(gained, column, np.maximum(gain.reshape(nodes, -1)[np.arange(nodes), best], 0.0))
        columns.append(column)
        borders.append(border)
        node = 2 * node + (codes[np.arange(rows), column[node]] > border[node])
    sums = [np.bincount(node, weights=weights, minlength=2**DEPTH) for weights in (slopes, curves)]
    return _Tree(np.concatenate(columns), np.concatenate(borders), RATE * sums[0] / (sums[1] + PENALTY)), gained


def _worth(slopes: Floats, curves: Floats) -> Floats:
    """What a leaf with these sums takes off the loss."""
    return np.asarray(slopes**2 / (curves + PENALTY))
