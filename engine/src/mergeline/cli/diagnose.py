"""Say what is likely wrong in production, and what helps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app, params_of
from mergeline.cli.output import progress, say, say_json

if TYPE_CHECKING:
    from datetime import datetime

    from mergeline.home import Home
    from mergeline.manifest.schema import Manifest
    from mergeline.watch.diagnose import Server, Suspect
    from mergeline.watch.results import Watched


@app.command()
def diagnose(
    url: Annotated[
        str,
        typer.Option(envvar="MERGELINE_STATUS_URL", help="The server's GET /status, as http://host:3000/status."),
    ] = "",
    watched: Annotated[Path, typer.Option(help="The newest look, as `mergeline watch` wrote it.")] = Path(
        "build/watch/watch.json"
    ),
    json: Json = False,
) -> None:
    """Rank what may be wrong in production by its evidence, with what helps. Ends with 0 whatever it finds."""
    from datetime import UTC, datetime

    from mergeline.home import Home
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.watch.diagnose import Limits, Ruling, conclusion, evidence_of
    from mergeline.watch.diagnose import diagnose as judge

    home = Home.at(Path().resolve())
    params, manifest = params_of(home), read_manifest(home.folder / MANIFEST_FILE)
    look = _watched(watched, manifest)
    released, is_known = _released(home, manifest)
    server = _server(url.replace("{model}", manifest.metadata.name)) if url else None
    evidence = evidence_of(look, params.gate.metric, released, server, datetime.now(UTC), history=is_known)
    guard = params.serve.guard
    limits = Limits(
        max_waiting=params.serve.max_waiting,
        max_latency_ms=guard.max_latency_ms,
        max_error_rate=guard.max_error_rate,
    )
    suspects = judge(evidence, limits)
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
    from mergeline.errors import DataError
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
    from mergeline.errors import MergelineError
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
    from mergeline.errors import WatchError
    from mergeline.rollout.status import fetch, read_load

    try:
        return read_load(fetch(url, os.environ.get(KEY_VARIABLE, "")), url)
    except WatchError as error:
        progress(str(error))
        return None
