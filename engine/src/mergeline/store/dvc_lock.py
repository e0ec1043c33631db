"""Reads what `dvc.lock` names, and nothing that DVC itself would refuse."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from mergeline.documents import Frozen, parse_plain, read_text
from mergeline.errors import DocumentError
from mergeline.store.objects import object_path

_MODEL = "model"
LOCK_FILE = Path("dvc.lock")
_KEPT = frozenset({"path", "hash", "md5", "size", "nfiles", "isexec"})
"""What a lock says of an output that this store holds: by others DVC fetches other files than those of the md5."""
_STAGE_LINE = re.compile(r"  (\S.*):")

Checksum = Annotated[str, Field(min_length=3)]
Count = Annotated[int, Field(ge=0, lt=2**63)]  # DVC's counters of bytes take no more
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class _Meta(Frozen, strict=True):
    """What a lock says of one file's bytes.

    This and what follows is as in `dvc.schema`: LOCKFILE_SCHEMA, LOCK_FILE_STAGE_SCHEMA, DATA_SCHEMA. The base installs
    without DVC.
    """

    md5: Md5 | None = None
    etag: Checksum | None = None
    checksum: Checksum | None = None
    size: Count = 0
    nfiles: Count = 0
    isexec: bool = False
    version_id: str = ""


class _Listed(_Meta):
    """A file of a folder that a cloud's versions keep."""

    relpath: str
    cloud: dict[str, _Meta] = Field(default={}, max_length=1)


class _File(_Meta):
    """What a stage reads or makes."""

    path: str
    hash: str = ""
    cloud: dict[str, _Meta] = Field(default={}, max_length=1)
    files: list[_Listed] = []
    dataset: dict[Any, Any] = {}


class _Stage(Frozen, strict=True):
    """What a stage ran, and on what."""

    cmd: str | list[str]
    deps: list[_File] = []
    params: dict[str, dict[str, Any]] = {}
    outs: list[_File] = []


class _Lock(Frozen, strict=True):
    """A whole `dvc.lock`."""

    version: Literal["2.0"] = Field(alias="schema")
    stages: dict[str, _Stage]
    datasets: Any = None


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
    tree = parse_plain(text, where)
    try:
        _Lock.model_validate(tree)
    except ValidationError as cause:
        wrong = cause.errors()[0]
        raise _not_a_lock(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"[:500], where) from None
    stages: dict[str, dict[str, Any]] = tree["stages"]
    return stages


def canonical_lock(text: str, where: str = str(LOCK_FILE)) -> str:
    """The text of a lock as DVC writes it: nothing in it that `parse_plain` does not read.

    Raises:
        DocumentError: it is not YAML, or holds a character that a reader takes for another one once it is written.
    """
    from ruamel.yaml import YAML

    tree, stream, writer = parse_plain(text, where), io.StringIO(), YAML()
    writer.default_flow_style = False
    writer.dump(tree, stream)
    if repr(parse_plain(stream.getvalue(), where)) != repr(tree):
        raise _not_a_lock("it cannot be written so that it is read again as it is", where)
    return stream.getvalue()


def locked_outputs(stages: Mapping[str, Mapping[str, Any]], where: str = str(LOCK_FILE)) -> tuple[LockedOutput, ...]:
    """Every output of every stage.

    Raises:
        DocumentError: one of them has no md5, or something else that DVC goes by; or two stages make the same one.
    """
    found: dict[str, LockedOutput] = {}
    for name, stage in stages.items():
        for output in stage.get("outs", ()):
            path, md5 = output["path"], output.get("md5")
            if md5 is None:
                raise _not_a_lock(f"stage {name!r}: output {path!r} without an md5", where)
            odd = [*sorted(output.keys() - _KEPT), output.get("hash")][0]
            if odd != "md5":  # what DVC fetches then is not what the md5 names
                raise _not_a_lock(f"stage {name!r}: output {path!r} is kept by {odd!r}, not by its md5", where)
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
        loop = pipeline.get(name.partition("@")[0])
        looped = isinstance(loop, Mapping) and not {"foreach", "matrix"}.isdisjoint(loop)
        defined = pipeline.get(name, loop if looped else None)
        if defined is None:
            raise _not_a_lock(f"dvc.yaml has no stage {name!r}", where)
        defined = defined.get("do", defined) if isinstance(defined, Mapping) else {}
        command = defined.get("cmd")
        plain = command is not None and "${" not in str(command)
        if plain and stage["cmd"] != command:
            raise _not_a_lock(f"stage {name!r} ran another command than dvc.yaml names", where)


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
