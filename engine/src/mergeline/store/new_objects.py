"""Finds what a `dvc.lock` needs and the store has not got: objects, and the entries of DVC's run-cache."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mergeline.documents import parse_plain
from mergeline.errors import DigestError, DocumentError
from mergeline.store.config import configured_cache
from mergeline.store.dvc_lock import LockedOutput
from mergeline.store.objects import Store, missing_object, objects_of


def new_objects(
    root: Path, stages: Mapping[str, Mapping[str, Any]], outputs: Iterable[LockedOutput], store: Store
) -> dict[str, Path]:
    """The objects and run-cache entries of a lock that are in DVC's cache and that the store has not got.

    Returns:
        Their names in the store, and the file of each in the cache.

    Raises:
        StoreError: one is neither in the cache nor in the store.
    """
    cache = configured_cache(root)

    def read(name: str) -> bytes | None:
        return (cache / name).read_bytes() if (cache / name).is_file() else store.read(name)

    found = {}
    for name in objects_of(outputs, read):
        if store.has(name):
            continue
        if not (cache / name).is_file():
            raise missing_object(name)
        found[name] = cache / name
    entries = {name: cache / name for name in run_entries(stages)}
    return found | {name: file for name, file in entries.items() if file.is_file() and not store.has(name)}


def run_entries(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The name of each stage's entry in DVC's run-cache, and what it holds.

    As `dvc.stage.cache` names them: sha256 of command, inputs and the outputs' paths, then sha256 of the whole.
    """
    from dvc.utils import dict_sha256

    found = {}
    for stage in stages.values():
        question = copy.deepcopy(dict(stage))
        question["outs"] = [output["path"] for output in stage.get("outs", ())]
        key, value = (str(dict_sha256(part, exclude=["size", "nfiles"])) for part in (question, dict(stage)))
        found[f"runs/{key[:2]}/{key}/{value}"] = stage
    return found


def require_run_entry(name: str, content: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that an entry of the run-cache says of a stage what `dvc.lock` says of it, and nothing else.

    Raises:
        DigestError: it says something else, so that another branch would be given outputs that are not its own.
    """
    try:
        same = name in entries and parse_plain(content, name) == entries[name]
    except DocumentError:
        same = False
    if not same:
        raise DigestError(
            "the entry of the run-cache is not what dvc.lock says", where=name, hint="make the proposal again"
        )
