"""The truth and one model's scores on the same rows, checked before anything is computed from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mergeline.dataset.schema import load_schema, require_column
from mergeline.dataset.split import Split, read_parts, require_judgeable
from mergeline.errors import DataError, ModelError
from mergeline.evaluate.results import Holdout
from mergeline.params import Params, Task

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.model.artifact import LoadedModel
    from mergeline.scorer.signature import Output, Signature

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

ROUNDING = 1e-6


@dataclass(frozen=True)
class Scored:
    """One model's scores beside the truth.

    Attributes:
        task: what the model predicts.
        truth: shape (n,). Binary: 1 for the positive class, else 0. Multiclass: the class's place in
            `classes`. Regression: the value in the target's unit.
        scores: binary (n,), the probability of the positive class; multiclass (n, k), a probability for
            each class; regression (n,), the value.
        classes: the labels; for a binary task the negative one, then the positive one.
        threshold: from which score on a row of a binary task is labelled positive; None otherwise.
    """

    task: Task
    truth: NDArray[Any]
    scores: Floats
    classes: tuple[str, ...] = ()
    threshold: float | None = None

    def labels(self) -> NDArray[np.int64]:
        """The class that each row is labelled, coded as `truth` is: from the threshold on, or the likeliest."""
        if self.threshold is not None:
            return np.asarray(self.scores >= self.threshold, dtype=np.int64)
        return np.asarray(self.scores.argmax(axis=1), dtype=np.int64)

    def take(self, rows: Rows) -> Scored:
        """The same for some of the rows."""
        return replace(self, truth=self.truth[rows], scores=self.scores[rows])

    def with_scores(self, scores: Floats) -> Scored:
        """The same rows with other scores, checked.

        Raises:
            ModelError: as `check_scores` says.
        """
        return replace(self, scores=check_scores(scores, self.task, len(self.truth), len(self.classes)))


def score(model: LoadedModel, frame: pd.DataFrame) -> Scored:
    """Let `model` score the rows of `frame`, which carry the target.

    Raises:
        DataError: there are no rows, no target, or a target that the model cannot answer.
        ModelError: the model's scores are not numbers, not probabilities, or of the wrong shape.
    """
    return score_pipeline(model.pipeline, model.signature, frame)


def score_pipeline(pipeline: Any, signature: Signature, frame: pd.DataFrame) -> Scored:
    """As `score`, with a fitted pipeline that is no model yet."""
    from mergeline.scorer.pipeline import scores, to_features

    output = signature.output
    truth = read_truth(frame, output)
    found = scores(pipeline, to_features(frame, signature.columns), signature)
    checked = check_scores(found, output.task, len(frame), len(output.classes))
    return Scored(output.task, truth, checked, class_names(output), threshold_of(output))


def threshold_of(output: Output) -> float | None:
    """From which score on a row is labelled positive: 0.5 where training tuned none; None unless binary."""
    if output.task is not Task.BINARY:
        return None
    return 0.5 if output.threshold is None else output.threshold


def class_names(output: Output) -> tuple[str, ...]:
    """The labels as text; for a binary task the negative one, then the positive one."""
    if output.task is Task.BINARY:
        negative = next((label for label in output.classes if label != output.positive), "other")
        return (str(negative), str(output.positive))
    return tuple(str(label) for label in output.classes)


def read_truth(frame: pd.DataFrame, output: Output) -> NDArray[Any]:
    """The target of the rows, coded as `Scored.truth` says.

    Raises:
        DataError: there are no rows, no target column, a missing target, or a class that is new.
    """
    import pandas as pd

    name = output.target
    if len(frame) == 0:
        raise DataError("the holdout has no rows", where="holdout", hint="keep at least one partition: split.holdout")
    require_column(name, list(map(str, frame.columns)), "data.target")
    column = frame[name]
    missing = int(column.isna().sum())
    if missing:
        raise DataError(
            f"{missing} of {len(frame)} holdout rows have no target",
            where=f"column {name}",
            hint="label or remove them",
        )
    if output.task is Task.REGRESSION:
        values = column.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            raise DataError("the target holds infinite values", where=f"column {name}", hint="remove these rows")
        return values
    codes, uniques = pd.factorize(column)
    labels = [value.item() if isinstance(value, np.generic) else value for value in uniques]
    places = {label: place for place, label in enumerate(output.classes)}
    unknown = [label for label in labels if label not in places]
    if unknown:
        raise DataError(
            f"the holdout holds {unknown[0]!r}, a class that the model was not trained on",
            where=f"column {name}",
            hint="train on partitions that hold every class, or remove these rows",
        )
    if output.task is Task.BINARY:
        return np.array([label == output.positive for label in labels], dtype=np.int64)[codes]
    return np.array([places[label] for label in labels], dtype=np.int64)[codes]


def check_scores(scores: Floats, task: Task, rows: int, classes: int) -> Floats:
    """The scores, when they are what a model of this task may answer for so many rows.

    Raises:
        ModelError: they have another shape, are not finite, or are not probabilities.
    """
    scores = np.asarray(scores, dtype=np.float64)
    shape = (rows, classes) if task is Task.MULTICLASS else (rows,)
    hint = "correct the pipeline that model.factory makes, and train again"
    if scores.shape != shape:
        raise ModelError(f"the model answered shape {scores.shape}, expected {shape}", where="model", hint=hint)
    wrong = int(rows - np.isfinite(scores).reshape(rows, -1).all(axis=1).sum())
    if wrong:
        raise ModelError(f"{wrong} of {rows} scores are not finite numbers", where="model", hint=hint)
    if task.classifies and rows and (scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING):
        raise ModelError(
            f"scores run from {scores.min():.6g} to {scores.max():.6g}, but probabilities lie between 0 and 1",
            where="model",
            hint=hint,
        )
    return np.clip(scores, 0.0, 1.0) if task.classifies else scores


def read_holdout(root: Path, params: Params, split: Split) -> tuple[pd.DataFrame, Holdout]:
    """The holdout's rows, oldest first, and what they are.

    Raises:
        DataError: a partition is damaged or is not the one that was split, or the rows can judge no model.
    """
    rows = read_parts(split.holdout, root, load_schema(params.data), params.data)
    require_judgeable(rows, params)
    times = rows[params.data.time] if params.data.time is not None and len(rows) else None
    return rows, Holdout(
        digest=split.holdout_digest,
        partitions=tuple(part.partition for part in split.holdout),
        rows=len(rows),
        first=None if times is None else str(times.min()),
        last=None if times is None else str(times.max()),
    )
