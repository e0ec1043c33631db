"""Begins with the team's own file: guesses schema, task and params from it, for a person to edit."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.dataset.partitions import MISSING_WORDS, TRUE_WORDS, Partition, read_raw
from mergeline.errors import DataError
from mergeline.files import write_text
from mergeline.params import Task
from mergeline.template.fill import readme, text_of, write_params

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20
MANY_VALUES = 0.5
"""A text column with more distinct values than this share of its rows is no category."""
RARE = 0.05
"""Of fewer positives than this share the gate's metric is average precision: ROC AUC hardly sees them."""
FEW_POSITIVES = 100
FEW_JUDGED, MANY_ROWS = 50, 5_000
"""So few rows in the holdout hold no floor; from so many rows on a model may learn faster without overfitting."""
WIDE, AT_ONCE = 12, 3
"""Of more columns than this only so many are disturbed in one row: all at once is nothing that production does."""
CODES = re.compile(r"((?i:(^|[\W_])(id|key|uuid|guid|number|no|nr))|[a-z](Id|ID|Key|No|Nr))$|^(Unnamed: \d+|index)$")
PERIOD = re.compile(r"\d{4}(-\d{2}){0,2}")

PACKAGE = '"""Yours: the schema and the model. The engine is a library."""\n'


@dataclass(frozen=True)
class Guess:
    """What a file seems to be: each column's type as Python names it, and what each column is for."""

    types: dict[str, str]
    nullable: frozenset[str]
    target: str
    task: Task
    positive: bool | int | str | None
    id: str | None
    time: str | None
    metadata: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """What the model reads."""
        return tuple(name for name in self.types if name not in {self.target, self.id, self.time, *self.metadata})


def fill_blank(root: Path, package: str, name: str, file: Path, target: str) -> tuple[str, ...]:
    """Write the package, params.yaml, the data and the README from a CSV or Parquet file.

    Returns:
        What was guessed, a line each.

    Raises:
        DataError: the file cannot be read, has no rows, or lacks the target.
    """
    rows = read_raw(Partition(file.stem, file))
    guess = guess_columns(rows, target, str(file))
    kept, changes = _put_right(rows, guess)
    notes = (*guess.notes, *changes)
    estimator = f"HistGradientBoosting{'Classifier' if guess.task.classifies else 'Regressor'}"
    write_text(root / "src" / package / "__init__.py", PACKAGE)
    write_text(root / "src" / package / "schema.py", schema_source(rows, guess))
    write_text(root / "src" / package / "model.py", text_of("blank_model.txt").format(estimator=estimator))
    write_params(root, package, name, params_source(kept, guess))
    about = (
        f"Predicts `{guess.target}` from {len(guess.features)} columns of `{file.name}`. Guessed from the file, "
        f"and yours to correct in `src/{package}/schema.py` and `params.yaml`:\n\n"
    )
    write_text(root / "README.md", readme(name, about + "\n".join(f"- {note}" for note in notes)))
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    # A period as the name would promise that all rows are of it.
    stem = package if PERIOD.fullmatch(file.stem) and guess.time else file.stem
    if changes:
        kept.to_parquet(folder / f"{stem}.parquet", index=False)
    else:
        shutil.copy(file, folder / f"{stem}{file.suffix}")
    return notes


