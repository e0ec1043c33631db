"""Files of a scorer's trees that protobuf, and so the runtime, reads in another way than a careless reader would."""

import onnx
import pytest

from mergeline.errors import ModelError
from mergeline.model.check import check_model


@pytest.fixture
def boosted(trained):
    return trained(model={"factory": "toy.model:boosted", "arguments": {"max_iter": 3, "learning_rate": 0.2}})


def check(folder):
    check_model(folder, name="orders", own=("toy.*",))


def number(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def part(place, value):
    """A field of protobuf: a number, or bytes."""
    if isinstance(value, int):
        return number(place << 3) + number(value)
    return number(place << 3 | 2) + number(len(value)) + value


def integers(name, *values):
    return part(1, name.encode()) + b"".join(part(8, value) for value in values) + part(20, 7)


FAR = 1_000_000
ATTRIBUTES = {
    "a list twice": lambda held: [integers("nodes_featureids", FAR), *held.values()],
    "a list twice the other way round": lambda held: [*held.values(), integers("tree_roots", FAR)],
    "a packed list": lambda held: [
        part(1, b"tree_roots") + part(8, number(FAR)) + part(20, 7) if name == "tree_roots" else content
        for name, content in held.items()
    ],
    "two names": lambda held: [
        content + part(1, b"nodes_modes") if name == "nodes_splits" else content for name, content in held.items()
    ],
    "two values": lambda held: [
        part(1, b"n_targets") + part(3, 1) + part(3, FAR) + part(20, 2) if name == "n_targets" else content
        for name, content in held.items()
    ],
    "a value of two types": lambda held: [
        content + part(3, 5) if name == "leaf_weights" else content for name, content in held.items()
    ],
    "another type than it says": lambda held: [
        content[:-1] + b"\1" if name == "tree_roots" else content for name, content in held.items()
    ],
    "the largest leaf instead of the sum": lambda held: [
        part(1, name.encode()) + part(3, 3) + part(20, 2) if name == "aggregate_function" else content
        for name, content in held.items()
    ],
    "one that no scorer has": lambda held: [*held.values(), integers("nodes_hitrates", 1)],
    "one too few": lambda held: [content for name, content in held.items() if name != "post_transform"],
}


def with_attributes(path, change):
    """Put a scorer's file together again by hand, with other attributes."""
    graph = onnx.load_from_string(path.read_bytes())
    held = {one.name: one.SerializeToString(deterministic=True) for one in graph.graph.node[0].attribute}
    del graph.graph.node[0].attribute[:]
    node = graph.graph.node[0].SerializeToString() + b"".join(part(5, one) for one in change(held))
    del graph.graph.node[:]
    content = part(1, node) + graph.graph.SerializeToString()
    graph.ClearField("graph")
    path.write_bytes(part(7, content) + graph.SerializeToString())


@pytest.mark.parametrize("what", ATTRIBUTES)
def test_a_graph_that_its_runtime_would_read_in_another_way_is_refused(boosted, what):
    with_attributes(boosted / "scorer.onnx", lambda held: [*held.values()])
    check(boosted)
    with_attributes(boosted / "scorer.onnx", ATTRIBUTES[what])
    with pytest.raises(ModelError, match="the scorer cannot be used"):
        check(boosted)


def test_a_node_that_two_lead_to_is_refused(boosted):
    """The runtime takes it for a cycle."""
    path = boosted / "scorer.onnx"
    graph = onnx.load_from_string(path.read_bytes())
    held = {one.name: one for one in graph.graph.node[0].attribute}
    inner = [place for place, leaf in enumerate(held["nodes_falseleafs"].ints) if not leaf]
    shared = next(place for place in inner if not held["nodes_trueleafs"].ints[place])
    held["nodes_truenodeids"].ints[shared] = held["nodes_falsenodeids"].ints[shared]
    path.write_bytes(graph.SerializeToString(deterministic=True))
    with pytest.raises(ModelError, match="share a node"):
        check(boosted)
