"""Sums the leaves of a forest over many rows by bit masks, in less than half the time of going from node to node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mergeline.scorer.forest import EQUAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.scorer.program import Floats

GROUP_TREES, GROUP_ROWS, MOST_LEAVES = 64, 1024, 64
_CELLS, _MOST_STEPS, _MOST_PAIRS = 4096, 3, 2048


class LeafMasks:
    """Trees of up to 64 leaves, as QuickScorer has them (Lucchese et al., SIGIR 2015).

    A bit stands for a leaf, from the true side of its tree to the false side. For each feature a table says which
    leaves of each tree are still in reach when the feature is between two of its splits. The leaf that a row reaches
    is the lowest bit that is left of all features. The sums are those of onnxruntime, to the last bit: the same
    comparisons, and the same additions in the same order.
    """

    def __init__(self, outputs: int, groups: list[_Group]) -> None:
        self._outputs, self._groups = outputs, groups

    @classmethod
    def of(cls, ensemble: dict[str, Any]) -> Self | None:
        """The masks of a checked ensemble, or None where they are not possible, or not worth it."""
        roots, weights, targets = (ensemble[name] for name in ("tree_roots", "leaf_weights", "leaf_targetids"))
        if len(ensemble["nodes_splits"]) > len(roots) * (MOST_LEAVES - 1) or np.isnan(ensemble["nodes_splits"]).any():
            return None
        trees = _Trees(ensemble)
        leaves = [trees.leaves(int(root)) for root in roots]
        if not trees.once or any(len(found) > MOST_LEAVES or len(np.unique(targets[found])) > 1 for found in leaves):
            return None
        groups = [
            _Group(trees, leaves[first : first + GROUP_TREES], first, weights, targets)
            for first in range(0, len(roots), GROUP_TREES)
        ]
        return cls(int(ensemble["n_targets"]), groups) if all(group.worth_it for group in groups) else None

    def sums(self, matrix: Floats) -> Floats:
        """The sums of encoded rows, of shape (n, outputs); fastest with a matrix in the order of columns."""
        sums = np.zeros((self._outputs, len(matrix)))
        for group in self._groups:
            group.add_to(sums, matrix)
        return sums.T


class _Trees:
    """The nodes of all trees, and of each its tree and the first leaves on its two sides."""

    def __init__(self, ensemble: dict[str, Any]) -> None:
        self.feature, self.split, self.mode, self.missing_true = (
            ensemble[f"nodes_{name}"] for name in ("featureids", "splits", "modes", "missing_value_tracks_true")
        )
        self._children = [
            (ensemble[f"nodes_{side}nodeids"].tolist(), ensemble[f"nodes_{side}leafs"].tolist())
            for side in ("true", "false")
        ]
        self.tree = np.full(len(self.feature), -1)
        self.first, self.middle = np.zeros_like(self.tree), np.zeros_like(self.tree)
        self.once = True
        self._seen = 0

    def leaves(self, root: int) -> list[int]:
        """The leaves of the next tree, from its true side to its false side; tells its nodes where theirs begin."""
        found: list[int] = []
        waiting: list[tuple[int, bool, int]] = [(root, False, -1)]
        while waiting and self.once:
            place, is_leaf, parent = waiting.pop()
            if parent >= 0:
                self.middle[parent] = len(found)
            if is_leaf:
                found.append(place)
                continue
            self.once = self.tree[place] < 0
            self.tree[place], self.first[place] = self._seen, len(found)
            (true, true_leaf), (false, false_leaf) = self._children
            waiting.append((false[place], bool(false_leaf[place]), place))
            waiting.append((true[place], bool(true_leaf[place]), -1))
        self._seen += 1
        return found


class _Group:
    """Some trees: tables of the features that they ask, and what their leaves weigh."""

    def __init__(
        self, trees: _Trees, leaves: list[list[int]], first: int, weights: Floats, targets: NDArray[np.int64]
    ) -> None:
        most = max(map(len, leaves))
        self._targets = [int(targets[found[0]]) for found in leaves]
        self._weights = np.zeros(len(leaves) * most)
        for place, found in enumerate(leaves):
            self._weights[place * most : place * most + len(found)] = weights[found]
        self._before = (np.arange(len(leaves)) * most - 1)[:, None]  # a count of bits begins with 1
        nodes = np.flatnonzero((trees.tree >= first) & (trees.tree < first + len(leaves)))
        kind = np.uint32 if most <= 32 else np.uint64
        features = [
            _Feature(trees, nodes[trees.feature[nodes] == column], range(first, first + len(leaves)), kind)
            for column in np.unique(trees.feature[nodes])
        ]
        self._tables = _joined(sorted(features, key=lambda feature: len(feature.table)))
        self.worth_it = len(self._tables) <= len(leaves)

    def add_to(self, sums: Floats, matrix: Floats) -> None:
        """Add the leaves' weights to sums of shape (outputs, n), tree by tree."""
        codes = [_code(features, matrix) for _, features in self._tables]
        shape = (min(GROUP_ROWS, len(matrix)), len(self._targets))
        reach, other = (np.empty(shape, dtype=self._tables[0][0].dtype) for _ in range(2))
        for start in range(0, len(matrix), GROUP_ROWS):
            here = slice(start, min(start + GROUP_ROWS, len(matrix)))
            reach, other = reach[: here.stop - start], other[: here.stop - start]
            for place, ((table, _), code) in enumerate(zip(self._tables, codes, strict=True)):
                # With a mode other than "raise" NumPy writes straight to `out`.
                table.take(code[here], axis=0, out=other if place else reach, mode="clip")
                if place:
                    np.bitwise_and(reach, other, out=reach)
            np.bitwise_xor(reach, np.subtract(reach, 1, out=other), out=other)
            # A row for each tree: they are added one by one, which is fast along a row.
            bits = np.ascontiguousarray(np.bitwise_count(other).T)
            for target, weights in zip(self._targets, self._weights.take(bits + self._before), strict=True):
                total = sums[target, here]
                np.add(total, weights, out=total)


