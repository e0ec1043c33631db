"""Reads scikit-learn's fitted trees into one plain form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.scorer.program import Floats

LEAF = -1


@dataclass(frozen=True)
class Categories:
    """A split by sets of categories: those that go left, and those that training saw (others are as if missing)."""

    left: frozenset[int]
    known: frozenset[int]

    def goes_left(self, values: Floats, missing_left: bool) -> NDArray[np.bool_]:
        """Where each value goes, as gradient boosting's predictor decides."""
        codes = [int(value) & 0xFF if value >= 0 else -1 for value in values]
        return np.array(
            [code in self.left or (code not in self.known and missing_left) for code in codes],
            dtype=bool,
        )


@dataclass(frozen=True)
class Tree:
    """One tree, nodes in arrays; a leaf's `left` is -1.

    `values` has shape (nodes, targets): what a leaf adds to each target. `categories` holds the splits by
    sets, by node; all others go left where the feature is at most the threshold.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    values: Floats
    categories: dict[int, Categories]


def read_tree(tree: Any, *, targets: int, columns: slice | NDArray[np.int64], factor: float = 1.0) -> Tree:
    """A tree of `sklearn.tree`, whose leaf adds `factor` times its values to the targets in `columns`."""
    found = tree.value[:, 0, :]
    values = np.zeros((tree.node_count, targets))
    values[:, columns] = factor * found
    return Tree(
        tree.feature.astype(np.int64),
        tree.threshold.astype(np.float64),
        tree.children_left.astype(np.int64),
        tree.children_right.astype(np.int64),
        tree.missing_go_to_left.astype(bool),
        values,
        {},
    )


def read_boosted_tree(predictor: Any, *, target: int, targets: int, known: Any, known_row: Any) -> Tree:
    """A tree of histogram gradient boosting; `known` and `known_row` are its bin mapper's known categories."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    values = np.zeros((len(nodes), targets))
    values[:, target] = nodes["value"]
    categories = {
        int(place): Categories(
            _members(predictor.raw_left_cat_bitsets[nodes[place]["bitset_idx"]]),
            _members(known[known_row[nodes[place]["feature_idx"]]]),
        )
        for place in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf)
    }
    return Tree(
        nodes["feature_idx"].astype(np.int64),
        nodes["num_threshold"].astype(np.float64),
        np.where(leaf, LEAF, nodes["left"].astype(np.int64)),
        np.where(leaf, LEAF, nodes["right"].astype(np.int64)),
        nodes["missing_go_to_left"].astype(bool),
        values,
        categories,
    )


def _members(bitset: Any) -> frozenset[int]:
    words = [int(word) for word in bitset]
    return frozenset(32 * place + bit for place, word in enumerate(words) for bit in range(32) if word >> bit & 1)
