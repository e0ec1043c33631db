"""Reads scikit-learn's fitted trees, and puts them, with guards beside them, into the nodes of an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.scorer.expressions import (
    Chain,
    Feature,
    Guard,
    Layout,
    NotCompilableError,
    Op,
    Raw,
    Table,
    after,
    lay_out,
    make_table,
    split_foldable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mergeline.scorer.estimators import Trees
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


AT_MOST, EQUAL = 0, 4
"""ONNX's BRANCH_LEQ and BRANCH_EQ. onnxruntime 1.31 loses its way with the other two that would serve here:
BRANCH_NEQ where a value is missing, and BRANCH_MEMBER."""

WIDE = 64
"""With more one-hot columns than this, a column is compared with a category's number instead."""

GREATEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Test:
    """What a node asks of a feature; `flipped` where a yes goes right."""

    feature: Feature
    mode: int
    value: float
    missing_left: bool
    flipped: bool = False


@dataclass
class Nodes:
    """The nodes and leaves of all trees, as ONNX wants them.

    A row of `rows` is a node: its column, mode and number, whether a missing value goes to the true side, then for the
    true and for the false side where it goes, and whether that is a leaf.
    """

    rows: list[list[Any]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    target: list[int] = field(default_factory=list)

    def leaf(self, weight: float, target: int) -> int:
        """Add a leaf."""
        self.weight.append(weight)
        self.target.append(target)
        return len(self.weight) - 1

    def node(self, feature: int, mode: int, value: float, *, missing_true: bool) -> int:
        """Add a node whose branches are not yet set."""
        self.rows.append([feature, mode, value, int(missing_true), 0, 1, 0, 1])
        return len(self.rows) - 1

    def branch(self, node: int, *, true: bool, to: int, leaf: bool) -> None:
        """Say where a node's branch goes."""
        side = 4 if true else 6
        self.rows[node][side : side + 2] = to, int(leaf)


@dataclass(frozen=True)
class Forest:
    """Trees over the columns of a matrix.

    `splits` are the numbers at which the record's own columns are split, by column.
    """

    layout: Layout
    nodes: Nodes
    outputs: int
    leaves: Floats | None
    guarded: bool
    splits: dict[int, Floats]


def grow(sums: Trees, guards: Sequence[Guard]) -> Forest:
    """Put trees and guards into nodes.

    Raises:
        NotCompilableError: a split by categories on a number that was computed.
    """
    tests = _tests(sums)
    stumps = [_stump(guard) for guard in guards]
    layout = lay_out([*(test.feature for test in tests.values()), *(low.feature for low, _ in stumps)])
    planted = _Planted(tests, layout, by_leaf=any(_only_target(tree) is None for tree in sums.trees))
    for number, tree in enumerate(sums.trees):
        planted.plant(number, tree)
    for low, high in stumps:
        planted.guard(low, high, len(sums.trees) if planted.by_leaf else 0)
    outputs = len(sums.trees) + bool(stumps) if planted.by_leaf else sums.trees[0].values.shape[1]
    leaves = np.array(planted.rows) if planted.by_leaf else None
    guarded = planted.by_leaf and bool(stumps)
    return Forest(layout, planted.nodes, outputs, leaves, guarded, _splits(list(tests.values())))


def _only_target(tree: Tree) -> int | None:
    """The one target that a tree adds to, or None."""
    touched = np.flatnonzero(tree.values[tree.left < 0].any(axis=0))
    return int(touched[0]) if len(touched) == 1 else None if len(touched) else 0


def _tests(sums: Trees) -> dict[tuple[int, int], Test]:
    """What each node of each tree asks."""
    asked: dict[int, list[tuple[int, int]]] = {}
    for number, tree in enumerate(sums.trees):
        for node in np.flatnonzero(tree.left >= 0):
            asked.setdefault(int(tree.feature[node]), []).append((number, int(node)))
    tables: dict[int, set[Feature]] = {}
    for place in asked:
        feature = sums.features[place]
        if isinstance(feature, Table):
            tables.setdefault(feature.source, set()).add(feature)
    tests: dict[tuple[int, int], Test] = {}
    for place, where in sorted(asked.items()):
        feature = sums.features[place]
        if isinstance(feature, Table):
            wide = len(tables[feature.source]) > WIDE
            tests.update({at: _ask_table(feature, sums.trees[at[0]], at[1], wide=wide) for at in where})
        else:
            tests.update(_ask_chain(feature, sums.trees, where))
    return tests


def _ask_chain(chain: Chain, trees: Sequence[Tree], where: list[tuple[int, int]]) -> dict[tuple[int, int], Test]:
    if any(node in trees[number].categories for number, node in where):
        raise NotCompilableError("categories are computed numbers", where="HistGradientBoosting")
    first, rest = split_foldable(chain.ops)
    thresholds = np.array([trees[number].threshold[node] for number, node in where])
    moved = fold(rest, thresholds)
    missing = after(rest, [np.nan])[0]
    column = Chain(chain.base, first)
    tests = {}
    for at, old, new in zip(where, thresholds, moved, strict=True):
        left = bool(trees[at[0]].missing_left[at[1]]) if np.isnan(missing) else bool(missing <= old)
        tests[at] = Test(column, AT_MOST, float(new), left)
    return tests


def _ask_table(table: Table, tree: Tree, node: int, *, wide: bool) -> Test:
    values = np.asarray(table.values)
    missing_left = bool(tree.missing_left[node])
    if node in tree.categories:
        left = tree.categories[node].goes_left(values, missing_left)
        side = make_table(table.source, numeric=table.numeric, keys=table.keys, values=np.where(left, 0.0, 1.0))
        return Test(side, AT_MOST, 0.5, missing_left)
    threshold = float(tree.threshold[node])
    left = np.where(np.isnan(values), missing_left, values <= threshold)
    alone = int(left.sum()) == 1 or int((~left).sum()) == 1
    if not (wide and alone):
        return Test(table, AT_MOST, threshold, missing_left)
    flipped = int(left.sum()) != 1
    number = make_table(table.source, numeric=table.numeric, keys=table.keys, values=np.arange(len(values)))
    return Test(number, EQUAL, float(np.flatnonzero(~left if flipped else left)[0]), missing_left, flipped)


def _stump(guard: Guard) -> tuple[Test, Test]:
    """Two tests of a guarded feature: it is too low, or missing; it is not too high."""
    feature = guard.feature
    if isinstance(feature, Table):
        return Test(feature, AT_MOST, -np.inf, False), Test(feature, AT_MOST, GREATEST, guard.nan_ok)
    first, rest = split_foldable(feature.ops)
    missing = after(rest, [np.nan])[0]
    fits = bool(guard.nan_ok if np.isnan(missing) else np.isfinite(missing))
    low, high = fold(rest, np.array([-np.inf, GREATEST]))
    column = Chain(feature.base, first)
    return Test(column, AT_MOST, float(low), False), Test(column, AT_MOST, float(high), fits)


class _Planted:
    """Trees on their way into nodes; with `by_leaf` a leaf weighs its row in the table of leaves."""

    def __init__(self, tests: dict[tuple[int, int], Test], layout: Layout, *, by_leaf: bool) -> None:
        self._tests, self._layout, self.by_leaf = tests, layout, by_leaf
        self.nodes = Nodes()
        self.rows: list[Floats] = []

    def plant(self, number: int, tree: Tree) -> None:
        """Add a tree."""
        ids: dict[int, int] = {}
        inner = [int(node) for node in np.flatnonzero(tree.left >= 0)]
        for node in inner:
            test = self._tests[number, node]
            missing_true = test.missing_left != test.flipped
            place = self._layout.place[test.feature]
            ids[node] = self.nodes.node(place, test.mode, test.value, missing_true=missing_true)
        self.nodes.roots.append(ids[0])
        for node in inner:
            flipped = self._tests[number, node].flipped
            for child, left in ((int(tree.left[node]), True), (int(tree.right[node]), False)):
                to = ids[child] if child in ids else self._leaf(number, tree, child)
                self.nodes.branch(ids[node], true=left != flipped, to=to, leaf=child not in ids)

    def _leaf(self, number: int, tree: Tree, node: int) -> int:
        target = _only_target(tree)
        if not self.by_leaf and target is not None:
            return self.nodes.leaf(float(tree.values[node, target]), target)
        self.rows.append(tree.values[node])
        return self.nodes.leaf(float(len(self.rows) - 1), number)

    def guard(self, low: Test, high: Test, target: int) -> None:
        """Add NaN to a target where a guarded feature is not as it must be, and 0 elsewhere."""
        nodes, place = self.nodes, self._layout.place[low.feature]
        root = nodes.node(place, AT_MOST, high.value, missing_true=high.missing_left)
        deeper = nodes.node(place, AT_MOST, low.value, missing_true=False)
        nodes.roots.append(root)
        nodes.branch(root, true=True, to=deeper, leaf=False)
        nodes.branch(root, true=False, to=nodes.leaf(float("nan"), target), leaf=True)
        nodes.branch(deeper, true=True, to=nodes.leaf(float("nan"), target), leaf=True)
        nodes.branch(deeper, true=False, to=nodes.leaf(0.0, target), leaf=True)


def _splits(tests: Sequence[Test]) -> dict[int, Floats]:
    found: dict[int, set[float]] = {}
    for test in tests:
        if isinstance(test.feature, Chain) and isinstance(test.feature.base, Raw) and not test.feature.ops:
            found.setdefault(test.feature.base.source, set()).add(test.value)
    return {source: np.array(sorted(values)) for source, values in sorted(found.items())}


def fold(ops: Sequence[Op], thresholds: Floats) -> Floats:
    """For each threshold t the largest number x with `ops(x) <= t`, -inf where there is none above it.

    The operations keep the order of floating-point numbers, rounding included, so that the numbers x with
    `ops(x) <= t` are all those up to one: it is found by bisection over the numbers themselves.
    """
    if not ops:
        return thresholds.astype(np.float64)
    low = np.full(thresholds.shape, _rank(np.array([-np.inf]))[0], dtype=np.int64)
    high = np.full(thresholds.shape, _rank(np.array([np.inf]))[0], dtype=np.int64)
    while (low < high).any():
        middle = (low | high) - ((low ^ high) >> 1)  # the upper mean; a difference could leave 64 bits
        fits = after(ops, _number(middle)) <= thresholds
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    return _number(low)


def _rank(numbers: Floats) -> NDArray[np.int64]:
    """Whole numbers in the order of the floating-point numbers, one step for each."""
    bits = numbers.view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _number(ranks: NDArray[np.int64]) -> Floats:
    bits = np.where(ranks < 0, np.int64(-(2**63)) - ranks, ranks)
    return bits.view(np.float64)


ML_VERSION, IR_VERSION, VERSION = 5, 10, 21
INPUT, OUTPUT = "x", "y"


def write_graph(forest: Forest, width: int) -> bytes:
    """The file's bytes, the same for the same forest; `width` is the number of the matrix's columns."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = forest.nodes
    feature, mode, value, missing_true, true, true_is_leaf, false, false_is_leaf = zip(*nodes.rows, strict=True)

    def tensor(name: str, values: Sequence[Any], kind: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, dtype=kind), name)

    node = helper.make_node(
        "TreeEnsemble",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        n_targets=forest.outputs,
        aggregate_function=1,
        post_transform=0,
        tree_roots=nodes.roots,
        nodes_featureids=feature,
        nodes_splits=tensor("splits", value, np.float64),
        nodes_modes=tensor("modes", mode, np.uint8),
        nodes_missing_value_tracks_true=missing_true,
        nodes_truenodeids=true,
        nodes_trueleafs=true_is_leaf,
        nodes_falsenodeids=false,
        nodes_falseleafs=false_is_leaf,
        leaf_targetids=nodes.target,
        leaf_weights=tensor("weights", nodes.weight, np.float64),
    )
    graph = helper.make_graph(
        [node],
        "scorer",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, forest.outputs])],
    )
    opsets = [helper.make_opsetid("", VERSION), helper.make_opsetid("ai.onnx.ml", ML_VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mergeline")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
