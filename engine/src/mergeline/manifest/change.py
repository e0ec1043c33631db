"""Decides what the merge of a branch's manifest, as it stands, would do to production."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import is_conclusion, is_rollback, only_new_release, same_models
from mergeline.model.artifact import folder_digest
from mergeline.store.dvc_lock import LOCK_FILE, locked_model
from mergeline.store.objects import Store, configured_store


class Change(StrEnum):
    """What merging a manifest would do."""

    SAME = "same"  # the models stay those that are served; people may have changed other things
    ROLLBACK = "rollback"  # what was served once comes back, by a rollback or by git revert
    CONCLUSION = "conclusion"  # the candidate that rolls out becomes stable, or its rollout is aborted
    PROMOTION = "promotion"  # a release comes that the environment before has served
    OTHER = "other"  # a model comes that only a proposal may bring


def change_of(
    base: Manifest,
    here: Manifest,
    known: Callable[[], Iterable[Manifest]],
    tried: Callable[[], Iterable[Release]] = tuple,
) -> Change:
    """What merging `here` into `base` would do.

    Args:
        base: the base branch's manifest.
        here: the branch's manifest.
        known: gives the states that the manifest was in; asked only if it matters.
        tried: gives what the environment before this one has served; asked only if it matters. There is none before the
            first one, where a model comes by a proposal.
    """
    if same_models(base, here):
        return Change.SAME
    if is_conclusion(base, here):
        return Change.CONCLUSION
    if is_rollback(base, here, known):
        return Change.ROLLBACK
    release = only_new_release(base, here)
    return Change.PROMOTION if release is not None and release in tried() else Change.OTHER


def model_in_lock(root: Path, known: Mapping[str, str], store: Store | None = None) -> str | None:
    """The digest of the model that `dvc.lock` names; None where it names none.

    Args:
        root: the repository.
        known: digests by the store's object of the model, so that those need not be fetched.
        store: where the others are; None takes the configured one.

    Raises:
        DocumentError: the lock is none.
        StoreError: the model is not in the store.
    """
    source = locked_model(root) if (root / LOCK_FILE).exists() else ""
    if not source or source in known:
        return known.get(source)
    with tempfile.TemporaryDirectory() as scratch:
        (store or configured_store(root)).fetch_folder(source, Path(scratch, "model"))
        return folder_digest(Path(scratch, "model"))
