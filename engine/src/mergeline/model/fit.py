"""Fits the team's pipeline, so that the same inputs give the same model, and names the step that will not."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.dataset import Kind
from mergeline.dataset.schema import SchemaColumn, TeamSchema, load_attribute
from mergeline.documents import nearest
from mergeline.errors import CodeError, DataError
from mergeline.model.artifact import dump_pipeline
from mergeline.params import Params, Task
from mergeline.scorer.signature import Column, Label, Output, Signature

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 300
"""Rows that the pipeline is fitted on twice, to see whether it comes out the same."""
_COMPOSITES = ("Pipeline", "ColumnTransformer", "FeatureUnion")


def fit(features: pd.DataFrame, target: pd.Series, params: Params, *, seeded: bool = False) -> Any:
    """Make the team's pipeline and fit it.

    A pipeline that draws from NumPy's global generator is fitted again with seeds: `model.seed` becomes the
    `random_state` of each step that has none. One that does not is left as the team made it.

    Args:
        features: prepared features.
        target: what is to be predicted, a value for each row.
        params: name the factory, its arguments and the seed.
        seeded: set the seeds at once.

    Returns:
        The fitted pipeline in the form that serves: of a search, the best estimator that it found.

    Raises:
        CodeError: it raised, or cannot do what the task needs.
    """
    before, at_random = np.random.get_state(), random.getstate()
    try:
        pipeline = _fitted(features, target, params, seeded=seeded)
        if not seeded and _drew_since(before):
            pipeline = _fitted(features, target, params, seeded=True)
    finally:
        np.random.set_state(before)
        random.setstate(at_random)
    needed = "predict_proba" if params.task.classifies else "predict"
    if not hasattr(pipeline, needed):
        raise CodeError(
            f"the pipeline has no {needed}, which a {params.task} task needs",
            where=f"params.yaml: model.factory ({params.model.factory})",
            hint="use a classifier with probabilities, or wrap it in CalibratedClassifierCV",
        )
    return for_serving(pipeline)


def needs_seeds(features: pd.DataFrame, target: pd.Series, params: Params) -> bool:
    """Whether seeds must be set for two fits to be equal, as two fits on a few rows show.

    Where so few rows cannot be fitted, nothing is known: the whole fit will say.

    Raises:
        CodeError: two fits differ whatever seeds are set; it names the step.
    """
    chosen = _few_rows(target)
    few, labels = features.iloc[chosen], target.iloc[chosen]
    different = None
    for seeded in (False, True):
        try:
            pair = [fit(few, labels, params, seeded=seeded) for _ in range(2)]
            different = _first_difference(*pair)
        except CodeError:
            return False
        if different is None:
            return seeded
    raise CodeError(
        f"two fits on the same rows differ in {different}, so nobody could reproduce the model",
        where=f"params.yaml: model.factory ({params.model.factory})",
        hint="give that step a seed (the factory gets `seed`), one thread, or no clock and no id in what it keeps",
    )


def require_same_on_cluster(features: pd.DataFrame, target: pd.Series, params: Params, *, seeded: bool) -> None:
    """Refuse a cluster whose fit is not the one of this machine, as both show on a few rows.

    Members of some ensembles share arrays with each other where they are fitted in one process, and the model's bytes
    tell so; and a step without a seed draws anew in each worker. Where so few rows cannot be fitted, nothing is known.

    Raises:
        CodeError: the two differ; it names the step.
    """
    import joblib

    chosen = _few_rows(target)
    few, labels = features.iloc[chosen], target.iloc[chosen]
    try:
        with joblib.parallel_config(backend="sequential"):
            here = fit(few, labels, params, seeded=seeded)
        there = fit(few, labels, params, seeded=seeded)
    except CodeError:
        return
    if different := _first_difference(here, there):
        raise CodeError(
            f"a fit on the cluster differs in {different} from one here, so nobody could reproduce the model",
            where=f"params.yaml: model.backend: {params.model.backend}",
            hint="set `backend: threads`; searches and forests come out the same, see docs/outgrow.md",
        )


def _few_rows(target: pd.Series) -> np.ndarray[Any, Any]:
    """Places of some rows, spread evenly over the classes, or over the values of a regression's target."""
    order = target.reset_index(drop=True).sort_values(kind="stable").index.to_numpy()
    few = order[np.unique(np.linspace(0, len(order) - 1, min(SAMPLE_ROWS, len(order))).astype(int))]
    if target.nunique() <= SAMPLE_ROWS // 10:  # a rare class is as much of it as its first rows give
        firsts = target.reset_index(drop=True).groupby(target.to_numpy(), observed=True).head(10).index.to_numpy()
        few = np.concatenate([few, firsts])
    return np.unique(few)


