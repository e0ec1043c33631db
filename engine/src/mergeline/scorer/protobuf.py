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
_ATTRIBUTE = frozenset({1, 3, 5, 8, 20})  # name, i, t, ints, type
_TENSOR = frozenset({1, 2, 8, 9})  # dims, data_type, name, raw_data
_TYPES: dict[Value, str] = {2: "uint8", 11: "float64"}
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
        return dict(_attribute(value) for value in node.get(5, ()) if isinstance(value, bytes))
    except (IndexError, ValueError, KeyError, TypeError) as cause:
        raise GraphError(str(cause) or "it is damaged") from cause


def check_ensemble(attributes: dict[str, Any], *, width: int, outputs: int, leaves: int | None, guarded: bool) -> None:
    """See that every node refers to what is there, so that the runtime reads nothing else.

    Raises:
        GraphError: a node reads a column beyond `width`, or goes to a node or leaf that is not below it, or a
            leaf adds to a target beyond `outputs` or (with `leaves`) names a row beyond them.
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
    for child, leaf in ((true, true_leaf), (false, false_leaf)):
        _within(leaf, 2, "flags")
        _within(child[leaf == 1], len(weights), "leaves")
        _within(child[leaf == 0], nodes, "nodes")
        if (child[leaf == 0] <= np.flatnonzero(leaf == 0)).any():
            raise GraphError("a node goes to one that is not below it")
    if leaves is not None:
        named = weights[targets < outputs - guarded]
        if not (np.isfinite(named) & (named >= 0) & (named < leaves)).all():
            raise GraphError("a leaf names a row that is not there")


def _attribute(content: bytes) -> tuple[str, Any]:
    number, found, end = next(_fields(content), (0, b"", 0))
    if number != 1 or not isinstance(found, bytes):
        raise GraphError("an attribute without a name")
    name, rest = found.decode(), content[end:]
    if rest[:1] == bytes([_INTS_TAG]):
        return name, _integers(rest)
    message = _message(rest, _ATTRIBUTE)
    if 5 in message:
        return name, _tensor(_message(_one(message, 5), _TENSOR))
    return name, message[3][0] if 3 in message else np.zeros(0, dtype=np.int64)


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
    found: NDArray[np.int64] = values[~kind]
    return found


def _tensor(message: Message) -> NDArray[Any]:
    kind = _TYPES.get(message[2][0])
    if kind is None:
        raise GraphError("a tensor of another kind")
    values: NDArray[Any] = np.frombuffer(_one(message, 9), dtype=kind)
    if message.get(1) != [len(values)]:
        raise GraphError("a tensor is not of the size it says")
    return values


def _message(content: bytes, allowed: frozenset[int]) -> Message:
    fields: Message = {}
    for number, value, _ in _fields(content):
        if number not in allowed:
            raise GraphError(f"it holds a field ({number}) that these files do not have")
        fields.setdefault(number, []).append(value)
    return fields


def _fields(content: bytes) -> Iterator[tuple[int, Value, int]]:
    """The number, the value and the end of each field."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        value: Value
        if tag & 7 == 0:
            value, place = _varint(content, place)
        elif tag & 7 == 2:
            size, place = _varint(content, place)
            value, place = content[place : place + size], place + size
        else:
            raise GraphError("it holds a field of an unknown kind")
        if place > len(content):
            raise GraphError("it is truncated")
        yield tag >> 3, value, place


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


def _ints(attributes: dict[str, Any], name: str) -> NDArray[np.int64]:
    values = attributes.get(name)
    if not isinstance(values, np.ndarray) or values.dtype != np.int64:
        raise GraphError(f"{name} is missing")
    return values


def _within(values: NDArray[np.int64], bound: int, what: str) -> None:
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) < bound):
        raise GraphError(f"it refers to {what} beyond {bound}")
