"""Checks that a model folder can be served and holds nothing that a loader must not meet, without running any of it."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mergeline.documents import MAX_BYTES, parse_json
from mergeline.errors import ModelError
from mergeline.model.artifact import (
    LINEAGE_FILE,
    MLFLOW_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    SCHEMA,
    SIGNATURE_FILE,
    folder_files,
    mlflow_description,
    mlflow_types,
    read_part,
)
from mergeline.model.lineage import ModelLineage
from mergeline.model.trust import require_trusted, untrusted
from mergeline.params import Task
from mergeline.scorer.program import Program
from mergeline.scorer.protobuf import read_ensemble
from mergeline.scorer.signature import Output, Signature
from mergeline.scorer.stored import ARRAYS_FILE, GRAPH_FILE, SCORER_FILE, read_document, read_scorer

_REQUIRED = frozenset({MODEL_FILE, SIGNATURE_FILE, LINEAGE_FILE})
_FILES = _REQUIRED | {PROFILE_FILE, MLFLOW_FILE, SCORER_FILE, ARRAYS_FILE, GRAPH_FILE}
_MAX_DEPTH = 200
_PROTOCOLS = (1, 2)
"""Of skops: in an older file a function has two names, and what a newer one means nobody here knows."""
_BLOCK = 1_000_000  # numbers that are compared at a time
_AGAIN = "train the model again: mergeline propose"
_DAMAGED = (
    OSError, ValueError, LookupError, TypeError, EOFError, ArithmeticError, RuntimeError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What zipfile, NumPy and walking through JSON raise: a newer form of zip files is a NotImplementedError."""

_LOADERS = frozenset(
    {
        "BytearrayNode", "BytesNode", "CachedNode", "ConstructorFromReduceNode", "DTypeNode", "DefaultDictNode",
        "DictNode", "FunctionNode", "JsonNode", "ListNode", "LossNode", "MaskedArrayNode", "MethodNode", "NdArrayNode",
        "ObjectNode", "PartialNode", "RandomGeneratorNode", "RandomStateNode", "SetNode", "SliceNode",
        "SparseMatrixNode", "TreeNode", "TupleNode", "TypeNode",
    }
)  # fmt: skip
_SAFE = re.compile(
    r"builtins\.(?:NoneType|bool|bytearray|bytes|complex|dict|float|frozenset|int|list|map|set|slice|str|tuple)"
    r"|numpy\.(?:ndarray|ma(?:\.core)?\.MaskedArray|random\.(?:mtrand\.)?RandomState|random\._generator\.Generator|dtypes\.\w+DType)"
    r"|scipy\.special(?:\._\w+)?\.(?!test$)[a-z]\w*"
    r"|(?:sklearn\.(?:\w+\.)+)?_(?:loss|sgd_fast)\.[A-Z]\w*"
)
"""What skops loads of itself, beside NumPy's functions of numbers and its types of numbers."""


_SCALED = frozenset(
    {
        "AdaBoostClassifier", "GaussianNB", "GradientBoostingClassifier", "GradientBoostingRegressor",
        "VotingClassifier", "VotingRegressor",
    }
)  # fmt: skip
"""Whose numbers are multiplied or added up on the way into a scorer."""


def check_model(folder: Path, *, name: str, own: tuple[str, ...]) -> None:
    """See that a model folder is one that the server of this project can load.

    Looked at are the files' names, sizes and shapes, the types that `model.skops` names, the signature, the scorer, and
    that the scorer's texts and numbers are the pipeline's. That both give the same scores was proven in training; it
    cannot be proven again without running the pipeline.

    Args:
        folder: the model folder, whoever made it.
        name: the project's name, as params.yaml gives it.
        own: the team's types, as `ModelParams.trusted` gives them.

    Raises:
        UntrustedTypeError: the pipeline names a type that no loader would take.
        ModelError: something else of it cannot be served; it says what.
    """
    _check_names(folder)
    lineage = read_part(folder / LINEAGE_FILE, ModelLineage)
    signature = read_part(folder / SIGNATURE_FILE, Signature)
    _check_signature(signature, lineage, name, str(folder / SIGNATURE_FILE))
    if (folder / PROFILE_FILE).exists():
        parse_json((folder / PROFILE_FILE).read_bytes(), str(folder / PROFILE_FILE), ModelError)
    pipeline = _read_pipeline(folder / MODEL_FILE)
    require_trusted(pipeline.names, own, str(folder / MODEL_FILE))
    _check_mlflow(folder / MLFLOW_FILE, own)
    _check_scorer(folder, signature, pipeline)


