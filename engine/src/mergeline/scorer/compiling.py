"""Compiles a fitted pipeline, or says why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergeline.dataset.kinds import Kind
from mergeline.params import Task
from mergeline.scorer.expressions import NotCompilableError

if TYPE_CHECKING:
    from mergeline.model.signature import Signature
    from mergeline.scorer.operations import Floats
    from mergeline.scorer.program import Program


@dataclass(frozen=True)
class Compiled:
    """A scorer that is still to be proven.

    `splits` are the numbers at which the trees split the record's own columns, and `vocabulary` the texts that
    the encoders know: where a proof must look.
    """

    program: Program
    graph: bytes | None
    splits: dict[int, Floats]
    vocabulary: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """Why scikit-learn serves the model, in a sentence for the report."""

    reason: str


def compile_scorer(pipeline: Any, signature: Signature) -> Compiled | Refusal:
    """Compile a fitted pipeline for records of `signature`."""
    try:
        return _compile(pipeline, signature)
    except NotCompilableError as cause:
        return Refusal(f"{cause.where}: {cause.what}" if cause.where else cause.what)
    except Exception as cause:  # noqa: BLE001 - whatever a pipeline does here, scikit-learn can still serve it
        return Refusal(f"compiling it raised {type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}")


def _compile(pipeline: Any, signature: Signature) -> Compiled:
    from mergeline.scorer.estimators import read_estimator
    from mergeline.scorer.expressions import Context
    from mergeline.scorer.graph import write_graph
    from mergeline.scorer.lowering import lower
    from mergeline.scorer.transformers import start
    from mergeline.scorer.vocabulary import texts_named

    kinds = [column.kind for column in signature.columns]
    if Kind.TIME in kinds:
        raise NotCompilableError("a column of times", where="signature")
    context = Context(texts_named(pipeline))
    fitted = read_estimator(pipeline, start([kind is Kind.CATEGORY for kind in kinds], context), context)
    output = signature.output
    positive = None
    if output.task is Task.BINARY and output.positive is not None:
        positive = output.classes.index(output.positive)
    targets = len(fitted.base) // fitted.finish.folds
    if targets != (len(output.classes) if output.task is Task.MULTICLASS else 1):
        raise NotCompilableError(f"it gives {targets} scores for each record", where="pipeline")
    lowered = lower(fitted, context, sources=len(kinds), positive=positive)
    graph = None if lowered.forest is None else write_graph(lowered.forest, lowered.program.final_width)
    return Compiled(lowered.program, graph, lowered.splits, context.vocabulary)
