"""Reads what `dvc.lock` names, and nothing that DVC itself would refuse."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mergeline.documents import parse_plain, read_text
from mergeline.errors import DocumentError
from mergeline.store.objects import object_path

_MODEL = "model"
LOCK_FILE = Path("dvc.lock")
_STAGE_LINE = re.compile(r"  (\S.*):")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
# As in `dvc.schema`: LOCKFILE_SCHEMA, LOCK_FILE_STAGE_SCHEMA and DATA_SCHEMA. The base installs without DVC.
_LOCK_KEYS = frozenset({"schema", "stages", "datasets"})
_STAGE_KEYS = frozenset({"cmd", "deps", "params", "outs"})
_FILE_KEYS = frozenset(
    {"path", "hash", "md5", "etag", "checksum", "size", "nfiles", "isexec", "version_id", "cloud", "files", "dataset"}
)


class LockedOutput(NamedTuple):
    """One output of a stage: its path, and its object in the store, as `files/md5/ab/cdef…`."""

    stage: str
    path: str
    object: str


def locked_model(root: Path) -> str:
    """The store's object of the model folder, as `files/md5/ab/cdef….dir`; empty where the lock names none.

    Raises:
        DocumentError: the lock is missing, or is none.
    """
    file = root / LOCK_FILE
    return model_object(read_text(file), str(file))


def model_object(text: str, where: str = str(LOCK_FILE)) -> str:
    """The object of the model folder that the text of a lock names; empty where it names none.

    Raises:
        DocumentError: the text is not empty, and not a lock.
    """
    outputs = locked_outputs(locked_stages(text, where), where) if text.strip() else ()
    return next((output.object for output in outputs if output.path == _MODEL), "")


def locked_stages(text: str, where: str = str(LOCK_FILE)) -> dict[str, dict[str, Any]]:
    """The stages of the text of a lock, by name.

    Raises:
        DocumentError: it is not YAML, repeats a key, or is not a lock as DVC reads it.
    """
    lock = parse_plain(text, where)
    if lock.get("schema") != "2.0":
        raise _not_a_lock("schema is not '2.0'", where)
    _require_known(lock, _LOCK_KEYS, "the file", where)
    stages = lock.get("stages")
    if not isinstance(stages, dict):
        raise _not_a_lock("no stages", where)
    for name, stage in stages.items():
        told = f"stage {str(name)!r}"
        if not isinstance(stage, dict) or not isinstance(stage.get("cmd"), str | list):
            raise _not_a_lock(f"{told} has no cmd", where)
        _require_known(stage, _STAGE_KEYS, told, where)
        params = stage.get("params", {})
        if not isinstance(params, dict) or not all(isinstance(each, dict) for each in params.values()):
            raise _not_a_lock(f"{told}: params are no keys and values by file", where)
        for key in ("deps", "outs"):
            _require_files(stage.get(key, []), f"{told}: {key}", where)
    return {str(name): stage for name, stage in stages.items()}


def locked_outputs(stages: Mapping[str, Mapping[str, Any]], where: str = str(LOCK_FILE)) -> tuple[LockedOutput, ...]:
    """Every output of every stage.

    Raises:
        DocumentError: one of them has no md5, or two stages make the same one.
    """
    found: dict[str, LockedOutput] = {}
    for name, stage in stages.items():
        for output in stage.get("outs", ()):
            path, md5 = output["path"], output.get("md5")
            if not isinstance(md5, str) or not _MD5.fullmatch(md5):
                raise _not_a_lock(f"stage {name!r}: output {path!r} without an md5", where)
            if path in found:
                raise _not_a_lock(f"stages {found[path].stage!r} and {name!r} both make {path!r}", where)
            found[path] = LockedOutput(name, path, object_path(md5))
    return tuple(found.values())


def require_commands(
    stages: Mapping[str, Mapping[str, Any]], pipeline: Mapping[str, Mapping[str, Any]], where: str = str(LOCK_FILE)
) -> None:
    """Check that each stage of a lock is one of the pipeline's, and ran the command that the pipeline has for it.

    Args:
        stages: those of the lock, as `locked_stages` gives them.
        pipeline: those of `dvc.yaml`; a command with a template in it is DVC's to fill in, and is not compared.
        where: names the lock in errors.

    Raises:
        DocumentError: a stage is unknown, or its command is another one.
    """
    for name, stage in stages.items():
        defined = pipeline.get(name, pipeline.get(name.partition("@")[0]))
        if defined is None:
            raise _not_a_lock(f"dvc.yaml has no stage {name!r}", where)
        command = defined.get("cmd")
        plain = command is not None and "${" not in str(command)
        if plain and stage["cmd"] != command:
            raise _not_a_lock(f"stage {name!r} ran another command than dvc.yaml names", where)


def _require_files(files: object, told: str, where: str) -> None:
    if not isinstance(files, list):
        raise _not_a_lock(f"{told} is no list", where)
    for file in files:
        if not isinstance(file, dict) or not isinstance(file.get("path"), str):
            raise _not_a_lock(f"{told}: an entry without a path", where)
        _require_known(file, _FILE_KEYS, told, where)


def _require_known(mapping: Mapping[Any, Any], known: frozenset[str], told: str, where: str) -> None:
    foreign = sorted(str(key) for key in mapping if key not in known)
    if foreign:
        raise _not_a_lock(f"{told} has the key {foreign[0][:100]!r}", where)


def without_stages(text: str, kept: Collection[str]) -> str:
    """The text of a lock without the stages that `dvc.yaml` has no more: DVC itself keeps them for ever.

    Args:
        text: the lock, as DVC writes it.
        kept: names of stages; a loop's is the one before the `@`.
    """
    lines, dropping, inside = [], False, False
    for line in text.splitlines(keepends=True):
        if not line.startswith(" "):
            inside, dropping = line.rstrip() == "stages:", False
        found = _STAGE_LINE.fullmatch(line.rstrip("\n")) if inside else None
        if found:
            dropping = found[1].strip("'\"").partition("@")[0] not in kept
        if not dropping:
            lines.append(line)
    return "".join(lines)


def _not_a_lock(what: str, where: str) -> DocumentError:
    return DocumentError(f"not a lock of DVC: {what}", where=where, hint="make it again: mergeline propose")
