"""Watch production."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json, short_path, tell_checks

if TYPE_CHECKING:
    from mergeline.watch.results import Outcome

STRICT_CODES = {"inconclusive": 4, "drift": 5, "degraded": 6}


@app.command()
def watch(  # noqa: PLR0917 - typer takes each option as a parameter
    window: Annotated[str | None, typer.Option(help="How far back: 90m, 24h, 7d, 4w.")] = None,
    end: Annotated[
        str | None, typer.Option(help="Where the window ends, as 2026-03-08T12:00; now if not given.")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="Folder or address of the server's journal.")] = None,
    json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 4 if inconclusive, 5 at drift, 6 if degraded.")
    ] = False,
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for watch.json, .md, .html and metrics.")
    ] = Path("build/watch"),
    samples: Annotated[
        bool, typer.Option("--samples", help="Also current.parquet and reference.parquet, for other tools.")
    ] = False,
) -> None:
    """Compare production with what the model was made from, and judge it by its labels."""
    # Nothing here is linear algebra: starting numpy's threads for it would be a twentieth of the time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from datetime import UTC, datetime

    from mergeline.manifest.schema import read_manifest
    from mergeline.params import read_params
    from mergeline.watch.watch import make_request
    from mergeline.watch.watch import watch as look
    from mergeline.watch.window import read_moment

    root, params, manifest, now = Path().resolve(), read_params(), read_manifest(), datetime.now(UTC)
    until = None if end is None else read_moment(end)
    request = make_request(root, params, now, window=window, end=until, journal=journal)
    stable = manifest.spec.stable
    if stable is not None:
        shown = request.window
        progress(
            f"watching {params.name} version {stable.version}: {shown.start:%Y-%m-%d %H:%M} to"
            f" {shown.end:%Y-%m-%d %H:%M} UTC in {_place(request.journal)}"
        )
    found = look(root, params, manifest, request, progress)
    for notice in found.notices:
        progress(notice)

    from mergeline.watch.report import write_watched

    written = write_watched(found, output.resolve())
    if json:
        say_json(found.model_dump(mode="json"))
    else:
        tell_checks(found.reasons)
        say(f"{found.outcome}. {found.headline[:1].upper()}{found.headline[1:]}.")
        say(f"report: {short_path(written.markdown)}, {short_path(written.page)}, {short_path(written.metrics)}")
    if samples:
        from mergeline.watch.samples import write_samples

        sampled = write_samples(root, params, manifest, request, output.resolve())
        paths = f"{short_path(sampled.current)}, {short_path(sampled.reference)}"
        progress(f"samples of the window and of {sampled.against}: {paths}")
    if strict:
        sys.exit(_code(found.outcome))


def _place(journal: str) -> str:
    return journal if "://" in journal else short_path(Path(journal))


def _code(outcome: Outcome) -> int:
    return STRICT_CODES.get(outcome.value, 0)
