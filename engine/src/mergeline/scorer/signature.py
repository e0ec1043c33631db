"""What a model takes and what it answers: the contract between training and serving."""

from __future__ import annotations

from mergeline.dataset import Kind
from mergeline.documents import Frozen
from mergeline.params import Task

__all__ = ["Column", "Kind", "Label", "Output", "Signature"]

Label = bool | int | float | str


class Column(Frozen):
    """One input of the model.

    `categories` is what training saw, most frequent first; where `closed`, the team's schema allows no
    other. `minimum` and `maximum` are the schema's bounds, inclusive. `example` is a value that training
    saw.
    """

    name: str
    kind: Kind
    nullable: bool
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    closed: bool = False
    example: Label | None = None


class Output(Frozen):
    """What the model answers.

    `classes` are the labels in the order of the score's columns, empty for a regression. For a binary
    task the score is the probability of `positive`, and a row is labelled so from `threshold` on.
    """

    task: Task
    target: str
    classes: tuple[Label, ...] = ()
    positive: Label | None = None
    threshold: float | None = None


class Signature(Frozen):
    """Columns in order, and the output.

    `id`, `time` and `metadata` name columns that a record may carry and that the model does not read.
    """

    name: str
    columns: tuple[Column, ...]
    output: Output
    id: str | None = None
    time: str | None = None
    metadata: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The input columns, in the model's order."""
        return [column.name for column in self.columns]
