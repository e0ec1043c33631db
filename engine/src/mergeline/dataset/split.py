"""Divides the data into rows to train on and rows to judge on: by time, or by a draw that growing data keep."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from mergeline.dataset.partitions import Partition, list_partitions, read_partition
from mergeline.dataset.schema import TeamSchema, require_column
from mergeline.documents import Frozen, parse_json, read_text
from mergeline.errors import DataError, DocumentError
from mergeline.files import canonical_json
from mergeline.params import DataParams, Params, SplitParams, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


SPLIT_FILE = Path("build/split.json")

FEWEST_ROWS = 10
"""On fewer rows than this no metric has an interval that says anything."""


class Part(Frozen):
    """Rows of one partition in the order of their time: `first` to `last` (exclusive), of which `drawn` takes some.

    `drawn` has a bit for each of these rows, packed and in base 64; None takes them all.
    """

    partition: str
    file: str
    sha256: str
    first: int
    last: int
    drawn: str | None = Field(default=None, exclude_if=lambda bits: bits is None)

    def draw(self, chosen: NDArray[np.bool_]) -> Part:
        """The chosen ones of its rows."""
        import numpy as np

        return self.model_copy(update={"drawn": base64.b64encode(np.packbits(chosen).tobytes()).decode()})

    def take(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Its rows of the whole partition's."""
        import numpy as np

        found = rows.iloc[self.first : self.last]
        if self.drawn is None:
            return found
        bits = np.frombuffer(base64.b64decode(self.drawn), dtype=np.uint8)
        return found.loc[np.unpackbits(bits, count=len(found)).astype(bool)]


class Split(Frozen):
    """What is trained on and what is judged on, oldest first."""

    train: tuple[Part, ...]
    holdout: tuple[Part, ...]

    @property
    def holdout_digest(self) -> str:
        """The identity of the holdout's rows."""
        parts = [part.model_dump(exclude={"file"}) for part in self.holdout]
        return "sha256:" + hashlib.sha256(canonical_json(parts)).hexdigest()


def make_split(root: Path, data: DataParams, split: SplitParams, schema: TeamSchema) -> Split:
    """Divide the partitions of the data as `split.kind` says; by time a single one is divided by the time of its rows.

    Raises:
        DataError: too few partitions or rows for the split that params ask for, or no column `split.groups`.
    """
    import numpy as np

    partitions = list_partitions(root / data.path)
    frames = [_by_time(read_partition(partition, schema), data) for partition in partitions]
    whole = [_part(root, partition, len(frame)) for partition, frame in zip(partitions, frames, strict=True)]
    if split.kind == "time":
        return divide(whole, split)
    held_out = np.split(_draw(frames, data, split), np.cumsum([len(frame) for frame in frames])[:-1])
    sides = [
        tuple(part.draw(chosen == side) for part, chosen in zip(whole, held_out, strict=True) if (chosen == side).any())
        for side in (False, True)
    ]
    return Split(train=sides[0], holdout=sides[1])


def _draw(frames: list[pd.DataFrame], data: DataParams, split: SplitParams) -> NDArray[np.bool_]:
    """Which of all rows are held out, in their order.

    Rows are ordered by a hash of their id, or of all their cells where they have none, so equal rows come together.
    """
    import numpy as np
    import pandas as pd

    rows = pd.concat(frames, ignore_index=True)
    names = [str(name) for name in rows.columns]
    if split.groups is not None:
        require_column(split.groups, names, "split.groups")
    named = split.groups or data.id
    key = rows[[named] if named else names].astype("str")
    order = pd.util.hash_pandas_object(key, index=False).to_numpy()
    chosen = np.zeros(len(rows), dtype=bool)
    if split.kind == "groups":
        sizes = pd.Series(order).value_counts().sort_index()
        # The prefix of the hashed groups whose rows come nearest to the share, and never all groups or none.
        reached = np.abs(sizes.cumsum().to_numpy()[:-1] - split.holdout_share * len(rows))
        if not len(reached):
            raise _too_few(f"column {split.groups} has one value", "name a column with more values")
        return np.asarray(np.isin(order, sizes.index[: reached.argmin() + 1]), dtype=np.bool_)
    strata = pd.factorize(rows[data.target])[0] if split.kind == "stratified" else np.zeros(len(rows), dtype=int)
    for stratum in np.unique(strata):
        places = np.flatnonzero(strata == stratum)
        count = min(len(places) - 1, max(1, round(len(places) * split.holdout_share)))
        chosen[places[np.argsort(order[places], kind="stable")[:count]]] = True
    if not chosen.any():
        raise _too_few(f"{len(rows)} rows", "add rows")
    return chosen