def _fitted(features: pd.DataFrame, target: pd.Series, params: Params, *, seeded: bool) -> Any:
    factory = load_attribute(params.model.factory, "model.factory")
    seed = params.model.seed
    try:
        pipeline = factory(seed=seed, **params.model.arguments)
        if seeded:
            np.random.seed(seed)
            random.seed(seed)
            unset = [
                name
                for name, value in pipeline.get_params(deep=True).items()
                if value is None and name.rpartition("__")[2] == "random_state"
            ]
            pipeline.set_params(**dict.fromkeys(unset, seed))
        pipeline.fit(features, target.to_numpy())
    except Exception as cause:
        step, sparse = _step_that_raised(cause.__traceback__), "dense" in str(cause) and "parse" in str(cause)
        hint = "check model.arguments against what the function takes, and the function itself"
        if sparse:
            hint = "give the encoder before it sparse_output=False, or the ColumnTransformer sparse_threshold=0"
        elif column := _column_hint(cause, features, params):
            hint = column
        elif step:
            hint = f"look at this step, at what reaches it from the steps before, and at {hint.removeprefix('check ')}"
        raise CodeError(
            f"{params.model.factory} raised {type(cause).__name__}{f' in {step}' if step else ''}: {cause}",
            where="params.yaml: model",
            hint=hint,
        ) from cause
    return pipeline


def _column_hint(cause: Exception, features: pd.DataFrame, params: Params) -> str:
    """What to do about a column that an error names and the model does not get; empty where it names none."""
    data, told = params.data, str(cause)
    if not isinstance(cause, KeyError) and "column" not in told:
        return ""  # what it names may be a value, or an argument
    hidden: dict[str | None, str] = {
        data.target: "target",
        data.id: "id",
        data.time: "time",
        **dict.fromkeys(data.metadata, "metadata"),
    }
    known = list(map(str, features.columns))
    for name in re.findall(r"'([^']+)'", told):
        if name in hidden:
            more = ": what it is to know of it, as weekday or hour, is a column of its own" if name == data.time else ""
            return f"the model does not get {name!r}, which is data.{hidden[name]}{more}"
        if name not in known and ((guess := nearest(name, known)) or "column" in told):
            return f"{f'did you mean {guess!r}? The' if guess else 'the'} model gets {', '.join(known[:30])}"
    return ""


def _step_that_raised(trace: TracebackType | None) -> str:
    """The innermost named step that was being fitted, empty where none was."""
    from sklearn.base import BaseEstimator

    step = ""
    names: dict[int, str] = {}
    while trace is not None:
        found = trace.tb_frame.f_locals.get("self")
        if isinstance(found, BaseEstimator):
            names.update({id(child): name for name, child in _children(found)})
            kind = type(found).__name__
            if kind not in _COMPOSITES:
                return f"step {names[id(found)]!r} ({kind})" if id(found) in names else kind
            step = kind if kind != "Pipeline" else step
        trace = trace.tb_next
    return step


def _drew_since(before: Any) -> bool:
    now: Any = np.random.get_state()
    return before[2] != now[2] or not np.array_equal(before[1], now[1])


def _children(part: Any) -> Iterator[tuple[str, Any]]:
    """The named steps of a pipeline, a column transformer or a union, fitted ones where there are such."""
    for attribute in ("transformers_", "steps", "transformer_list", "transformers"):
        members = getattr(part, "__dict__", {}).get(attribute)
        if isinstance(members, list):
            yield from ((str(member[0]), member[1]) for member in members)
            return


