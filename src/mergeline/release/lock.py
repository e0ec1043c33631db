"""Reads which model `dvc.lock` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mergeline.documents import parse_tree, read_text
from mergeline.model.artifact import MODEL_FOLDER
from mergeline.model.store import object_path

LOCK_FILE = Path("dvc.lock")


def locked_model(root: Path) -> str:
    """The store's object of the model folder, as `files/md5/ab/cdef….dir`; empty where the lock names none.

    Raises:
        DocumentError: the lock is missing or is not YAML.
    """
    file = root / LOCK_FILE
    stages = parse_tree(read_text(file), str(file)).get("stages")
    for stage in stages.values() if isinstance(stages, Mapping) else ():
        for output in stage.get("outs", ()) if isinstance(stage, Mapping) else ():
            if isinstance(output, Mapping) and output.get("path") == MODEL_FOLDER.as_posix():
                return object_path(str(output.get("md5", "")))
    return ""