def _check_names(folder: Path) -> None:
    names = set(folder_files(folder))
    if odd := sorted(names - _FILES):
        raise ModelError(f"no model has a file {odd[0]!r}", where=str(folder), hint=f"take it out, or {_AGAIN}")
    if missing := sorted(_REQUIRED - names):
        raise ModelError("a part of the model is missing", where=str(folder / missing[0]), hint=_AGAIN)


def _check_signature(signature: Signature, lineage: ModelLineage, name: str, where: str) -> None:
    output, names = signature.output, signature.names
    data, model = lineage.training.get("data"), lineage.training.get("model")
    said = {"task": output.task, "target": output.target, "id": signature.id, "time": signature.time}
    trained = {"task": lineage.training.get("task", output.task)} | {
        key: data.get(key) if isinstance(data, dict) else said[key] for key in ("target", "id", "time")
    }
    for key, section in (("positive", data), ("threshold", model)):
        stated = section.get(key) if isinstance(section, dict) else None
        if output.task is Task.BINARY and stated is not None and not (key == "threshold" and isinstance(stated, str)):
            said[key], trained[key] = getattr(output, key), stated  # a text names how the threshold is tuned
    roles = [role for role in (output.target, signature.id, signature.time, *signature.metadata) if role]
    wrong = [
        f"{key} is {said[key]!r}, it was trained for {trained[key]!r}" for key in said if said[key] != trained[key]
    ]
    if signature.name != name:
        wrong.append(f"it is the signature of {signature.name!r}, not of {name!r}")
    if not names or len(set(names)) < len(names) or set(names) & set(roles):
        wrong.append("its columns are not one for each input")
    for column in signature.columns:
        low, high = (-math.inf if column.minimum is None else column.minimum), column.maximum
        if not math.isfinite(column.minimum or 0) or not math.isfinite(high or 0) or (high is not None and low > high):
            wrong.append(f"the bounds of {column.name!r} are {column.minimum} and {high}")
    wrong += _wrong_output(output)
    if wrong:
        raise ModelError("; ".join(wrong)[:500], where=where, hint=_AGAIN)


def _wrong_output(output: Output) -> Iterator[str]:
    classes = len({(type(label), label) for label in output.classes})
    if classes < len(output.classes):
        yield "a class is there twice"
    if output.task is Task.BINARY:
        if classes != 2 or output.positive not in output.classes:
            yield f"a binary task has two classes, and one of them is positive; here {list(output.classes)[:5]}"
        if output.threshold is None or not 0 < output.threshold <= 1:
            yield f"the threshold is {output.threshold}, which is not above 0 and at most 1: set model.threshold"
        return
    if output.task is Task.MULTICLASS and classes < 2:
        yield f"a multiclass task has two classes or more, here {classes}"
    if output.task is Task.REGRESSION and classes:
        yield "a regression has no classes"
    if output.threshold is not None or output.positive is not None:
        yield f"a {output.task} task has neither a positive class nor a threshold"


@dataclass
class _Pipeline:
    """What `model.skops` names and holds."""

    names: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    arrays: list[np.ndarray[Any, Any]] = field(default_factory=list)
    numbers: set[float] = field(default_factory=set)

    def holds(self, wanted: np.ndarray[Any, Any]) -> bool:
        """Whether each of the numbers, but for 0 and NaN, is one of the pipeline's."""
        left = np.unique(wanted[np.isfinite(wanted) & (wanted != 0)])
        left = left[~np.isin(left, np.array(sorted(self.numbers), dtype=np.float64))]
        for array in self.arrays:
            for start in range(0, len(array) if len(left) else 0, _BLOCK):
                left = left[~np.isin(left, array[start : start + _BLOCK].astype(np.float64))]
        return not len(left)


