"""Turns a model's scores into the answers of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mergeline.errors import ModelError
from mergeline.model.signature import Label, Output
from mergeline.params import Task
from mergeline.serve.records import RecordId

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one record gets.

    `score` is the probability of the positive class (binary), that of the label (multiclass), or the
    value (regression, which has no label); `scores` gives every class of a multiclass task its
    probability. `digest` is the identity of the model that answered.
    """

    id: RecordId
    score: float
    label: Label | None
    version: int
    digest: str
    scores: dict[str, float] | None = None


def make_answers(
    ids: Sequence[RecordId], scores: NDArray[np.float64], output: Output, *, version: int, digest: str
) -> list[Answer]:
    """One answer for each id, in order.

    Args:
        ids: n of them.
        scores: of shape (n,), or (n, k) for a multiclass task with k classes.
        output: what the scores mean.
        version: of the model, for people.
        digest: of the model, its identity.

    Raises:
        ModelError: the scores have another shape, or one is not a finite number.
    """
    rows = _finite_rows(ids, scores, output)
    if output.task is Task.REGRESSION:
        return [Answer(key, row[0], None, version, digest) for key, row in zip(ids, rows, strict=True)]
    if output.task is Task.BINARY:
        threshold, negative = _binary(output)
        return [
            Answer(key, row[0], output.positive if row[0] >= threshold else negative, version, digest)
            for key, row in zip(ids, rows, strict=True)
        ]
    names = [class_name(label) for label in output.classes]
    answers = []
    for key, row in zip(ids, rows, strict=True):
        best = row.index(max(row))
        named = dict(zip(names, row, strict=True))
        answers.append(Answer(key, row[best], output.classes[best], version, digest, named))
    return answers


def class_name(label: Label) -> str:
    """A class as a key of `scores`: JSON's keys are strings."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def encode(answers: Sequence[Answer], *, many: bool) -> bytes:
    """The answers as JSON: an array for an array, an object for an object."""
    return msgspec.json.encode(answers if many else answers[0])


def _finite_rows(ids: Sequence[RecordId], scores: NDArray[np.float64], output: Output) -> list[list[float]]:
    import numpy as np

    expected = (len(ids), len(output.classes)) if output.task is Task.MULTICLASS else (len(ids),)
    if scores.shape != expected:
        raise ModelError(
            f"the model gave scores of shape {scores.shape}, expected {expected}",
            where="predict",
            mend="the pipeline must score every row; see the signature's output",
        )
    rows = scores.reshape(len(ids), -1)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ModelError(
            "the model gave a score that is not a finite number",
            where=f"record {int(finite.argmin())}",
            mend="see what the record holds that training never saw",
        )
    return rows.tolist()


def _binary(output: Output) -> tuple[float, Label]:
    """The threshold, and the class below it."""
    others = [label for label in output.classes if label != output.positive]
    if output.threshold is None or len(others) != 1:
        raise ModelError(
            "a binary signature needs a threshold and two classes", where="signature.json", mend="train the model again"
        )
    return output.threshold, others[0]
