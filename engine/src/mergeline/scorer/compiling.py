"""Compiles a fitted pipeline and proves it, or says why it cannot be."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.dataset import Kind
from mergeline.params import Task
from mergeline.scorer.estimators import Fitted, Linear, Trees, read_estimator
from mergeline.scorer.expressions import (
    Context,
    Feature,
    Guard,
    Layout,
    NotCompilableError,
    Op,
    Table,
    apply,
    lay_out,
    make_table,
    refusing,
)
from mergeline.scorer.forest import Forest, grow, write_graph
from mergeline.scorer.program import Program, Sums
from mergeline.scorer.stored import (
    SCORER_FILE,
    load_scorer,
    read_document,
    read_numbers,
    refusal_files,
    scorer_files,
)
from mergeline.scorer.transformers import start

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.scorer.program import Floats
    from mergeline.scorer.signature import Signature


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
    kinds = [column.kind for column in signature.columns]
    if Kind.TIME in kinds:
        raise NotCompilableError("a column of times", where="signature")
    context = Context(texts_named(pipeline))
    fitted = read_estimator(pipeline, start([kind is Kind.CATEGORY for kind in kinds], context), context)
    output = signature.output
    positive = None
    if output.task is Task.BINARY and output.positive is not None:
        positive = output.classes.index(output.positive)
    targets = fitted.finish.width(len(fitted.base)) // fitted.finish.folds
    if targets != (len(output.classes) if output.task is Task.MULTICLASS else 1):
        raise NotCompilableError(f"it gives {targets} scores for each record", where="pipeline")
    program, forest = lower(fitted, context, sources=len(kinds), positive=positive)
    if forest is None:
        return Compiled(program, None, {}, context.vocabulary)
    return Compiled(program, write_graph(forest, program.final_width), forest.splits, context.vocabulary)


PARTS = (
    "steps", "transformers_", "transformer_list", "_preprocessor", "calibrated_classifiers_", "estimator", "regressor_",
    "transformer_",
)  # fmt: skip
"""The attributes in which scikit-learn's estimators keep others."""


def texts_named(pipeline: Any) -> tuple[str, ...]:
    """Every text that an encoder or imputer anywhere in the pipeline names, sorted."""
    found: set[str] = set()
    for part in _parts(pipeline):
        lists = [
            *getattr(part, "categories_", ()),
            getattr(part, "statistics_", ()),
            [getattr(part, "fill_value", None)],
        ]
        found.update(str(value) for values in lists for value in values if isinstance(value, str))
    return tuple(sorted(found))


def _parts(part: Any) -> list[Any]:
    """The estimator and every fitted estimator inside it."""
    found = [part]
    for name in PARTS:
        inner = getattr(part, "__dict__", {}).get(name)
        for item in inner if isinstance(inner, list | tuple) else [inner]:
            for member in item if isinstance(item, tuple) else (item,):
                if type(member).__module__.startswith("sklearn."):
                    found += _parts(member)
    return found


def lower(fitted: Fitted, context: Context, *, sources: int, positive: int | None) -> tuple[Program, Forest | None]:
    """The program of a fitted estimator, and the trees that it refers to.

    Raises:
        NotCompilableError: a part of it has no exact form.
    """
    guards = refusing(context)
    sums, base = fitted.sums, fitted.base
    forest: Forest | None = None
    if isinstance(sums, Trees):
        constant = [tree for tree in sums.trees if tree.left[0] < 0]
        base = base + sum((tree.values[0] for tree in constant), np.zeros(len(base)))
        grown = tuple(tree for tree in sums.trees if tree.left[0] >= 0)
        forest = grow(Trees(sums.features, grown), guards) if grown else None
        sums = Linear((), np.zeros((0, len(base))))
    if forest is not None:
        by_leaf = forest.leaves is not None
        made = Sums("trees", None, forest.outputs, by_leaf, forest.guarded, leaves=forest.leaves)
        layout = forest.layout
    else:
        layout, made = _linear_sums(sums, guards, len(base))
    program = Program(
        sources=sources,
        lookups=layout.lookups,
        numbers=layout.numbers,
        steps=layout.steps,
        sums=made,
        base=np.ascontiguousarray(base, dtype=np.float64),
        finish=fitted.finish,
        positive=positive,
    )
    return program, forest


