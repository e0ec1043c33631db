"""The reference profile: what the model's data looked like, without a row of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mergeline.documents import Frozen
from mergeline.model.bin_counts import CategoryCounts, NumberCounts, connect, count
from mergeline.model.binning import Grid, blunted_range, choose_grid
from mergeline.params import Task
from mergeline.scorer.signature import Kind, Signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

BINS = 254
MAX_CATEGORIES = 200
MIN_COUNT = 20
"""A category, or the values beyond a stated border, seen fewer times than this are not named."""
CALIBRATION_BINS = 20


class NumberProfile(Frozen):
    """Counts of a number.

    `ends` has the last cell of each bin, ascending; a bin is a tail, a run of cells with about 1 / `BINS` of the rows,
    or one cell that holds more; it holds `MIN_COUNT` rows at least, or none. `counts` has as many. `minimum` and
    `maximum` leave `MIN_COUNT` rows beyond them.
    """

    name: str
    grid: Grid
    missing: int
    infinite: int
    minimum: float | None
    maximum: float | None
    ends: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many values were counted, the missing ones not among them."""
        return sum(self.counts)


class CategoryProfile(Frozen):
    """Counts of the named categories, of the rare ones together, and of nulls."""

    name: str
    missing: int
    counts: dict[str, int]
    rare: int

    @property
    def rows(self) -> int:
        """How many values were counted, the missing ones not among them."""
        return sum(self.counts.values()) + self.rare


class Calibration(Frozen):
    """What the scores of one class meant on rows that the fit had not seen, by bins of about equal count.

    `scores` are mean scores, ascending; `outcomes` is each bin's share of rows of that class, or its mean absolute
    error for a regression; `rows` has the bins' counts.
    """

    name: str
    scores: tuple[float, ...]
    outcomes: tuple[float, ...]
    rows: tuple[int, ...]


class Profile(Frozen):
    """The training rows' inputs, and the model's scores, labels and calibration on the holdout.

    The scores come from the holdout since a model knows its own training rows too well: production is compared with
    scores of rows that it had not seen.
    """

    rows: int
    holdout_rows: int
    numbers: tuple[NumberProfile, ...]
    categories: tuple[CategoryProfile, ...]
    scores: tuple[NumberProfile, ...]
    labels: CategoryProfile | None
    calibration: tuple[Calibration, ...]


def make_profile(
    features: pd.DataFrame,
    scores: NDArray[np.float64],
    labels: NDArray[Any],
    target: NDArray[Any],
    signature: Signature,
) -> Profile:
    """Count the training rows, and what the model says of the holdout.

    Args:
        features: the training rows, as `to_features` makes them.
        scores: the model's scores of the holdout, shapes as in `LoadedModel.predict`.
        labels: the model's labels of the holdout, shape (h,); unused for a regression.
        target: the holdout's true values, shape (h,).
        signature: names the columns and classes.
    """
    import pandas as pd

    texts = [column.name for column in signature.columns if column.kind is Kind.CATEGORY]
    numbers = [column.name for column in signature.columns if column.kind is not Kind.CATEGORY]
    counted = _count(features, numbers, texts)
    columns = scores.reshape(len(target), -1)
    names = score_names(signature)
    scored = _count(pd.DataFrame(dict(zip(names, columns.T, strict=True))), names, [])
    classifies = signature.output.task.classifies
    said = _count(pd.DataFrame({"label": [class_name(label) for label in labels]}), [], ["label"]) if classifies else {}
    return Profile(
        rows=len(features),
        holdout_rows=len(target),
        numbers=tuple(counted[name] for name in numbers),
        categories=tuple(counted[name] for name in texts),
        scores=tuple(scored[name] for name in names),
        labels=said["label"] if classifies else None,
        calibration=_calibration(names, columns, target, signature),
    )


def score_names(signature: Signature) -> list[str]:
    """What the columns of the scores are called: `score`, or each class of a multiclass task."""
    output = signature.output
    return [class_name(label) for label in output.classes] if output.task is Task.MULTICLASS else ["score"]


