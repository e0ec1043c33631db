"""Joins answered predictions with the labels that came for them."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.evaluate.scoring import Scored, class_names, threshold_of
from mergeline.journal.window import read_files
from mergeline.model.bin_counts import literal, quoted
from mergeline.model.profile import class_name
from mergeline.params import Task
from mergeline.watch.window_counts import count_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.journal.window import Window
    from mergeline.scorer.signature import Output
    from mergeline.watch.released_model import Context

MAX_ROWS = 200_000
"""Labelled rows that are judged; of more, a sample by a hash of their ids: the same rows every time."""


LARGEST = 1e150
"""A number beyond this, whose square is none, is no label and no score."""


@dataclass(frozen=True)
class Labelled:
    """Labelled rows of one model.

    Attributes:
        scored: truth and scores of n rows.
        columns: the values of the slice columns in these rows, by name.
        answered: how many rows the model answered.
        labelled: how many of those rows have a label, about so many where they were sampled.
        sampled: whether n is smaller because they were sampled.
        unknown: of these rows those whose label is of a class that the model does not know, or no number to count with.
        shadow_scores: what the shadow answered to these rows, NaN where it did not, shape (n,).
        shadow_labels: the classes that it named, coded as `scored.truth`; -1 where it named none, shape (n,).
    """

    scored: Scored
    columns: dict[str, list[Any]]
    answered: int
    labelled: int
    sampled: bool
    unknown: int
    shadow_scores: NDArray[np.float64]
    shadow_labels: NDArray[np.int64]

    @property
    def frame(self) -> pd.DataFrame:
        """The slice columns as evaluation takes them."""
        import pandas as pd

        return pd.DataFrame(self.columns, index=range(len(self.scored.truth)))


def read_labelled(
    context: Context,
    window: Window,
    digest: str,
    output: Output,
    slices: Sequence[str] = (),
    *,
    shadow: str = "",
    max_rows: int = MAX_ROWS,
) -> Labelled:
    """The labelled rows of a window that a model answered.

    A label that came twice counts as it came last. A row that was answered twice under one id counts once, as it was
    answered last.

    Args:
        context: what to read from.
        window: when they were answered.
        digest: of the model.
        output: what the scores mean.
        slices: names of journalled columns to bring along.
        shadow: the digest of the shadow whose answers to bring along.
        max_rows: the most rows to judge.
    """
    connection, source = context.connection, context.journal.source(window).of_digest(digest)
    feedback = context.journal.feedback_since(window)
    answered, relation = count_rows(connection, *source.relations()), source.relation()
    if not feedback or not answered:
        return _labelled([], output, slices, answered, 1)
    files = read_files(feedback)
    # Either side bounds how many rows can meet, and only so many are kept in memory.
    parts = -(-min(answered, count_rows(connection, files)) // max_rows)
    sampled = f" and hash(_id) % {parts} = 0" if parts > 1 else ""
    score = "_scores" if output.task is Task.MULTICLASS else "_score"
    truth = "_value" if output.task is Task.REGRESSION else "_label"
    ours = f"_shadow_digest = {literal(shadow)}" if shadow else "false"
    shadowed = [f"case when {ours} then _shadow_score end", f"case when {ours} then _shadow_label end"]
    brought = [score, *(shadowed if shadow else ["null::double", "null::varchar"]), *map(quoted, slices)]
    names = [f"v{place}" for place in range(len(brought))]
    values = ", ".join(f"{what} as {name}" for what, name in zip(brought, names, strict=True))
    # A null must not hide behind an older value, so what belongs together is kept together.
    newest = f"arg_max(struct_pack({', '.join(f'{name} := p.{name}' for name in names)}), p._time) as p"
    answers = "count(distinct p._time) as answers"
    rows = connection.execute(
        f"select truth, {', '.join(f'p.{name}' for name in names)}, answers from ("
        f" select p._id, {newest}, arg_max(f.truth, f._time) as truth, {answers}"
        f" from (select _id, _time, {values} from {relation} where {score} is not null{sampled}) p"
        # One label of each id: an id that came a thousand times on either side would be a million rows.
        f" join (select _id, max(_time) as _time, arg_max({truth}, _time) as truth"
        f" from {files} where {truth} is not null{sampled} group by _id) f using (_id)"
        " group by p._id) order by hash(_id)"
    ).fetchall()
    return _labelled(rows, output, slices, answered, max(1, parts))


def _labelled(
    rows: list[tuple[Any, ...]], output: Output, slices: Sequence[str], answered: int, parts: int
) -> Labelled:
    classes, codes = class_names(output), class_codes(output)
    if output.task is Task.REGRESSION:
        known, truth = rows, np.array([row[0] for row in rows], dtype=np.float64)
        countable = np.flatnonzero(np.abs(truth) < LARGEST)
        known, truth = [rows[place] for place in countable], truth[countable]
    else:
        known = [row for row in rows if row[0] in codes]
        truth = np.array([codes[row[0]] for row in known], dtype=np.int64)
    width = (len(classes),) if output.task is Task.MULTICLASS else ()
    scores = np.array([row[1] for row in known], dtype=np.float64).reshape(len(known), *width)
    scored = np.flatnonzero((np.abs(scores) < LARGEST).all(axis=tuple(range(1, scores.ndim))))
    known, truth, scores = [known[place] for place in scored], truth[scored], scores[scored]
    return Labelled(
        scored=Scored(output.task, truth, scores, classes, threshold_of(output)),
        columns={name: [row[4 + place] for row in known] for place, name in enumerate(slices)},
        answered=answered,
        labelled=min(answered, sum(row[-1] for row in rows) * parts),
        sampled=parts > 1,
        unknown=(len(rows) - len(known)) * parts,
        shadow_scores=np.array([np.nan if row[2] is None else row[2] for row in known], dtype=np.float64),
        shadow_labels=np.array([codes.get(row[3], -1) for row in known], dtype=np.int64),
    )


def class_codes(output: Output) -> dict[str | None, int]:
    """Each class's place in `Scored.classes`, by its name in the journal."""
    if output.task is Task.BINARY:
        return {class_name(label): int(label == output.positive) for label in output.classes}
    return {class_name(label): place for place, label in enumerate(output.classes)}
