"""Writes a sample of the window, and one of what it is compared with, for other tools to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mergeline.errors import WatchError
from mergeline.scorer.signature import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.scorer.signature import Signature
    from mergeline.watch.watch import Request


class Samples(NamedTuple):
    """Two Parquet files with the model's columns, numbers as doubles and categories as text.

    `against` says what the reference is: training rows, or the window before where there are no data at hand.
    """

    current: Path
    reference: Path
    against: str


def write_samples(root: Path, params: Params, manifest: Manifest, request: Request, folder: Path) -> Samples:
    """Write `current.parquet` and `reference.parquet`, each of about `watch.sample_rows` rows.

    Raises:
        WatchError: the window is empty, or there is nothing to compare it with.
    """
    from mergeline.journal.window import find_journal, held
    from mergeline.model.bin_counts import connect, literal
    from mergeline.watch.multivariate_drift import write_sample
    from mergeline.watch.reference import training_relation
    from mergeline.watch.released_model import read_served
    from mergeline.watch.window_counts import as_numbers, column_types, count_rows, relation_of, retyped_numbers

    release = manifest.spec.stable
    if release is None:
        raise WatchError("nothing is served", where="deploy/manifest.yaml", hint="propose a first model")
    served = read_served(root, params, release).as_journalled(params.serve.journal)
    window, most = request.window, params.watch.sample_rows
    signature = served.signature
    with connect() as connection, held(request.journal):
        journal = find_journal(connection, request.journal, window.before().start, request.now, window.clock)
        relation = relation_of(journal.source(window), signature)
        rows = 0 if relation is None else count_rows(connection, relation)
        if relation is None or not rows:
            raise WatchError(
                "the window holds no rows", where=request.journal, hint="take a longer window: --window 4w"
            )
        types = column_types(connection, relation)
        shared = _present(signature, types)
        numbers = [column.name for column in shared.columns if column.kind is not Kind.CATEGORY]
        readable = as_numbers(relation, retyped_numbers(numbers, types))
        training = training_relation(connection, root, params, served)
        before = relation_of(journal.source(window.before()), signature)
        if training is not None:
            reference, against, key = training, "training rows", ""
        elif before is not None and (earlier := count_rows(connection, before)):
            reference, against, key = (before, earlier), "the window before", "_id"
        else:
            raise WatchError(
                "there is nothing to compare the window with",
                where="mergeline watch --samples",
                hint="fetch the training rows (dvc pull data), or wait until the journal holds two windows",
            )
        folder.mkdir(parents=True, exist_ok=True)
        written = Samples(folder / "current.parquet", folder / "reference.parquet", against)
        write_sample(connection, readable, shared, rows, most, target=literal(str(written.current)), key="_id")
        write_sample(
            connection, reference[0], shared, reference[1], most, target=literal(str(written.reference)), key=key
        )
    return written


def _present(signature: Signature, types: Sequence[str] | dict[str, str]) -> Signature:
    """The signature's columns that the journal has."""
    kept = tuple(column for column in signature.columns if column.name in types)
    return signature.model_copy(update={"columns": kept})