def _read_pipeline(path: Path) -> _Pipeline:
    found = _Pipeline()
    try:
        with zipfile.ZipFile(path) as archive:
            members = _stored(archive)
            schema = parse_json(archive.read(members.pop(SCHEMA)), f"{path}: {SCHEMA}", ModelError)
            protocol = schema.get("protocol") if isinstance(schema, dict) else None
            if type(protocol) is not int or protocol not in _PROTOCOLS:
                raise ValueError(f"it is in form {str(protocol)[:20]} of skops, and {_PROTOCOLS} are known here")
            _read_nodes(schema, set(members), found)
            for name, member in members.items():
                _read_member(name, archive.read(member), found)
    except _DAMAGED as cause:
        raise ModelError(f"not a pipeline that skops stores: {cause}"[:500], where=str(path), hint=_AGAIN) from None
    return found


def _stored(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members, of which none is compressed: what takes little room in the file takes little in memory."""
    infos = archive.infolist()
    if len({info.filename for info in infos}) < len(infos):
        raise ValueError("a member is there twice")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise ValueError(f"{info.filename} is compressed")
    if sum(info.file_size for info in infos) > archive.start_dir:
        raise ValueError("members share their bytes")
    return {info.filename: info for info in infos}


def _read_nodes(schema: Any, members: set[str], found: _Pipeline) -> None:
    waiting, named = [(schema, 0)], set()
    while waiting:
        node, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"it nests more than {_MAX_DEPTH} levels deep")
        if isinstance(node, dict):
            waiting += [(child, depth + 1) for child in node.values()]
            if isinstance(node.get("file"), str):
                named.add(node["file"])
            if "__loader__" in node:
                _read_node(node, found)
        elif isinstance(node, list):
            waiting += [(child, depth + 1) for child in node]
    if named != members:
        raise ValueError("its members are not those that its schema names")


def _read_node(node: dict[str, Any], found: _Pipeline) -> None:
    loader, name = node["__loader__"], ".".join((node["__module__"], node["__class__"]))
    if loader not in _LOADERS:
        raise ValueError(f"it holds a {str(loader)[:50]}, which no fitted pipeline needs")
    if loader == "JsonNode":
        _read_literal(json.loads(node["content"]), found)
        return
    if loader == "MethodNode":
        found.names.add(f"{name}.{node['content']['func']}")
    if loader == "RandomGeneratorNode":  # NumPy makes what is named here
        kind = json.loads(node["content"]["bit_generator"]["content"]["bit_generator"]["content"])
        made = getattr(np.random, str(kind), None)
        if not (isinstance(made, type) and issubclass(made, np.random.BitGenerator)):
            found.names.add(f"numpy.random.{kind}")
    if not _is_safe(name):
        found.names.add(name)


def _read_literal(value: Any, found: _Pipeline) -> None:
    if isinstance(value, str):
        found.texts.add(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found.numbers.add(float(value))
    elif isinstance(value, list):
        for item in value:
            _read_literal(item, found)


def _is_safe(name: str) -> bool:
    package, _, rest = name.partition(".")
    if package == "numpy" and rest.isidentifier():
        known = getattr(np, rest, None)
        if isinstance(known, np.ufunc) or (isinstance(known, type) and issubclass(known, np.generic)):
            return True
    return _SAFE.fullmatch(name) is not None


def _read_member(name: str, content: bytes, found: _Pipeline) -> None:
    suffix = Path(name).suffix
    if suffix == ".npz":  # a sparse matrix
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member, inside in _stored(archive).items():
                if not member.endswith(".npy"):  # one in another in another fills the memory
                    raise ValueError(f"a matrix has a part {member[:50]!r}")
                _read_member(member, archive.read(inside), found)
    elif suffix == ".npy":
        array = _array(content)
        for values in [array[field] for field in array.dtype.names] if array.dtype.names else [array]:
            if values.dtype.kind == "f":
                found.arrays.append(values.ravel(order="K"))
        if array.dtype.names:
            _check_nodes(array)
    elif suffix != ".bin":
        raise ValueError(f"no pipeline has a member {name[:50]!r}")


def _array(content: bytes) -> np.ndarray[Any, Any]:
    """A NumPy array, if it is of plain values and has the size that it says."""
    stream = io.BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, by_column, kind = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as cause:  # the header is read as Python, and raises what Python's tokenizer does
        raise ValueError(f"an array without a header: {cause}") from cause
    if kind.hasobject:
        raise ValueError("it holds pickled objects")
    plain = all(type(size) is int and 0 <= size < 2**31 for size in shape)
    if not plain or math.prod(shape) * max(kind.itemsize, 1) != len(content) - stream.tell():
        raise ValueError("an array is not of the size that it says")
    return np.ndarray(shape, kind, content, stream.tell(), order="F" if by_column else "C")  # a view: nothing is copied


def _check_nodes(nodes: np.ndarray[Any, Any]) -> None:
    """scikit-learn follows a tree's nodes without looking: each must go to one that is below it."""
    names = set(nodes.dtype.names or ())
    for left, right in (("left_child", "right_child"), ("left", "right")):
        if not {left, right} <= names:
            continue
        inner = nodes[left] != -1 if left == "left_child" else nodes["is_leaf"] == 0
        for side in (left, right):
            below = nodes[side].astype(np.int64)[inner]
            if (below <= np.flatnonzero(inner)).any() or (below >= len(nodes)).any():
                raise ValueError("a tree's node goes to one that is not below it")


def _check_mlflow(path: Path, own: tuple[str, ...]) -> None:
    """MLflow loads what `MLmodel` names: it must be what training writes, about types that are trusted."""
    if not path.exists():
        return
    text = path.read_bytes()[:MAX_BYTES].decode(errors="replace")
    named = mlflow_types(text)
    if text != mlflow_description(named) or untrusted(named, own):
        raise ModelError("not the text that training writes", where=str(path), hint=_AGAIN)


def _check_scorer(folder: Path, signature: Signature, pipeline: _Pipeline) -> None:
    where = str(folder / SCORER_FILE)
    document, parts = read_document(folder), {name for name in (ARRAYS_FILE, GRAPH_FILE) if (folder / name).exists()}
    if document is None or document.program is None:
        if parts or (document is not None and not document.reason):
            raise ModelError("there are parts of a scorer, and no scorer", where=where, hint=_AGAIN)
        return
    try:
        with zipfile.ZipFile(folder / ARRAYS_FILE) as archive:
            for member in _stored(archive).values():
                _array(archive.read(member))
    except _DAMAGED as cause:
        raise ModelError(f"the scorer cannot be used: {cause}", where=where, hint=_AGAIN) from None
    read = read_scorer(folder, signature)
    if read is None:
        return
    program, graph = read
    if parts != {ARRAYS_FILE} | ({GRAPH_FILE} if graph else set()) or document.proof is None:
        raise ModelError("its parts are not those of one scorer", where=where, hint=_AGAIN)
    texts = {str(key) for lookup in program.lookups if not lookup.numeric for key in lookup.keys}
    if not texts <= pipeline.texts or not pipeline.holds(_numbers_of(program, graph, pipeline)):
        raise ModelError("the scorer is made of another pipeline than the one beside it", where=where, hint=_AGAIN)


def _numbers_of(program: Program, graph: bytes | None, pipeline: _Pipeline) -> np.ndarray[Any, Any]:
    """Numbers of a scorer that stand in its pipeline as they are: a linear model's intercepts, a forest's leaves.

    What is multiplied or added up on the way from the one to the other is left out.
    """
    kinds = {name.rpartition(".")[2] for name in pipeline.names}
    if kinds & _SCALED:
        return np.zeros(0)
    if program.sums.weights is not None:
        return program.base if program.sums.weights.any() else np.zeros(0)  # of trees that are one leaf each
    if graph is None:
        return np.zeros(0)
    if program.sums.leaves is not None:
        return program.sums.leaves.ravel()
    weights: np.ndarray[Any, Any] = read_ensemble(graph)["leaf_weights"]
    return weights
