"""Watch production."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import AllOption, Json, app, for_each_home, params_of
from mergeline.cli.output import of_model, progress, say, say_json, short_path, tell_checks

if TYPE_CHECKING:
    from mergeline.home import Home
    from mergeline.watch.results import Outcome, Watched
    from mergeline.watch.shared import SharedFinding

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
    every: AllOption = False,
) -> None:
    """Compare production with what the model was made from, and judge it by its labels."""
    # Nothing here is linear algebra: starting numpy's threads for it would be a twentieth of the time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    found: dict[str, Watched] = {}

    def look(name: str, home: Home) -> None:
        found[name] = _look(name, home, window, end, journal, output, samples=samples)
        if not json:
            _tell(name, found[name], output / name)

    try:
        for_each_home(look, every=every)
    finally:
        shared = _shared(found, output) if len(found) > 1 else ()
        if json and found:
            looks = {name: one.model_dump(mode="json") for name, one in found.items()}
            say_json(looks[""] if "" in looks else {"models": looks, "shared": [one.model_dump() for one in shared]})
        else:
            for one in shared:
                say(f"shared: {one.headline}.")
    if strict:
        sys.exit(max(_code(one.outcome) for one in found.values()))


def _look(  # noqa: PLR0917 - what the verb is given
    name: str, home: Home, window: str | None, end: str | None, journal: str | None, output: Path, *, samples: bool
) -> Watched:
    """Look at one model, and write what was found."""
    from datetime import UTC, datetime

    from mergeline.journal.window import read_moment
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.watch.watch import make_request
    from mergeline.watch.watch import watch as look

    root, now = home.folder, datetime.now(UTC)
    params, manifest = params_of(home), read_manifest(root / MANIFEST_FILE)
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

    folder = output.resolve() / name
    write_watched(found, folder)
    if samples:
        from mergeline.watch.samples import write_samples

        sampled = write_samples(root, params, manifest, request, folder)
        paths = f"{short_path(sampled.current)}, {short_path(sampled.reference)}"
        progress(f"samples of the window and of {sampled.against}: {paths}")
    return found


def _tell(name: str, found: Watched, folder: Path) -> None:
    tell_checks(of_model(name, found.reasons))
    say(f"{name}: " * bool(name) + f"{found.outcome}. {found.headline[:1].upper()}{found.headline[1:]}.")
    say(f"report: {', '.join(str(folder / file) for file in ('watch.md', 'watch.html', 'mergeline_watch.prom'))}")


def _shared(found: Mapping[str, Watched], output: Path) -> tuple[SharedFinding, ...]:
    """What the models share, written next to their reports."""
    from mergeline.files import write_json
    from mergeline.github.actions import add_summary
    from mergeline.watch.shared import shared_findings

    shared = shared_findings(found)
    write_json(output.resolve() / "shared.json", [one.model_dump(mode="json") for one in shared])
    lines = [f"- {name}: **{one.outcome}**, {one.headline}" for name, one in found.items()]
    add_summary("\n".join([*lines, *(f"- shared: {one.headline}" for one in shared)]))
    return shared


def _place(journal: str) -> str:
    return journal if "://" in journal else short_path(Path(journal))


def _code(outcome: Outcome) -> int:
    return STRICT_CODES.get(outcome.value, 0)