def _linear_sums(sums: Linear, guards: list[Guard], targets: int) -> tuple[Layout, Sums]:
    features: dict[Feature, Floats] = {}

    def add(feature: Feature, weights: Floats) -> None:
        features[feature] = features.get(feature, np.zeros(targets)) + weights

    groups: dict[tuple[int, bool, tuple[str, ...] | tuple[float, ...]], list[tuple[Table, Floats]]] = {}
    # A guard weighs nothing: 0 times a number that must be refused is NaN, and makes the sum so.
    weighted = [
        *zip(sums.features, sums.weights, strict=True),
        *((_watched(guard), np.zeros(targets)) for guard in guards),
    ]
    for feature, weights in weighted:
        if isinstance(feature, Table):
            groups.setdefault((feature.source, feature.numeric, feature.keys), []).append((feature, weights))
        else:
            add(feature, weights)
    for (source, numeric, keys), members in groups.items():
        values = np.array([table.values for table, _ in members])  # (features, keys + 2)
        weights = np.array([weight for _, weight in members])
        with np.errstate(all="ignore"):
            shares = values.T @ weights
        for target, share in enumerate(shares.T):
            add(make_table(source, numeric=numeric, keys=keys, values=share), np.eye(targets)[target])
    layout = lay_out(features)
    placed = sorted(((layout.place[feature], weights) for feature, weights in features.items()), key=itemgetter(0))
    columns = tuple(place for place, _ in placed)
    matrix = np.array([weights for _, weights in placed]).reshape(len(placed), targets)
    everything = columns == tuple(range(len(layout.place)))
    return layout, Sums("linear", None if everything else columns, weights=matrix)


def _watched(guard: Guard) -> Feature:
    return apply(guard.feature, Op("fill", 0.0)) if guard.nan_ok else guard.feature


READ_BACK = 200
"""Training rows that the stored scorer is compared on once more, as a server will read it."""


def build_scorer(
    pipeline: Any, signature: Signature, training: pd.DataFrame, holdout: pd.DataFrame
) -> dict[str, bytes]:
    """Compile a fitted pipeline and prove it.

    Args:
        pipeline: the fitted pipeline.
        signature: what it takes and gives.
        training: prepared features of the training rows; at most 20,000, evenly spread, are compared.
        holdout: prepared features of the holdout's rows, all of which are compared. No label is seen, and no
            number of the model depends on them.

    Returns:
        The files by name. `scorer.json` is always among them.
    """
    compiled = compile_scorer(pipeline, signature)
    if isinstance(compiled, Refusal):
        return refusal_files(compiled.reason)
    try:
        return _proven(compiled, pipeline, signature, training, holdout)
    except Exception as cause:  # noqa: BLE001 - whatever goes wrong with a scorer, scikit-learn can still serve
        reason = (str(cause).splitlines() or [""])[0][:200]
        return refusal_files(f"proving the compiled scorer raised {type(cause).__name__}: {reason}")


def _proven(
    compiled: Compiled, pipeline: Any, signature: Signature, training: pd.DataFrame, holdout: pd.DataFrame
) -> dict[str, bytes]:
    from mergeline.scorer.equivalence import TOLERANCE, TRAINING_ROWS, largest_difference, prove

    step = max(1, -(-len(training) // TRAINING_ROWS))
    proof = prove(compiled, pipeline, signature, [training.iloc[::step], holdout])
    if isinstance(proof, Refusal):
        return refusal_files(proof.reason)
    files = scorer_files(compiled.program, compiled.graph, proof)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        scorer = load_scorer(Path(folder), signature)
    if scorer is None or not largest_difference(scorer, pipeline, signature, training.head(READ_BACK)) <= TOLERANCE:
        return refusal_files("the compiled scorer is another one when it is read back")
    return files


def difference(folder: Path, pipeline: Any, signature: Signature) -> str:
    """What of the scorer in a model folder is not what compiling the pipeline again gives; empty where all of it is.

    A scorer whose numbers or trees were exchanged is sound, and yet answers something else than the pipeline beside it.
    Nothing is scored to find that out.

    Args:
        folder: the model folder, which has a sound scorer.
        pipeline: the fitted pipeline of that folder.
        signature: the folder's own.
    """
    document, compiled = read_document(folder), compile_scorer(pipeline, signature)
    if isinstance(compiled, Refusal):
        return f"the pipeline cannot be compiled: {compiled.reason}"
    if document is None or document.proof is None:
        return "there is no proof"
    files = scorer_files(compiled.program, compiled.graph, document.proof)
    other = [name for name, made in files.items() if not _is_same(name, (folder / name).read_bytes(), made)]
    return f"made of another pipeline: {', '.join(other)}" if other else ""


def _is_same(name: str, stored: bytes, made: bytes) -> bool:
    """Whether a file holds what it must; sums may differ in their last digits from one processor to another."""
    if stored == made or name == SCORER_FILE:
        return stored == made
    found, wanted = read_numbers(name, stored), read_numbers(name, made)
    return found.keys() == wanted.keys() and all(
        np.shape(found[key]) == np.shape(values) and np.allclose(found[key], values, rtol=1e-9, atol=0, equal_nan=True)
        for key, values in wanted.items()
    )