def guess_columns(rows: pd.DataFrame, target: str, where: str) -> Guess:
    """Guess what each column is.

    Args:
        rows: the file's rows as they were read.
        target: the column to predict; empty takes the last one.
        where: the file, for errors.

    Raises:
        DataError: there are no rows, or no such column.
    """
    if rows.empty:
        raise DataError("it has no rows", where=where, hint="name a file with a header and rows")
    target = target or str(rows.columns[-1])
    if target not in rows.columns:
        raise DataError(
            f"there is no column {target!r}", where=where, hint=f"--data target=NAME, one of: {', '.join(rows.columns)}"
        )
    types, nullable = {}, set()
    for column in map(str, rows.columns):
        values, types[column] = _read_as(rows[column].dropna() if column == target else rows[column])
        if bool(values.isna().any()):
            nullable.add(column)
    task, positive = _task(rows[target], types[target])
    if task is Task.MULTICLASS:
        types[target] = "str"
    if task is Task.REGRESSION:
        types[target] = "float"
    found_id = _find_id(rows, types, target)
    times = [name for name, kind in types.items() if kind.startswith("datetime") and name != target]
    found_time = times[0] if times else None
    unread = _unreadable(rows, types, {target, found_id or ""}) | {
        name: f"`{name}`: a second time, which no model reads; make numbers of it in a column of its own"
        for name in times[1:]
    }
    notes = [f"task: {task}, since `{target}` has {rows[target].nunique()} values"]
    if positive is not None:
        notes += [f"the class that a score is the probability of: `{positive}`", *_rare(rows[target], positive)]
    notes.append(f"`{found_id}` names a row" if found_id else "no column names a row: labels cannot be joined by id")
    drawn = "each class judges (`split.kind: stratified`)" if task.classifies else "them judges (`split.kind: random`)"
    notes.append(
        f"`{found_time}` orders the rows" if found_time else f"no column orders the rows by time: a fifth of {drawn}"
    )
    if len(rows) * 0.2 < FEW_JUDGED:
        notes.append(f"only {round(len(rows) * 0.2)} rows judge a model: the gate has no floors, and can prove little")
    notes += [f"not given to the model (`data.metadata`): {why}" for why in unread.values()]
    used = {target, found_id or "", *unread}
    notes += [f"look at `{name}`: it has one value in every row" for name in types
              if name not in used and rows[name].nunique() == 1]  # fmt: skip
    if not set(types) - {*used, found_time}:
        hint = "a model needs at least one number or category beside target, id and time"
        raise DataError("no column is left for the model to read", where=where, hint=f"{hint}; {'; '.join(notes)}")
    return Guess(types, frozenset(nullable), target, task, positive, found_id, found_time, tuple(unread), tuple(notes))


def schema_source(rows: pd.DataFrame, guess: Guess) -> str:
    """The text of schema.py."""
    import pandas as pd

    lines = []
    for column, kind in guess.types.items():
        arguments = [f'"{kind}"' if kind.startswith("datetime") else kind]
        values = rows[column].dropna()
        comment = ""
        if kind in {"int", "float"} and column not in {guess.id, guess.target} and len(values):
            numbers = pd.to_numeric(values, errors="coerce")
            low, high = float(numbers.min()), float(numbers.max())
            arguments += ["pa.Check.ge(0)"] if low >= 0 else []
            comment = f"  # seen: {low:g} to {high:g}"
        elif kind == "str" and column != guess.id:
            seen = sorted(" ".join(str(value).split()) for value in values.unique())
            comment = f"  # seen: {', '.join(seen[:4])}{f' and {len(seen) - 4} more' if len(seen) > 4 else ''}"
        if column == guess.id:
            arguments.append("unique=True")
        if column in guess.nullable and column not in {guess.id, guess.target}:
            arguments.append("nullable=True")
        head = f"        {json.dumps(column, ensure_ascii=False)}: pa.Column({', '.join(arguments)}),"
        lines.append(head + (comment if len(head + comment) <= 120 else ""))
    inside = "\n".join(lines)
    return (
        '"""What a row is. Guessed from the first file: narrow it down, and data gate and server will hold to it.\n\n'
        "A closed list of categories is `pa.Check.isin([...])`, a range `pa.Check.in_range(low, high)`.\n"
        '"""\n\n'
        f"import pandera.pandas as pa\n\nRows = pa.DataFrameSchema(\n    {{\n{inside}\n    }}\n)\n"
    )


def params_source(rows: pd.DataFrame, guess: Guess) -> str:
    """The params that differ from the template's, as YAML; a comment says why."""
    holdout = max(1, round(len(rows) * 0.2))
    target = rows[guess.target].dropna()
    iterations = "max_iter: 100, learning_rate: 0.1" if len(rows) > MANY_ROWS else "max_iter: 60, learning_rate: 0.05"
    data = {"target": guess.target, "positive": guess.positive, "id": guess.id, "time": guess.time}
    if guess.positive is None:
        del data["positive"]
    roles = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items())
    rare = guess.task.classifies and float(target.value_counts(normalize=True).iloc[0]) > 1 - RARE
    evaluation = ["slices: []", "fairness: []", f"min_slice_rows: {max(20, min(200, holdout // 10))}"]
    if len(guess.features) > WIDE:
        evaluation.append(f"stress_columns: {AT_ONCE}  # of {len(guess.features)} columns hardly more break in one row")
    retrain = [f"min_labels: {max(50, min(1000, holdout))}"]
    if rare:
        retrain += [
            "min_gain: 0.02  # a share of the champion's log loss, since",
            "min_gain_relative: true  # of so rare a class a model has hardly more nats than the usual bound",
        ]
    sections = {
        "split": [f"kind: {_split(guess)}" + ("" if guess.time else "  # no column orders the rows by time")],
        "evaluation": evaluation,
        "gate": _gate(guess, target, holdout, rare=rare),
        "retrain": retrain,
    }
    return f"""task: {guess.task.value}
data: {{{roles}, metadata: {json.dumps(guess.metadata, ensure_ascii=False)}}}
validation: {{known_later: [], min_rows: {max(1, min(1000, len(rows) // 2))}}}
model: {{seed: 7, threshold: f1, arguments: {{{iterations}}}}}
release: {{sticky: null}}
""" + "".join(f"{name}:\n" + "".join(f"  {line}\n" for line in lines) for name, lines in sections.items())