def _first_difference(one: Any, two: Any, path: str = "") -> str | None:
    """The first step, in the order of the fit, that two fits of one pipeline differ in; None where they do not."""
    if dump_pipeline(one) == dump_pipeline(two):
        return None
    for (name, mine), (_, other) in zip(_children(one), _children(two), strict=False):
        if not isinstance(mine, str) and (found := _first_difference(mine, other, f"{path}{name} > ")):
            return found
    kind = type(one).__name__
    return f"step {path.removesuffix(' > ')!r} ({kind})" if path else kind


def for_serving(part: Any, seen: frozenset[int] = frozenset()) -> Any:
    """The fitted pipeline without what only fitting needs, and what no two fits have in common.

    A search keeps the seconds that each fit took; what it predicts is its best estimator's. Gradient boosting that
    stops early by a score keeps the scorer and a method of its own, which refer back to it.
    """
    from sklearn.base import BaseEstimator

    if id(part) in seen:
        return part
    seen |= {id(part)}
    if hasattr(part, "best_estimator_") and hasattr(part, "cv_results_"):
        return for_serving(part.best_estimator_, seen)
    if isinstance(part, list | tuple) and type(part) in {list, tuple}:
        made = [for_serving(item, seen) for item in part]
        return part if all(new is old for new, old in zip(made, part, strict=True)) else type(part)(made)
    if isinstance(part, dict | BaseEstimator):
        holder = part if isinstance(part, dict) else vars(part)
        for name, value in list(holder.items()):
            made = for_serving(value, seen)
            if made is not value:
                holder[name] = made
            if isinstance(value, MethodType) and value.__self__ is part:
                del holder[name]  # the class has it
        if type(part).__name__.startswith("HistGradientBoosting") and holder.get("_scorer") is not None:
            holder["_scorer"] = None
    return part


MAX_CATEGORIES = 1000


def make_signature(rows: pd.DataFrame, schema: TeamSchema, params: Params) -> Signature:
    """The contract of a model that is trained on `rows`; its threshold is not yet set."""
    return Signature(
        name=params.name,
        columns=tuple(_column(rows[column.name], column) for column in schema.features(params.data)),
        output=_output(rows[params.data.target], params),
        id=params.data.id,
        time=params.data.time,
        metadata=params.data.metadata,
    )


def _column(values: pd.Series, column: SchemaColumn) -> Column:
    known = values.dropna()
    example = None if known.empty else _plain(known.mode().iloc[0])
    categories: tuple[str, ...] = ()
    if column.kind is Kind.CATEGORY:
        counts = known.value_counts()
        seen = sorted(counts.index, key=lambda value: (-counts[value], value))
        categories = tuple(str(value) for value in (column.allowed or seen[:MAX_CATEGORIES]))
    return Column(
        name=column.name,
        kind=column.kind,
        nullable=column.nullable,
        minimum=column.minimum,
        maximum=column.maximum,
        categories=categories,
        closed=bool(column.allowed) and column.kind is Kind.CATEGORY,
        example=example,
    )


def _output(target: pd.Series, params: Params) -> Output:
    name = params.data.target
    if params.task is Task.REGRESSION:
        if target.dtype.kind not in "iuf":
            raise DataError(
                f"target {name!r} holds {target.dtype}, not numbers",
                where="params.yaml: task",
                hint="choose binary or multiclass, or a number as the target",
            )
        return Output(task=params.task, target=name)
    classes: list[Label] = sorted(_plain(value) for value in target.unique())
    if len(classes) < 2:
        raise DataError(
            f"target {name!r} has {len(classes)} class in the training rows",
            where="params.yaml: data.target",
            hint="train on partitions that hold every class",
        )
    if params.task is Task.MULTICLASS:
        return Output(task=params.task, target=name, classes=tuple(classes))
    if params.data.positive not in classes or len(classes) > 2:
        raise DataError(
            f"target {name!r} holds {classes[:5]}; data.positive is {params.data.positive!r}",
            where="params.yaml: data.positive",
            hint="name one of two classes, or choose task: multiclass",
        )
    positive = next(label for label in classes if label == params.data.positive)
    return Output(task=params.task, target=name, classes=tuple(classes), positive=positive)


def _plain(value: Any) -> Label:
    """A NumPy scalar as the Python value that JSON can write."""
    plain: Label = value.item() if hasattr(value, "item") else value
    return plain