def class_name(label: object) -> str:
    """A class as text: JSON's keys are strings."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def _count(frame: pd.DataFrame, numbers: list[str], texts: list[str]) -> dict[str, Any]:
    """The profiles of the columns of `frame`, by name."""
    import numpy as np
    import pyarrow as pa

    grids = {name: choose_grid(frame[name].to_numpy()[np.isfinite(frame[name].to_numpy())]) for name in numbers}
    with connect() as connection:
        connection.register("rows", pa.Table.from_pandas(frame[[*numbers, *texts]], preserve_index=False))
        found = count(connection, "rows", grids, dict.fromkeys(texts))
    profiles: dict[str, Any] = {name: _number(name, grids[name], found.numbers[name], frame) for name in numbers}
    return profiles | {name: _category(name, found.categories[name]) for name in texts}


def _number(name: str, grid: Grid, counts: NumberCounts, frame: pd.DataFrame) -> NumberProfile:
    import numpy as np

    ends = _merge(counts.cells)
    values = frame[name].to_numpy()
    known = np.sort(values[np.isfinite(values)])
    stated = known.size > 2 * MIN_COUNT
    outer = known[[MIN_COUNT, known.size // 2, -MIN_COUNT - 1]].tolist() if stated else None
    least, most = blunted_range(*outer) if outer else (None, None)
    return NumberProfile(
        name=name,
        grid=grid,
        missing=counts.missing,
        infinite=counts.infinite,
        minimum=least,
        maximum=most,
        ends=tuple(ends.tolist()),
        counts=tuple(merged(counts.cells, ends).tolist()),
    )


def merged(cells: NDArray[np.int64], ends: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
    """The counts of bins, shape (b,), from those of cells; `ends` has each bin's last cell, the last of all too."""
    import numpy as np

    return np.add.reduceat(cells, np.concatenate([[0], np.asarray(ends[:-1], dtype=np.int64) + 1]))


def _merge(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last cells of the two tails, and of bins between them that hold about 1 / `BINS` of the rows each.

    A bin with fewer than `MIN_COUNT` rows, but any, joins the next one: it would name a rare value.
    """
    import numpy as np

    total, last = int(cells.sum()), cells.size - 1
    bins = max(1, min(BINS, total // MIN_COUNT))
    ranks = np.cumsum(cells) * bins // max(1, total)
    # A bin ends where the next cell would begin another share of the rows.
    steps = np.flatnonzero(np.diff(ranks) > 0)
    full = np.flatnonzero(cells * bins >= max(1, total))
    ends = np.union1d(np.union1d(steps, full), full[full > 0] - 1)
    ends = np.union1d(ends, [0, last - 1, last])
    counts = merged(cells, ends)
    # Of the inner bins the rest joins the one before, so that the upper tail stays alone.
    kept: list[int] = []
    waiting = 0
    for end, number in zip(ends.tolist()[:-1], counts.tolist()[:-1], strict=True):
        waiting += number
        if waiting == 0 or waiting >= MIN_COUNT:
            kept.append(end)
            waiting = 0
    if waiting:
        kept = [*_before_last_filled(cells, kept), last - 1]
    if 0 < counts[-1] < MIN_COUNT or 0 < cells[:last].sum() < MIN_COUNT:
        kept = _before_last_filled(cells, kept)
    return np.union1d(kept, [last]).astype(np.int64)


def _before_last_filled(cells: NDArray[np.int64], ends: list[int]) -> list[int]:
    """The ends of the bins before the last one that holds a row."""
    filled = [place for place, number in enumerate(merged(cells, [*ends, cells.size - 1])[:-1].tolist()) if number]
    return ends[: filled[-1]] if filled else []


def _category(name: str, counts: CategoryCounts) -> CategoryProfile:
    by_count = sorted(counts.named.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]
    named = {value: number for value, number in by_count if number >= MIN_COUNT}
    return CategoryProfile(
        name=name,
        missing=counts.missing,
        counts=dict(sorted(named.items())),
        rare=counts.other + sum(counts.named.values()) - sum(named.values()),
    )


def _calibration(
    names: list[str], columns: NDArray[np.float64], target: NDArray[Any], signature: Signature
) -> tuple[Calibration, ...]:
    import numpy as np

    output = signature.output
    if output.task is Task.REGRESSION:
        outcomes: Mapping[str, NDArray[np.float64]] = {
            names[0]: np.abs(np.asarray(target, dtype=np.float64) - columns[:, 0])
        }
    elif output.task is Task.BINARY:
        outcomes = {names[0]: (target == output.positive).astype(np.float64)}
    else:
        pairs = zip(names, output.classes, strict=True)
        outcomes = {name: (target == label).astype(np.float64) for name, label in pairs}
    return tuple(_reliability(name, columns[:, index], outcomes[name]) for index, name in enumerate(names))


def _reliability(name: str, scores: NDArray[np.float64], outcomes: NDArray[np.float64]) -> Calibration:
    import numpy as np

    order = np.argsort(scores, kind="stable")
    bins = min(CALIBRATION_BINS, max(1, scores.size // MIN_COUNT))
    parts = [part for part in np.array_split(order, bins) if part.size]
    return Calibration(
        name=name,
        scores=tuple(float(f"{scores[part].mean():.6g}") for part in parts),
        outcomes=tuple(float(f"{outcomes[part].mean():.6g}") for part in parts),
        rows=tuple(int(part.size) for part in parts),
    )
