"""Leaf masks give the sums that onnxruntime gives from the same file, bit by bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.scorer.expressions import Layout
from mergeline.scorer.forest import AT_MOST, EQUAL, Forest, Nodes, write_graph
from mergeline.scorer.leaf_masks import LeafMasks
from mergeline.scorer.protobuf import read_ensemble
from mergeline.scorer.runtime import INPUT, OUTPUT, _session

EXTREMES = (-np.inf, -1e308, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.0 + 2**-52, 3e9, 1e308, np.inf)


def plant(nodes, rng, splits, leaves, target):
    """A tree of that many leaves, its root first, which grow at random places."""

    def grow(count):
        if count == 1:
            return nodes.leaf(float(rng.normal()), target), True
        left = int(rng.integers(1, count))
        column = int(rng.integers(len(splits)))
        place = nodes.node(
            column, int(rng.choice([AT_MOST, EQUAL])), float(rng.choice(splits[column])),
            missing_true=bool(rng.random() < 0.5),
        )  # fmt: skip
        for true, part in ((True, left), (False, count - left)):
            to, is_leaf = grow(part)
            nodes.branch(place, true=true, to=to, leaf=is_leaf)
        return place, False

    nodes.roots.append(grow(leaves)[0])


def forest(rng, splits, trees, most_leaves, targets=1):
    nodes = Nodes()
    for number in range(trees):
        plant(nodes, rng, splits, int(rng.integers(2, most_leaves + 1)), number % targets)
    return write_graph(Forest(Layout({}, (), (), ()), nodes, targets, None, guarded=False, splits={}), len(splits))


def rows_at(splits, rng, count):
    """Rows of the splits, the numbers next to them, what is missing, and extremes."""
    made = np.empty((count, len(splits)))
    for column, values in enumerate(splits):
        near = np.concatenate([np.nextafter(values, -np.inf), values, np.nextafter(values, np.inf), EXTREMES, [np.nan]])
        made[:, column] = rng.choice(near, count)
    return made


@given(
    seed=st.integers(0, 10**6), spread=st.sampled_from(["even", "skewed", "few", "extreme"]),
    trees=st.sampled_from([6, 70]), most=st.sampled_from([2, 32, 64]), targets=st.sampled_from([1, 3]),
)  # fmt: skip
def test_the_sums_are_those_of_the_runtime(seed, spread, trees, most, targets):
    rng = np.random.default_rng(seed)
    splits = [
        {
            "even": lambda: rng.normal(size=40), "skewed": lambda: 10 ** rng.uniform(-300, 300, 40),
            "few": lambda: rng.normal(size=2), "extreme": lambda: np.array(EXTREMES),
        }[spread]()
        for _ in range(4)
    ]  # fmt: skip
    graph, rows = forest(rng, splits, trees, most, targets), rows_at(splits, rng, 4200)
    masks = LeafMasks.of(read_ensemble(graph))
    assert masks is not None
    np.testing.assert_array_equal(masks.sums(np.asfortranarray(rows)), _session(graph).run([OUTPUT], {INPUT: rows})[0])
    assert masks.sums(rows[:0]).shape == (0, targets)


@pytest.mark.parametrize(("columns", "leaves"), [(4, 65), (2000, 64)])
def test_deep_trees_and_more_columns_than_trees_are_left_to_the_runtime(columns, leaves):
    nodes, rng = Nodes(), np.random.default_rng(0)
    for _ in range(3):
        plant(nodes, rng, [rng.normal(size=64) for _ in range(columns)], leaves, 0)
    graph = write_graph(Forest(Layout({}, (), (), ()), nodes, 1, None, guarded=False, splits={}), columns)
    assert LeafMasks.of(read_ensemble(graph)) is None
