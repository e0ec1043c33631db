"""The verbs that judge production: watch, and diagnose for the cause."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import LAST_LOOK, AllOption, JournalOption, Json, app, for_each_home, params_of
from mergeline.cli.output import of_model, progress, say, say_json, short_path, tell_checks
from mergeline.errors import DataError, MergelineError, WatchError
from mergeline.files import write_json
from mergeline.home import Home

if TYPE_CHECKING:
    from mergeline.manifest.schema import Manifest
    from mergeline.watch.causes import Server, Suspect
    from mergeline.watch.results import Watched
    from mergeline.watch.verdict import SharedFinding

STRICT_CODES = {"inconclusive": 4, "drift": 5, "degraded": 6}


@app.command()
def watch(  # noqa: PLR0917 - typer takes each option as a parameter
    window: Annotated[str | None, typer.Option(help="How far back: 90m, 24h, 7d, 4w.")] = None,
    end: Annotated[
        str | None, typer.Option(help="Where the window ends, as 2026-03-08T12:00; now if not given.")
    ] = None,
    journal: JournalOption = None,
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
        new = for_each_home(look, every=every)
    finally:
        shared = _shared(found, output) if len(found) > 1 else ()
        if json and found:
            looks = {name: one.model_dump(mode="json") for name, one in found.items()}
            say_json(looks[""] if "" in looks else {"models": looks, "shared": [one.model_dump() for one in shared]})
        else:
            for one in shared:
                say(f"shared: {one.headline}.")
    if strict:
        outcomes = [*(one.outcome.value for one in found.values()), *("inconclusive" for _ in new)]
        sys.exit(max(STRICT_CODES.get(outcome, 0) for outcome in outcomes))


def _look(  # noqa: PLR0917 - what the verb is given
    name: str, home: Home, window: str | None, end: str | None, journal: str | None, output: Path, *, samples: bool
) -> Watched:
    """Look at one model, and write what was found."""
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
        place = request.journal if "://" in request.journal else short_path(Path(request.journal))
        span = f"{request.window.start:%Y-%m-%d %H:%M} to {request.window.end:%Y-%m-%d %H:%M} UTC"
        progress(f"watching {params.name} version {stable.version}: {span} in {place}")
    found = look(root, params, manifest, request, progress)
    for notice in found.notices:
        progress(notice)

    from mergeline.watch.report import write_watched

    folder = output.resolve() / name
    write_watched(found, folder)
    if samples:
        from mergeline.watch.reference import write_samples

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
    from mergeline.github.actions import add_summary
    from mergeline.watch.verdict import shared_findings

    shared = shared_findings(found)
    write_json(output.resolve() / "shared.json", [one.model_dump(mode="json") for one in shared])
    lines = [f"- {name}: **{one.outcome}**, {one.headline}" for name, one in found.items()]
    add_summary("\n".join([*lines, *(f"- shared: {one.headline}" for one in shared)]))
    return shared


@app.command()
def diagnose(
    url: Annotated[
        str,
        typer.Option(envvar="MERGELINE_STATUS_URL", help="The server, as http://host:3000, or its GET /status."),
    ] = "",
    watched: Annotated[Path, typer.Option(help="The newest look, as `mergeline watch` wrote it.")] = LAST_LOOK,
    json: Json = False,
) -> None:
    """Rank what may be wrong in production by its evidence, with what helps. Ends with 0 whatever it finds."""
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.watch.causes import Ruling
    from mergeline.watch.diagnose import conclusion, evidence_of
    from mergeline.watch.diagnose import diagnose as judge

    home = Home.at(Path().resolve())
    params, manifest = params_of(home), read_manifest(home.folder / MANIFEST_FILE)
    look = _watched(watched, manifest)
    released, is_known = _released(home, manifest)
    server = _server(url.replace("{model}", manifest.metadata.name)) if url else None
    rolling, now = manifest.spec.candidate, datetime.now(UTC)
    candidate = rolling.digest if rolling is not None else None
    evidence = evidence_of(look, params.gate.metric, released, server, now, history=is_known, candidate=candidate)
    suspects = judge(evidence, params)
    result = conclusion(suspects, evidence.outcome)
    if json:
        told = [each.model_dump(mode="json") | {"action": each.action.value} for each in suspects]
        say_json({"conclusion": result.value, "suspects": told})
        return
    for each in suspects:
        say(_line(each))
    first = suspects[0]
    words = {
        Ruling.SUSPECTED: f"{first.cause}{f' in {first.column}' if first.column else ''}: {first.action}",
        Ruling.INCONCLUSIVE: "inconclusive: what is there names no cause, and it is not enough to rule all of them out",
        Ruling.CLEARED: "none: nothing is suspected",
    }
    say(words[result])


def _line(suspect: Suspect) -> str:
    column = f" in {suspect.column}" if suspect.column else ""
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in suspect.numbers.items())
    missing = f"missing: {', '.join(suspect.missing)}" if suspect.missing else ""
    evidence = "; ".join(part for part in (numbers, missing) if part)
    return f"{suspect.ruling:<12}  {suspect.cause}{column}{f': {evidence}' if evidence else ''}"


def _watched(path: Path, manifest: Manifest) -> Watched | None:
    """The newest look at the stable model; None where there is none.

    Raises:
        DataError: the file is not one that `mergeline watch` writes.
    """
    from pydantic import ValidationError

    from mergeline.documents import read_text
    from mergeline.watch.results import Watched

    if not path.exists():
        progress(f"{path}: nobody has looked; run mergeline watch")
        return None
    try:
        found = Watched.model_validate_json(read_text(path))
    except ValidationError as cause:
        raise DataError("not what mergeline watch writes", where=str(path), hint="run mergeline watch again") from cause
    stable = manifest.spec.stable
    if stable is None or stable.digest != found.digest:
        progress(f"{path}: a look at another model than the manifest calls stable; run mergeline watch again")
        return None
    progress(f"{path}: {found.stretch.start:%Y-%m-%d %H:%M} to {found.stretch.end:%Y-%m-%d %H:%M} UTC")
    return found


def _released(home: Home, manifest: Manifest) -> tuple[datetime | None, bool]:
    """When the stable model replaced another, None if it did not; and whether the history could be read."""
    from mergeline.github.git import Git
    from mergeline.github.production import read_revisions
    from mergeline.manifest.schema import MANIFEST_FILE
    from mergeline.release.history import Event, history

    try:
        revisions = read_revisions(Git(home.root), path=home.path(MANIFEST_FILE))
    except MergelineError as error:
        progress(f"the manifest's history cannot be read: {error}")
        return None, False
    changes = (Event.FIRST, Event.RELEASE, Event.ROLLBACK)
    moments = [one for one in history(revisions, manifest.metadata.name) if one.event in changes]
    newest = next((one.when for one in moments[:1] if one.event is Event.RELEASE), None)
    return newest, bool(moments)


def _server(url: str) -> Server | None:
    """What the server says of its load; None where it does not answer."""
    from mergeline.cli.rollout import KEY_VARIABLE
    from mergeline.rollout.status import fetch, read_load, status_address

    url = status_address(url)
    try:
        return read_load(fetch(url, os.environ.get(KEY_VARIABLE, "")), url)
    except WatchError as error:
        progress(str(error))
        return None
