"""Measures one model on the holdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergeline.evaluate.curves import confusion, make_curves
from mergeline.evaluate.evaluation_files import read_evaluation, write_evaluation
from mergeline.evaluate.fairness import evaluate_fairness
from mergeline.evaluate.importance import importance_rows, make_probe, permutation_importance
from mergeline.evaluate.intervals import estimates
from mergeline.evaluate.results import Evaluation, Holdout, rounded
from mergeline.evaluate.scoring import score
from mergeline.evaluate.slices import bin_edges, evaluate_slices
from mergeline.evaluate.stress import stress_holdout
from mergeline.model.artifact import folder_bytes
from mergeline.params import Params

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.model.artifact import LoadedModel

__all__ = ["evaluate", "read_evaluation", "write_evaluation"]


def evaluate(model: LoadedModel, frame: pd.DataFrame, holdout: Holdout, params: Params) -> Evaluation:
    """Everything that is measured of one model; the same bytes in, the same result out.

    A metric that the holdout leaves undefined (a ranking with one class only) is left out.

    Args:
        model: the model.
        frame: the holdout rows with the target, the features, and the columns of slices and groups.
        holdout: what these rows are.
        params: what to measure; `model.seed` seeds every draw.

    Raises:
        DataError: there are no rows, or no target, or a column of slices or groups does not exist.
        ModelError: the model's scores are not numbers, or not probabilities.
    """
    from threadpoolctl import threadpool_limits

    scored = score(model, frame)
    settings, gate, seed = params.evaluation, params.gate, params.model.seed
    rows = importance_rows(len(model.signature.columns), settings.importance_rows)
    # Small batches on many threads wait more than they work, and on a busy machine take many times as long.
    with threadpool_limits(limits=1):
        importance = permutation_importance(
            make_probe(model, frame, scored, metric=gate.metric, rows=rows, seed=seed), seed, gate.confidence
        )
        stress = stress_holdout(model, frame, scored, params)
    return rounded(
        Evaluation(
            name=params.name,
            task=params.task,
            digest=model.digest,
            holdout=holdout,
            metrics=estimates(scored, resamples=settings.resamples, confidence=gate.confidence, seed=seed),
            slices=evaluate_slices(scored, frame, params),
            slice_edges={column: edges for column in settings.slices if (edges := bin_edges(frame[column]))},
            fairness=evaluate_fairness(scored, frame, params),
            importance=importance,
            stress=stress,
            curves=make_curves(scored),
            confusion=confusion(scored),
            model_bytes=folder_bytes(model.folder),
        )
    )
