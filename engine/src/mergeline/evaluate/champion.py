"""Judges the model in the work tree against the champion of the base branch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mergeline.dataset.split import SPLIT_FILE, read_split
from mergeline.errors import DigestError, ModelError, StoreError
from mergeline.evaluate.gate import Champion, judge
from mergeline.evaluate.results import EVALUATION_FOLDER, Evaluation, GateVerdict, read_evaluation
from mergeline.evaluate.scoring import read_holdout
from mergeline.manifest.schema import Manifest, Release
from mergeline.model.artifact import FETCHED_FOLDER, MODEL_FOLDER, LoadedModel, fetch_model, load_model
from mergeline.model.lineage import Change, changes
from mergeline.params import Params
from mergeline.store.objects import Store


@dataclass(frozen=True)
class Judged:
    """The model in the work tree, what was measured of it, and the gate's verdict."""

    model: LoadedModel
    evaluation: Evaluation
    verdict: GateVerdict
    changes: tuple[Change, ...]


def judge_work_tree(
    root: Path, params: Params, base: Manifest, past: Store | None = None, *, needs_champion: bool = True
) -> Judged:
    """Judge `model/` on the holdout, beside the champion that `base` names.

    Args:
        root: the repository.
        params: everything that the team tunes.
        base: names the champion.
        past: where a champion is that the store no longer has.
        needs_champion: False judges without one that is nowhere, as one that cannot be loaded.

    Raises:
        DataError: the pipeline has not been run, or the data changed since.
        ModelError: the model folder is not what the pipeline made.
        StoreError: the champion is not in the store.
    """
    model = load_model(root / MODEL_FOLDER, trusted_types=params.model.trusted)
    evaluation = read_evaluation(root / EVALUATION_FOLDER)
    rows, holdout = read_holdout(root, params, read_split(root / SPLIT_FILE))
    champion, stable = None, base.spec.stable
    try:
        champion = None if stable is None else fetch_champion(root, params, stable, past)
    except StoreError as error:
        if needs_champion or stable is None:
            raise
        champion = Champion(None, stable.version, stable.digest, unreadable=error.what)
    verdict = judge(model, champion, evaluation, rows, holdout, params)
    differences = () if champion is None or champion.model is None else changes(champion.model.lineage, model.lineage)
    return Judged(model, evaluation, verdict, differences)


def fetch_champion(root: Path, params: Params, release: Release, past: Store | None = None) -> Champion:
    """The model that production serves, from the store; one that cannot be used here says why.

    Args:
        root: the repository.
        params: name the types that it may hold.
        release: the model.
        past: where it is if the store no longer has it.

    Raises:
        StoreError: an object is missing, or the store does not answer.
        DigestError: an object is damaged.
    """
    try:
        try:
            model = fetch_model(root, release.source, digest=release.digest, trusted_types=params.model.trusted)
        except StoreError:
            if past is None:
                raise
            past.fetch_folder(release.source, root / FETCHED_FOLDER / release.digest.removeprefix("sha256:"))
            model = fetch_model(root, release.source, digest=release.digest, trusted_types=params.model.trusted)
    except DigestError:
        raise  # the store is damaged: no verdict on the challenger would say so
    except ModelError as error:
        return Champion(None, release.version, release.digest, unreadable=error.what)
    return Champion(model, release.version, release.digest)