def _split(guess: Guess) -> str:
    """How rows are divided: by time where they have one, else drawn, since a file may be sorted by its target."""
    return "time" if guess.time else "stratified" if guess.task.classifies else "random"


def _gate(guess: Guess, target: pd.Series, holdout: int, *, rare: bool) -> list[str]:
    """The lines of the gate's params; a handful of rows gets no floors."""
    scarce = rare and guess.positive is not None and (share := _share(target, guess.positive)) < RARE
    metric, margin, floors, stress = {
        Task.BINARY: ("roc_auc", "0.01", "roc_auc: 0.55", "0.4"),
        Task.MULTICLASS: ("log_loss", "0.02", "", "2.0"),
        Task.REGRESSION: ("rmse", "0.02", "r2: 0.0", "50"),
    }[guess.task]
    why = ""
    if scarce:
        # Scores without knowledge have an average precision of the share itself.
        metric, margin, floors, stress = "average_precision", "0.02", f"average_precision: {share:.2g}", "0.9"
        why = f"  # of {share:.2%} positives ROC AUC says little: nearly every threshold looks good"
    notes = [] if guess.task.classifies else ["a share of the champion's error, which has a unit"]
    seen = (0.5 if guess.task.classifies else 1.0) / math.sqrt(max(holdout, 1))  # about two standard errors of a gain
    if not scarce and seen > float(margin):
        margin = f"{seen:.2g}"
        notes.append(f"a guess for {holdout:,} rows: the report says which difference they can show")
    lines = [
        f"metric: {metric}{why}",
        f"margin: {margin}" + (f"  # {'; '.join(notes)}" if notes else ""),
        f"floors: {{{'' if holdout < FEW_JUDGED else floors}}}",
    ]
    if rare:
        lines += [
            "slice_margin: 0.2  # a share of the champion's log loss on the slice, since",
            "slice_margin_relative: true  # of so rare a class a model has hardly more nats than the usual margin",
        ]
    else:
        lines.append(f"slice_margin: {0.05 if guess.task is Task.BINARY else 0.1}")
    unit = "" if guess.task.classifies else "  # a share of its own error: the better a model, the more it loses"
    lines += [
        f"max_stress_loss: {stress}{unit}",
        "stress_margin: 0.3  # or so large a share worse than the champion under it: a better model has more to lose",
    ]
    if guess.task.classifies:
        lines.append(f"max_calibration_error: {0.1 + holdout**-0.5:.2f}  # so few rows measure it no closer than this")
    return lines


def _read_as(values: pd.Series) -> tuple[pd.Series, str]:
    """A column as the data gate will read it: words such as `NA` are missing where the rest are no texts."""
    from pandas.api.types import is_object_dtype, is_string_dtype

    if is_object_dtype(values) or is_string_dtype(values):
        without = values.mask(values.astype(str).str.strip().str.lower().isin(MISSING_WORDS) & values.notna())
        kind = _type(without)
        if kind != "str":
            return without, kind
    return values, _type(values)


