"""Writes a fitted pipeline as the same bytes in every run."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from mergeline.files import pack_zip

SCHEMA = "schema.json"


def dumps(pipeline: Any) -> bytes:
    """The pipeline in skops' format, one byte string for one model.

    skops names parts by memory address, and zip files hold times: both are replaced by order of
    appearance and a fixed time. Members are stored, not compressed, since compressors differ.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(pipeline))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop(SCHEMA))
    names = _renumber(schema)
    parts = {names[name]: _canonical_part(name, content) for name, content in members.items()}
    parts[SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    return pack_zip(parts)


def _renumber(schema: Any) -> dict[str, str]:
    """Replace ids and file names in `schema` by order of appearance; returns the new name of each file."""
    ids: dict[int, int] = {}
    files: dict[str, str] = {}
    counter = itertools.count(1)
    for node in _nodes(schema):
        if "__id__" in node:
            # Whether two equal literals are one object is the interpreter's whim: each gets a number of its own.
            literal = node.get("is_json", False)
            node["__id__"] = next(counter) if literal else ids.setdefault(node["__id__"], next(counter))
        if isinstance(node.get("file"), str):
            suffix = PurePosixPath(node["file"]).suffix
            node["file"] = files.setdefault(node["file"], f"{len(files) + 1:04d}{suffix}")
        # The bin mapper of gradient boosting keeps the thread count of the machine that trained it.
        if node.get("__class__") == "_BinMapper":
            node["content"]["content"]["n_threads"]["content"] = "1"
    return files


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)


def _canonical_part(name: str, content: bytes) -> bytes:
    """A sparse matrix is a zip file inside the zip file."""
    if not name.endswith(".npz"):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return pack_zip({member: archive.read(member) for member in archive.namelist()})


def mlflow_description(trusted_types: Iterable[str]) -> str:
    """The text of `MLmodel`: no time, id or version is in it, so that one model is one digest.

    Args:
        trusted_types: the types in `model.skops` that skops does not trust by itself.
    """
    named = sorted(trusted_types)
    types = "".join(f"\n    - {name}" for name in named) if named else " []"
    return f"""\
flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.skops
    predict_fn: predict
  sklearn:
    pickled_model: model.skops
    serialization_format: skops
    skops_trusted_types:{types}
"""
