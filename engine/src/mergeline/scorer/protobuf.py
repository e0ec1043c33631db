"""Reads an ONNX file's one tree ensemble, and refuses a file that holds anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Value = int | bytes
Message = dict[int, list[Value]]

_MODEL = frozenset({1, 2, 7, 8})  # ir_version, producer_name, graph, opset_import
_GRAPH = frozenset({1, 2, 11, 12})  # node, name, input, output
_NODE = frozenset({1, 2, 4, 5, 7})  # input, output, op_type, attribute, domain
_ATTRIBUTE = frozenset({3, 5, 20})  # i, t, type; the name was read before
_KINDS = {
    **dict.fromkeys(("n_targets", "aggregate_function", "post_transform"), 2),
    **dict.fromkeys(("nodes_splits", "nodes_modes", "leaf_weights"), 4),
    **dict.fromkeys(("tree_roots", "leaf_targetids"), 7),
    **{f"nodes_{name}": 7 for name in ("featureids", "missing_value_tracks_true")},
    **{f"nodes_{name}": 7 for name in ("truenodeids", "trueleafs", "falsenodeids", "falseleafs")},
}
"""The attributes that are written, and their type: a number, a tensor, a list of numbers."""
_INT, _INTS = 2, 7
_TENSOR = frozenset({1, 2, 8, 9})  # dims, data_type, name, raw_data
_TYPES = {2: "uint8", 11: "float64"}
_INTS_TAG = 0x40


class GraphError(ValueError):
    """The file is not one tree ensemble and nothing else."""


def read_ensemble(content: bytes) -> dict[str, Any]:
    """The attributes of the file's one TreeEnsemble: numbers, and arrays.

    Only the fields that this package writes are let in, so that the file can name no other file (ONNX may
    keep tensors in files beside it), no other operator and no function.

    Raises:
        GraphError: it holds something else.
    """
    try:
        model = _message(content, _MODEL)
        graph = _message(_one(model, 7), _GRAPH)
        node = _message(_one(graph, 1), _NODE)
        if (_one(node, 4), _one(node, 7)) != (b"TreeEnsemble", b"ai.onnx.ml"):
            raise GraphError("its node is no TreeEnsemble of ai.onnx.ml")
        found = [_attribute(value) for value in node.get(5, ()) if isinstance(value, bytes)]
        if sorted(name for name, _ in found) != sorted(_KINDS):  # of two, the runtime may take the other one
            raise GraphError("its attributes are not those of a TreeEnsemble, each once")
    except (IndexError, ValueError, KeyError, TypeError) as cause:
        raise GraphError(str(cause) or "it is damaged") from cause
    attributes = dict(found)
    if (attributes["aggregate_function"], attributes["post_transform"]) != (1, 0):
        raise GraphError("it does not add up its leaves")
    return attributes


def check_ensemble(attributes: dict[str, Any], *, width: int, outputs: int, leaves: int | None, guarded: bool) -> None:
    """See that every node refers to what is there, so that the runtime reads nothing else.

    Raises:
        GraphError: a node reads a column beyond `width`, goes to a node or leaf that is not below it, or to one that
            another goes to, or a leaf adds to a target beyond `outputs` or (with `leaves`) names a row beyond them.
    """
    features, true, false = (
        _ints(attributes, f"nodes_{name}") for name in ("featureids", "truenodeids", "falsenodeids")
    )
    true_leaf, false_leaf = (_ints(attributes, f"nodes_{name}") for name in ("trueleafs", "falseleafs"))
    missing, targets, roots = (
        _ints(attributes, name) for name in ("nodes_missing_value_tracks_true", "leaf_targetids", "tree_roots")
    )
    splits, modes, weights = (attributes[name] for name in ("nodes_splits", "nodes_modes", "leaf_weights"))
    nodes = len(features)
    known = {len(part) for part in (true, false, true_leaf, false_leaf, missing, splits, modes)}
    if known != {nodes} or len(targets) != len(weights) or attributes["n_targets"] != outputs:
        raise GraphError("its arrays are not of one length")
    _within(features, width, "columns")
    _within(targets, outputs, "targets")
    _within(roots, nodes, "nodes")
    if not np.isin(modes, (0, 4)).all():
        raise GraphError("a node compares in another way than these trees do")
    inner = [roots]
    for child, leaf in ((true, true_leaf), (false, false_leaf)):
        _within(leaf, 2, "flags")
        inner.append(child[leaf == 0])
        _within(child[leaf == 1], len(weights), "leaves")
        _within(child[leaf == 0], nodes, "nodes")
        if (child[leaf == 0] <= np.flatnonzero(leaf == 0)).any():
            raise GraphError("a node goes to one that is not below it")
    if len(np.unique(places := np.concatenate(inner))) < len(places):
        raise GraphError("two trees or branches share a node")
    if leaves is not None:
        named = weights[targets < outputs - guarded]
        if not (np.isfinite(named) & (named >= 0) & (named < leaves)).all():
            raise GraphError("a leaf names a row that is not there")


def _attribute(content: bytes) -> tuple[str, Any]:
    head = _field(content, 0)
    if head is None or head[0] != 1 or not isinstance(head[1], bytes):
        raise GraphError("an attribute without a name")
    name, rest = head[1].decode(), content[head[2] :]
    kind = _KINDS.get(name)
    if kind == _INTS:
        return name, _integers(rest)
    message = _message(rest, _ATTRIBUTE)
    value = 3 if kind == _INT else 5
    if {number: len(values) for number, values in message.items()} != {value: 1, 20: 1} or message[20] != [kind]:
        raise GraphError(f"its attribute {name[:50]!r} is not one value of its type")
    return name, _one_int(message, 3) if kind == _INT else _tensor(_message(_one(message, 5), _TENSOR))


def _integers(content: bytes) -> NDArray[np.int64]:
    """A long list of numbers, each behind its own tag, read at once."""
    stream = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(stream < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    numbers = np.zeros(len(ends), dtype=np.int64)
    for place in range(int((ends - starts).max()) + 1):
        here = starts + place <= ends
        if place > 8:
            raise GraphError("a number is too large")
        numbers[here] |= (stream[starts[here] + place].astype(np.int64) & 0x7F) << (7 * place)
    tags, values = numbers[0::2], numbers[1::2]
    kind = tags == 20 << 3
    if len(tags) != len(values) or not ((tags == _INTS_TAG) | kind).all():
        raise GraphError("an attribute holds more than a list of numbers")
    if (values[kind] != _INTS).any():
        raise GraphError("an attribute is of another type than it says")
    found: NDArray[np.int64] = values[~kind]
    return found


def _tensor(message: Message) -> NDArray[Any]:
    if len(message[2]) != 1:
        raise GraphError("a tensor is of several types")
    kind = _TYPES[int(_one_int(message, 2))]
    values: NDArray[Any] = np.frombuffer(_one(message, 9), dtype=kind)
    if [int(size) for size in message.get(1, ()) if isinstance(size, int)] != [len(values)]:
        raise GraphError("a tensor is not of the size it says")
    return values


def _message(content: bytes, allowed: frozenset[int]) -> Message:
    fields: Message = {}
    for number, value in _fields(content):
        if number not in allowed:
            raise GraphError(f"it holds a field ({number}) that these files do not have")
        fields.setdefault(number, []).append(value)
    return fields


def _fields(content: bytes) -> Iterator[tuple[int, Value]]:
    place = 0
    while (found := _field(content, place)) is not None:
        yield found[0], found[1]
        place = found[2]


def _field(content: bytes, place: int) -> tuple[int, Value, int] | None:
    """The number, the value and the end of the field at `place`."""
    if place >= len(content):
        return None
    tag, place = _varint(content, place)
    number, wire = tag >> 3, tag & 7
    if wire == 0:
        value, place = _varint(content, place)
        return number, value, place
    if wire != 2:
        raise GraphError("it holds a field of an unknown kind")
    size, place = _varint(content, place)
    if place + size > len(content):
        raise GraphError("it is truncated")
    return number, content[place : place + size], place + size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise GraphError("a number is too large")


def _one(message: Message, number: int) -> bytes:
    values = message.get(number, [])
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise GraphError(f"it holds {len(values)} of a part that it must hold once")
    return values[0]


def _one_int(message: Message, number: int) -> int:
    value = message[number][0]
    if not isinstance(value, int):
        raise GraphError("a number is missing")
    return value


def _ints(attributes: dict[str, Any], name: str) -> NDArray[np.int64]:
    values = attributes.get(name)
    if not isinstance(values, np.ndarray) or values.dtype != np.int64:
        raise GraphError(f"{name} is missing")
    return values


def _within(values: NDArray[np.int64], bound: int, what: str) -> None:
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) < bound):
        raise GraphError(f"it refers to {what} beyond {bound}")