def _joined(features: list[_Feature]) -> list[tuple[NDArray[Any], list[_Feature]]]:
    """Tables of one feature or several: one look into a table of all their pairs is cheaper than two looks."""
    made = [(features[0].table, features[:1])]
    for feature in features[1:]:
        table, joined = made[-1]
        if len(table) * len(feature.table) <= _MOST_PAIRS:
            made[-1] = ((table[:, None] & feature.table).reshape(-1, table.shape[1]), [*joined, feature])
        else:
            made.append((feature.table, [feature]))
    return made


def _code(features: list[_Feature], matrix: Floats) -> NDArray[np.intp]:
    code = features[0].codes(matrix[:, features[0].column])
    for feature in features[1:]:
        code *= len(feature.table)
        code += feature.codes(matrix[:, feature.column])
    return code


class _Feature:
    """A column of the matrix: its splits in order, and which leaves are in reach between each two of them."""

    def __init__(self, trees: _Trees, nodes: NDArray[np.intp], group: range, kind: type[np.unsignedinteger]) -> None:
        self.column = int(trees.feature[nodes[0]])
        splits, equal = trees.split[nodes], trees.mode[nodes] == EQUAL
        # A number alone is what is at most this number, but above the number before it.
        self._splits = np.unique([*splits, *np.nextafter(splits[equal], -np.inf)])
        values = np.append(self._splits, np.inf)  # one that stands for all up to a split, and one for all above
        table = np.full((len(values) + 1, len(group)), np.iinfo(kind).max, dtype=kind)  # last row: a missing value
        for node in nodes:
            holds = values == trees.split[node] if trees.mode[node] == EQUAL else values <= trees.split[node]
            first, middle = int(trees.first[node]), int(trees.middle[node])
            lost = kind((1 << middle) - (1 << first))
            table[np.append(~holds, not trees.missing_true[node]), trees.tree[node] - group.start] &= ~lost
        self.table = table
        self._above = np.append(self._splits, np.inf)
        self._lay_grid()

    def _lay_grid(self) -> None:
        """Equal cells over the splits: where a number's search begins, which then takes a step or two."""
        finite = self._splits[np.isfinite(self._splits)]
        self._low = float(finite[0]) if len(finite) else 0.0
        with np.errstate(all="ignore"):
            span = float(finite[-1]) - self._low if len(finite) else 0.0
            self._scale = float(np.float64(_CELLS - 2) / span) if span else 1.0
        self._grid: NDArray[np.intp] | None = None
        if np.isfinite(self._scale) and self._scale > 0:
            cells = self._cells(self._splits)
            self._steps = int(np.bincount(cells).max())
            if self._steps <= _MOST_STEPS:
                self._grid = cells.searchsorted(np.arange(_CELLS))

    def _cells(self, numbers: Floats) -> NDArray[np.int32]:
        """The cell of each number, in the order of numbers; any cell for a missing one."""
        with np.errstate(all="ignore"):
            places = (numbers - self._low) * self._scale
            return places.clip(0, _CELLS - 1, out=places).astype(np.int32)

    def codes(self, numbers: Floats) -> NDArray[np.intp]:
        """The row of the table for each number: how many splits are below it."""
        if self._grid is None:
            found = self._splits.searchsorted(numbers)
        else:
            found = self._grid.take(self._cells(numbers), mode="clip")
            for _ in range(self._steps):
                found += numbers > self._above.take(found)
        np.copyto(found, len(self.table) - 1, where=np.isnan(numbers))
        return found
