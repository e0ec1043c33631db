"""Has Evidently report on a sample of the window, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mergeline.errors import ToolError, WatchError
from mergeline.files import write_json
from mergeline.scorer.signature import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.scorer.signature import Signature
    from mergeline.watch.watch import Request

PACKAGES = ("evidently==0.7.23", "pandas<3")
"""What Evidently needs cannot be installed beside pandas 3."""

LIMIT_SECONDS = 900
WORKER = Path(__file__).with_name("evidently_worker.py")


class Pages(NamedTuple):
    """Where Evidently's report is, as a page and as JSON."""

    page: Path
    data: Path


def run_evidently(root: Path, params: Params, manifest: Manifest, request: Request, output: Path) -> Pages:
    """Write `evidently.html` and `evidently.json` into `output`: the window against training rows, or the one before.

    Raises:
        WatchError: the window is empty, or there is nothing to compare it with.
        ToolError: uv is missing, or Evidently failed.
    """
    uv = find_uv(root)
    with tempfile.TemporaryDirectory(prefix="mergeline-evidently-") as place:
        folder = Path(place)
        write_samples(root, params, manifest, request, folder)
        output.mkdir(parents=True, exist_ok=True)
        _run(uv, folder)
        pages = Pages(output / "evidently.html", output / "evidently.json")
        for page in pages:
            shutil.move(folder / page.name, page)
        return pages


def find_uv(root: Path) -> str:
    """The uv of the repository, or the one on the path.

    Raises:
        ToolError: there is none.
    """
    own = root / ".tools" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        raise ToolError(
            "uv is not installed, and Evidently needs an environment of its own",
            where="mergeline watch --evidently",
            hint="make install puts it into .tools; or install uv and call this again",
        )
    return found


def write_samples(root: Path, params: Params, manifest: Manifest, request: Request, folder: Path) -> str:
    """Write `current.parquet`, `reference.parquet` and `columns.json` for the worker; returns what the reference is.

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
        texts = [column.name for column in shared.columns if column.kind is Kind.CATEGORY]
        numbers = [name for name in shared.names if name not in texts]
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
                where="mergeline watch --evidently",
                hint="fetch the training rows (dvc pull data), or wait until the journal holds two windows",
            )
        now, then = (literal(str(folder / f"{name}.parquet")) for name in ("current", "reference"))
        write_sample(connection, readable, shared, rows, most, target=now, key="_id")
        write_sample(connection, reference[0], shared, reference[1], most, target=then, key=key)
    write_json(folder / "columns.json", {"numbers": numbers, "categories": texts, "against": against})
    return against


def _present(signature: Signature, types: Sequence[str] | dict[str, str]) -> Signature:
    """The signature's columns that the journal has."""
    kept = tuple(column for column in signature.columns if column.name in types)
    return signature.model_copy(update={"columns": kept})


def _run(uv: str, folder: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = [part for package in PACKAGES for part in ("--with", package)]
    # -P: the worker's folder holds a module that is called as the library is.
    command = [uv, "run", "--isolated", "--no-project", "--python", version, *packages, "python", "-P", str(WORKER)]
    # Evidently sends telemetry unless told not to, and an environment that is active here is not its own.
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        done = subprocess.run(
            [*command, str(folder)],
            env=environment | {"DO_NOT_TRACK": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"Evidently took longer than {LIMIT_SECONDS} s",
            where="mergeline watch --evidently",
            hint="take fewer rows: params.yaml, watch.sample_rows",
        ) from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise ToolError(
            f"Evidently failed: {said[-1] if said else 'it said nothing'}",
            where=f"uv run --with {' --with '.join(PACKAGES)}",
            hint="the first run needs a package index; later ones take the packages from uv's cache",
        )
