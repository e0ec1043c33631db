"""A small gradient boosting of trees on binned columns: importing a large one takes longer than all of watching."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
