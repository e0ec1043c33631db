"""Reads what `dvc.lock` names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mergeline.documents import read_text
from mergeline.errors import DocumentError
from mergeline.store.reader import object_path
from mergeline.store.untrusted_yaml import read_untrusted

_MODEL = "model"
LOCK_FILE = Path("dvc.lock")
_STAGE_LINE = re.compile(r"  (\S.*):")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


class LockedOutput(NamedTuple):
    """One output of a stage: its path, and its object in the store, as `files/md5/ab/cdef…`."""

    stage: str
    path: str
    object: str


def locked_model(root: Path) -> str:
    """The store's object of the model folder, as `files/md5/ab/cdef….dir`; empty where the lock names none.

    Raises:
        DocumentError: the lock is missing or is not YAML.
    """
    file = root / LOCK_FILE
    return model_object(read_text(file), str(file))


def model_object(text: str, where: str = str(LOCK_FILE)) -> str:
    """The object of the model folder that the text of a lock names; empty where it names none.

    Raises:
        DocumentError: the lock is not YAML.
    """
    stages = read_untrusted(text, where).get("stages") if text.strip() else None
    for stage in stages.values() if isinstance(stages, Mapping) else ():
        for output in stage.get("outs", ()) if isinstance(stage, Mapping) else ():
            if isinstance(output, Mapping) and output.get("path") == _MODEL:
                return object_path(str(output.get("md5", "")))
    return ""


def locked_stages(text: str, where: str = str(LOCK_FILE)) -> dict[str, dict[str, Any]]:
    """The stages of the text of a lock, by name.

    Raises:
        DocumentError: the lock is not YAML, or not a lock.
    """
    stages = read_untrusted(text, where).get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise _not_a_lock("no stages", where)
    return {str(name): stage for name, stage in stages.items()}


def locked_outputs(stages: Mapping[str, Mapping[str, Any]], where: str = str(LOCK_FILE)) -> tuple[LockedOutput, ...]:
    """Every output of every stage.

    Raises:
        DocumentError: one of them has no path or no md5.
    """
    found = []
    for name, stage in stages.items():
        outputs = stage.get("outs", ())
        if not isinstance(outputs, list | tuple):
            raise _not_a_lock(f"stage {name!r}: outs is no list", where)
        for output in outputs:
            path, md5 = (output.get("path"), output.get("md5")) if isinstance(output, Mapping) else (None, None)
            if not isinstance(path, str) or not isinstance(md5, str) or not _MD5.fullmatch(md5):
                raise _not_a_lock(f"stage {name!r}: an output without path or md5", where)
            found.append(LockedOutput(name, path, object_path(md5)))
    return tuple(found)


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
    return DocumentError(f"not a lock of DVC: {what}", where=where, hint="make it anew: mergeline propose")
