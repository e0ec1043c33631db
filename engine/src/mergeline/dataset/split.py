"""Divides the data by time: the newest part is the holdout, and nothing is shuffled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mergeline.dataset.partitions import Partition, list_partitions, read_partition
from mergeline.dataset.schema import TeamSchema
from mergeline.documents import Frozen
from mergeline.errors import DataError
from mergeline.files import canonical_json
from mergeline.params import DataParams, SplitParams

if TYPE_CHECKING:
    import pandas as pd


SPLIT_FILE = Path("build/split.json")


class Part(Frozen):
    """Rows of one partition in the order of their time: `first` to `last` (exclusive)."""

    partition: str
    file: str
    sha256: str
    first: int
    last: int


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
    """Divide the partitions of the data; a single one is divided by the time of its rows.

    Raises:
        DataError: too few partitions for the split that params ask for.
    """
    partitions = list_partitions(root / data.path)
    whole = [_part(root, partition, len(read_partition(partition, schema))) for partition in partitions]
    return divide(whole, split)


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
        rows = read_partition(Partition(part.partition, path), schema)
        if data.time is not None:
            rows = rows.sort_values(data.time, kind="stable")
        frames.append(rows.iloc[part.first : part.last])
    return pd.concat(frames, ignore_index=True)


def read_split(path: Path) -> Split:
    """Read what `make_split` decided.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return Split.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as cause:
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
