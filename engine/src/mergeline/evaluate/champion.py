"""Judges the model in the work tree against the champion of the base branch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mergeline.dataset.split import SPLIT_FILE, read_split
from mergeline.errors import ModelError
from mergeline.evaluate.evaluate import read_evaluation
from mergeline.evaluate.evaluation_files import EVALUATION_FOLDER
from mergeline.evaluate.gate import Champion, judge
from mergeline.evaluate.results import Evaluation, GateVerdict
from mergeline.evaluate.scoring import read_holdout
from mergeline.manifest.schema import Manifest, Release
from mergeline.model.artifact import MODEL_FOLDER, LoadedModel, fetch_model, load_model
from mergeline.model.lineage import Change, changes
from mergeline.params import Params


@dataclass(frozen=True)
class Judged:
    """The model in the work tree, what was measured of it, and the gate's verdict."""

    model: LoadedModel
    evaluation: Evaluation
    verdict: GateVerdict
    changes: tuple[Change, ...]


def judge_work_tree(root: Path, params: Params, base: Manifest) -> Judged:
    """Judge `model/` on the holdout, beside the champion that `base` names.

    Raises:
        DataError: the pipeline has not been run, or the data changed since.
        ModelError: the model folder is not what the pipeline made.
        StoreError: the champion is not in the store.
    """
    model = load_model(root / MODEL_FOLDER, trusted_types=params.model.trusted)
    evaluation = read_evaluation(root / EVALUATION_FOLDER)
    rows, holdout = read_holdout(root, params, read_split(root / SPLIT_FILE))
    champion = None if base.spec.stable is None else fetch_champion(root, params, base.spec.stable)
    verdict = judge(model, champion, evaluation, rows, holdout, params)
    differences = () if champion is None or champion.model is None else changes(champion.model.lineage, model.lineage)
    return Judged(model, evaluation, verdict, differences)


def fetch_champion(root: Path, params: Params, release: Release) -> Champion:
    """The model that production serves, from the store; one that cannot be used here says why.

    Raises:
        StoreError: an object is missing, or the store does not answer.
        DigestError: an object is damaged.
    """
    try:
        model = fetch_model(root, release.source, digest=release.digest, trusted_types=params.model.trusted)
    except ModelError as error:
        return Champion(None, release.version, release.digest, unreadable=error.what)
    return Champion(model, release.version, release.digest)