def _type(values: pd.Series) -> str:
    """A column's type, as pandera takes it."""
    import pandas as pd

    known = values.dropna()
    if len(known) and (
        pd.api.types.is_bool_dtype(known) or set(map(str, known.unique()[:5])) <= {"True", "False", "true", "false"}
    ):
        return "bool" if len(known) == len(values) else "str"
    if known.empty or pd.api.types.is_datetime64_any_dtype(values):
        return "float" if known.empty else "datetime64[ns]"
    numbers = pd.to_numeric(known, errors="coerce")
    if not numbers.isna().any():
        code = known.astype(str).str.fullmatch(r"0\d+").any() or (numbers.abs() >= 2**53).any()  # as a postcode
        whole = bool((numbers % 1 == 0).all()) and len(known) == len(values)
        return "str" if code else "int" if whole else "float"
    if not known.astype(str).str.match(r"\d{4}-\d{2}-\d{2}").all():
        return "str"
    times = pd.to_datetime(known.astype(str), errors="coerce", utc=True, format="ISO8601")
    return "str" if times.isna().any() else "datetime64[ns]"


def _task(values: pd.Series, kind: str) -> tuple[Task, bool | int | str | None]:
    found = values.dropna().unique()
    if kind == "bool":
        return Task.BINARY, True
    if len(found) == 2:
        rarer = values.value_counts().index[-1]
        return Task.BINARY, int(float(rarer)) if kind == "int" else str(rarer)
    few = len(found) <= MOST_CLASSES and len(values) >= 10 * len(found)
    return (Task.MULTICLASS if kind in {"str", "int"} and few else Task.REGRESSION), None


def _share(values: pd.Series, positive: bool | int | str | None) -> float:
    known = values.dropna().astype(str)
    if isinstance(positive, bool):
        return float((known.str.strip().str.lower().isin(TRUE_WORDS) == positive).mean())
    return float((known.astype(float) == positive if type(positive) is int else known == str(positive)).mean())


def _rare(values: pd.Series, positive: bool | int | str) -> list[str]:
    share = _share(values, positive)
    found = round(share * len(values) * 0.2)
    if found >= FEW_POSITIVES:
        return []
    return [f"about {found} of them in the fifth that judges models: only large differences can be proven with so few"]


def _find_id(rows: pd.DataFrame, types: dict[str, str], target: str) -> str | None:
    """The column that names a row: one with `id` or the like in its name, else one of short words without spaces."""
    unique = [name for name in types if name != target and rows[name].is_unique and not rows[name].isna().any()]
    named = [name for name in unique if CODES.search(name) and types[name] in {"int", "str"}]
    words = [
        name
        for name in unique
        if types[name] == "str" and rows[name].str.fullmatch(r"\S{1,64}").all() and not _seems(rows[name])
    ]
    return next(iter([*named, *words]), None)


def _unreadable(rows: pd.DataFrame, types: dict[str, str], used: set[str]) -> dict[str, str]:
    """The columns that a model learns nothing from, each with why."""
    found = {}
    for name, kind in types.items():
        values = rows[name].dropna()
        if name in used or kind.startswith("datetime"):
            continue
        if values.empty:
            found[name] = f"`{name}`: it is empty in every row"
        elif kind == "str" and values.nunique() > MANY_VALUES * len(values):
            found[name] = f"`{name}`: nearly every row has a text of its own{_seems(values)}"
        elif kind in {"str", "int"} and CODES.search(name) and values.nunique() == len(values):
            found[name] = f"`{name}`: it names rows as well"
    return found


def _seems(values: pd.Series) -> str:
    """What texts are that a program could have written plainly."""
    texts = values.astype(str).str.strip()
    if texts.str.fullmatch(r"(\d{4}([./-]\d{1,2}){2}|(\d{1,2}[./-]){2}\d{2,4})([ T].*)?").mean() > MANY_VALUES:
        return f" (a date, as `{texts.iloc[0]}`? Write it as 2024-03-31, and it is read as a time)"
    if (
        not texts.str.fullmatch(r"\d+").any()
        and texts.str.fullmatch(r"[^\d\w]{0,3}\d[\d.,' ]*\W{0,3}[A-Za-z%]{0,4}").mean() > MANY_VALUES
    ):
        return f" (a number, as `{texts.iloc[0]}`? Write it as 1234.5, and it is read as one)"
    return ""


def _put_right(rows: pd.DataFrame, guess: Guess) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that a model can be judged on, with what was changed."""
    changes = []
    unlabelled = int(rows[guess.target].isna().sum())
    if unlabelled:
        rows = rows[rows[guess.target].notna()]
        changes.append(f"{unlabelled:,} rows without `{guess.target}` were left out: nothing can be learned from them")
    return rows, tuple(changes)