def _too_few(found: str, hint: str) -> DataError:
    return DataError(f"{found}: too few to hold any out", where="params.yaml: split", hint=hint)


def require_judgeable(holdout: pd.DataFrame, params: Params) -> None:
    """Refuse a holdout that can judge no model: too few rows, or rows of one class, on which all models look alike.

    Raises:
        DataError: says what is missing, and how to split instead.
    """
    advice = {
        "time": "hold out more (split.holdout partitions, or split.holdout_share of one file), or, where rows have no "
        "order in time, split.kind: " + ("stratified" if params.task.classifies else "random"),
        "groups": "hold out more (split.holdout_share), or group by a column with more values",
    }.get(params.split.kind, "hold out more (split.holdout_share), or add rows")
    if len(holdout) < FEWEST_ROWS:
        raise DataError(
            f"the holdout has {len(holdout)} row{'' if len(holdout) == 1 else 's'}, too few to judge a model on",
            where="params.yaml: split",
            hint=advice,
        )
    if params.task.classifies and holdout[params.data.target].nunique() == 1:
        only: Any = holdout[params.data.target].dropna().iloc[0]
        missing = (
            f", none is {params.data.positive}" if params.task is Task.BINARY and only != params.data.positive else ""
        )
        raise DataError(
            f"all {len(holdout):,} rows of the holdout are of one class: {only}{missing}",
            where=f"column {params.data.target}",
            hint=advice,
        )


def divide(parts: list[Part], split: SplitParams) -> Split:
    """Divide whole partitions, oldest first.

    Raises:
        DataError: nothing would be left to train on.
    """
    if len(parts) == 1:
        only = parts[0]
        cut = only.last - max(1, round(only.last * split.holdout_share))
        if cut < 1:
            raise DataError(
                f"{only.partition} has {only.last} rows, too few to hold any out", where=only.file, hint="add rows"
            )
        return Split(train=(only.model_copy(update={"last": cut}),), holdout=(only.model_copy(update={"first": cut}),))
    if split.holdout >= len(parts):
        raise DataError(
            f"{len(parts)} partitions, and {split.holdout} are held out: none is left to train on",
            where="params.yaml: split.holdout",
            hint=f"hold out at most {len(parts) - 1}, or add data",
        )
    train, holdout = parts[: -split.holdout], parts[-split.holdout :]
    return Split(train=tuple(train[-split.train :] if split.train else train), holdout=tuple(holdout))


def read_parts(parts: tuple[Part, ...], root: Path, schema: TeamSchema, data: DataParams) -> pd.DataFrame:
    """The rows of `parts`, oldest first.

    Raises:
        DataError: a partition is damaged or is not the one that was split.
    """
    import pandas as pd

    frames = []
    for part in parts:
        path = root / part.file
        if not path.exists() or _sha256(path) != part.sha256:
            raise DataError(
                "the partition is not the one that was split", where=str(path), hint="split again: dvc repro validate"
            )
        frames.append(part.take(_by_time(read_partition(Partition(part.partition, path), schema), data)))
    return pd.concat(frames, ignore_index=True)


def _by_time(rows: pd.DataFrame, data: DataParams) -> pd.DataFrame:
    return rows if data.time is None else rows.sort_values(data.time, kind="stable")


def read_split(path: Path) -> Split:
    """Read what `make_split` decided.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return Split.model_validate(parse_json(read_text(path), str(path)))
    except (DocumentError, ValidationError) as cause:
        raise DataError(f"no split: {cause}", where=str(path), hint="make it: dvc repro validate") from cause


def _part(root: Path, partition: Partition, rows: int) -> Part:
    return Part(
        partition=partition.name,
        file=partition.path.relative_to(root).as_posix(),
        sha256=_sha256(partition.path),
        first=0,
        last=rows,
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
