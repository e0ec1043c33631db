"""Begins with the team's own file: guesses schema, task and params from it, for a person to edit."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.dataset.partitions import Partition, read_raw
from mergeline.errors import DataError
from mergeline.files import write_text
from mergeline.params import Task
from mergeline.template.fill import readme, write_params

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20
MANY_VALUES = 0.5
"""A text column with more distinct values than this share of its rows is no category."""
CODES = re.compile(r"(^|_)(id|key|uuid|number|no)$", re.IGNORECASE)

PACKAGE = '"""Yours: the schema and the model. The engine is a library."""\n'
MODEL = '''"""The pipeline that is trained: params.yaml names this function and gives its arguments."""

from typing import Any

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import {estimator}
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def pipeline(seed: int, **arguments: Any) -> Pipeline:
    """An unfitted pipeline; `arguments` are those of {estimator}."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = make_column_transformer(
        (encode, make_column_selector(dtype_include="str")), remainder="passthrough", verbose_feature_names_out=False
    )
    return make_pipeline(columns, {estimator}(random_state=seed, **arguments))
'''


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
    notes: tuple[str, ...]


def fill_blank(root: Path, package: str, name: str, file: Path, target: str) -> tuple[str, ...]:
    """Write the package, params.yaml, the data and the README from a CSV or Parquet file.

    Returns:
        What was guessed, a line each.

    Raises:
        DataError: the file cannot be read, has no rows, or lacks the target.
    """
    rows = read_raw(Partition(file.stem, file))
    guess = guess_columns(rows, target, str(file))
    notes = list(guess.notes)
    write_text(
        root / "src" / package / "__init__.py", '"""Yours: the schema and the model. The engine is a library."""\n'
    )
    write_text(root / "src" / package / "schema.py", schema_source(rows, guess))
    estimator = f"HistGradientBoosting{'Classifier' if guess.task.classifies else 'Regressor'}"
    write_text(root / "src" / package / "model.py", MODEL.format(estimator=estimator))
    write_params(root, package, name, params_source(rows, guess))
    about = (
        f"Predicts `{guess.target}` from {len(guess.types) - 1} columns of `{file.name}`. Guessed from the file:\n\n"
    )
    write_text(root / "README.md", readme(name, about + "\n".join(f"- {note}" for note in notes)))
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    if _sorted_by_class(rows, guess):
        rows.sample(frac=1, random_state=0).to_parquet(folder / f"{file.stem}.parquet", index=False)
        notes.append("the rows were sorted by the target, so they were shuffled: else the holdout would hold one class")
    else:
        shutil.copy(file, folder / file.name)
    return tuple(notes)


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
    types = {str(column): _type(rows[column]) for column in rows.columns}
    nullable = frozenset(column for column in types if bool(rows[column].isna().any()))
    task, positive = _task(rows[target], types[target])
    if task is Task.MULTICLASS:
        types[target] = "str"
    if task is Task.REGRESSION:
        types[target] = "float"
    found_id = next((name for name in types if name != target and _names_rows(name, rows[name])), None)
    found_time = next((name for name, kind in types.items() if kind == "datetime64[ns]" and name != target), None)
    notes = [f"task: {task}, since `{target}` has {rows[target].nunique()} values"]
    if positive is not None:
        notes.append(f"the class that a score is the probability of: `{positive}`")
    notes.append(f"`{found_id}` names a row" if found_id else "no column names a row: labels cannot be joined by id")
    notes.append(f"`{found_time}` orders the rows" if found_time else "no column orders the rows by time")
    notes += _suspicious(rows, types, {target, found_id or "", found_time or ""})
    return Guess(types, nullable, target, task, positive, found_id, found_time, tuple(notes))


def schema_source(rows: pd.DataFrame, guess: Guess) -> str:
    """The text of schema.py."""
    lines = []
    for column, kind in guess.types.items():
        arguments = [f'"{kind}"' if kind.startswith("datetime") else kind]
        values = rows[column].dropna()
        comment = ""
        if kind in {"int", "float"} and column not in {guess.id, guess.target} and len(values):
            low, high = float(values.astype(float).min()), float(values.astype(float).max())
            arguments += ["pa.Check.ge(0)"] if low >= 0 else []
            comment = f"  # seen: {low:g} to {high:g}"
        elif kind == "str" and column != guess.id:
            seen = sorted(map(str, values.unique()))
            comment = f"  # seen: {', '.join(seen[:4])}{f' and {len(seen) - 4} more' if len(seen) > 4 else ''}"
        if column == guess.id:
            arguments.append("unique=True")
        if column in guess.nullable and column not in {guess.id, guess.target}:
            arguments.append("nullable=True")
        head = f"        {column!r}: pa.Column({', '.join(arguments)}),".replace("'", '"')
        lines.append(head + (comment if len(head + comment) <= 120 else ""))
    inside = "\n".join(lines)
    return (
        '"""What a row is. Guessed from the first file: narrow it down, and data gate and server will hold to it.\n\n'
        "A closed list of categories is `pa.Check.isin([...])`, a range `pa.Check.in_range(low, high)`.\n"
        '"""\n\n'
        f"import pandera.pandas as pa\n\nRows = pa.DataFrameSchema(\n    {{\n{inside}\n    }}\n)\n"
    )


def params_source(rows: pd.DataFrame, guess: Guess) -> str:
    """The params that differ from the template's, as YAML."""
    import json

    holdout = max(1, round(len(rows) * 0.2))
    gate = {
        Task.BINARY: "metric: roc_auc\n  margin: 0.01\n  floors: {roc_auc: 0.55}\n  slice_margin: 0.05\n"
        "  max_stress_loss: 0.4",
        Task.MULTICLASS: "metric: log_loss\n  margin: 0.02\n  floors: {}\n  slice_margin: 0.1\n  max_stress_loss: 2.0",
        Task.REGRESSION: "metric: rmse                       # margins are shares of the champion's error\n"
        "  margin: 0.02\n  floors: {r2: 0.0}\n  slice_margin: 0.1\n  max_stress_loss: 1000000.0",
    }[guess.task]
    positive = "" if guess.positive is None else f", positive: {json.dumps(guess.positive)}"
    roles = f"target: {json.dumps(guess.target)}{positive}, id: {json.dumps(guess.id)}, time: {json.dumps(guess.time)}"
    return f"""task: {guess.task.value}
data: {{{roles}, metadata: []}}
validation: {{known_later: [], min_rows: {max(1, min(1000, len(rows) // 2))}}}
model: {{seed: 7, threshold: f1, arguments: {{max_iter: 100, learning_rate: 0.1}}}}
evaluation: {{slices: [], fairness: [], min_slice_rows: {max(20, min(200, holdout // 10))}}}
gate:
  {gate}
release: {{sticky: null}}
retrain: {{min_labels: {max(50, min(1000, holdout))}}}
"""


def _type(values: pd.Series) -> str:
    """A column's type, as pandera takes it."""
    import pandas as pd

    known = values.dropna()
    if pd.api.types.is_bool_dtype(known) or set(map(str, known.unique()[:3])) <= {"True", "False", "true", "false"}:
        return "bool" if len(known) == len(values) and len(known) else "str"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "datetime64[ns]"
    numbers = pd.to_numeric(known, errors="coerce")
    if len(known) and not numbers.isna().any():
        leading_zero = known.astype(str).str.fullmatch(r"0\d+").any()  # a postcode is no number
        whole = bool((numbers % 1 == 0).all()) and len(known) == len(values)
        return "str" if leading_zero else "int" if whole else "float"
    if len(known) and known.astype(str).str.match(r"\d{4}-\d{2}-\d{2}").all():
        times = pd.to_datetime(known.astype(str), errors="coerce", utc=True, format="ISO8601")
        if not times.isna().any():
            return "datetime64[ns]"
    return "str" if len(known) else "float"


def _task(values: pd.Series, kind: str) -> tuple[Task, bool | int | str | None]:
    found = values.dropna().unique()
    if kind == "bool":
        return Task.BINARY, True
    if len(found) == 2:
        rarer = values.value_counts().index[-1]
        return Task.BINARY, int(rarer) if kind == "int" else str(rarer)
    few = len(found) <= MOST_CLASSES and len(values) >= 10 * len(found)
    return (Task.MULTICLASS if kind in {"str", "int"} and few else Task.REGRESSION), None


def _names_rows(name: str, values: pd.Series) -> bool:
    unique = bool(values.is_unique) and not values.isna().any()
    return unique and (CODES.search(name) is not None or _type(values) == "str")


def _suspicious(rows: pd.DataFrame, types: dict[str, str], used: set[str]) -> list[str]:
    notes = []
    for name, kind in types.items():
        values = rows[name].dropna()
        if name in used:
            continue
        if values.empty:
            notes.append(f"look at `{name}`: it is empty in every row")
        elif values.nunique() == 1:
            notes.append(f"look at `{name}`: it has one value in every row")
        elif kind == "str" and values.nunique() > MANY_VALUES * len(rows):
            notes.append(f"look at `{name}`: nearly every row has a text of its own, so the model learns nothing of it")
        elif kind.startswith("datetime"):
            notes.append(f"look at `{name}`: a second time; make numbers of it, or list it in data.metadata")
    return notes


def _sorted_by_class(rows: pd.DataFrame, guess: Guess) -> bool:
    """Whether the last fifth of the file lacks a class that the rest has."""
    if guess.time is not None or not guess.task.classifies:
        return False
    last = rows[guess.target].tail(max(1, len(rows) // 5))
    return bool(last.nunique() < rows[guess.target].nunique())
