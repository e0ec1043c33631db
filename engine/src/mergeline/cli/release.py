"""Check the repository and what is released; register and sign it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import AllOption, EnvironmentOption, Json, app, chosen_homes, params_of
from mergeline.cli.output import of_model, progress, say, say_json, tell_found
from mergeline.home import Home

if TYPE_CHECKING:
    from mergeline.evaluate.results import Check
    from mergeline.github.doctor_clone import Finding


@app.command()
def verify(
    before: Annotated[
        str, typer.Option("--before", help="Check the history since this commit too: that nothing was released blind.")
    ] = "",
    every: AllOption = False,
    json: Json = False,
) -> None:
    """Check that the manifest, the store, the lineage and the signatures agree. Ends with 1 if they do not."""
    from mergeline.github.served_releases import verify_history
    from mergeline.release.verify import verify as check

    checks: list[Check] = []
    for name, home in chosen_homes(every=every).items():
        root, params = home.folder, params_of(home)
        found = check(root, params)
        if before:
            found = (*found, *verify_history(root, params.name, before, params.release.environments))
        checks += of_model(name, found)
    tell_found(checks, json=json)


@app.command()
def history(environment: EnvironmentOption = "", json: Json = False) -> None:
    """Say what an environment has served and when, out of the git log of its manifest; the newest first."""
    from mergeline.github.git import Git
    from mergeline.github.production import read_revisions
    from mergeline.manifest.schema import manifest_path
    from mergeline.release.history import history as read

    home = Home.at(Path().resolve())
    params = params_of(home)
    path = home.path(manifest_path(params.release.environments, environment or params.release.environments[-1]))
    moments = read(read_revisions(Git(home.root), path=path), params.name)
    if json:
        say_json([moment.model_dump(mode="json") for moment in moments])
        return
    for moment in moments:
        beside = f", version {moment.candidate.version} as {moment.strategy}" if moment.candidate else ""
        pull = f"  #{moment.pull}" if moment.pull else ""
        what = f"{moment.event.value:<13}  version {moment.serving.version}{beside}"
        say(f"{moment.when:%Y-%m-%d %H:%M} UTC  {what}  {moment.commit[:12]}{pull}")
        for reason in moment.reasons:
            say(f"{'':<22}{reason}")
    if not moments:
        say(f"nothing was released: {path}")


@app.command()
def register(every: AllOption = False) -> None:
    """After a merge: make the MLflow registry say what main's manifest says."""
    from mergeline.github.base import read_base
    from mergeline.release.mlflow_client import register as make

    for home in chosen_homes(every=every).values():
        root, params = home.folder, params_of(home)
        registered = make(read_base(root, params.name).manifest, params, root)
        if registered.warning:
            progress(f"warning: {registered.warning}")
        for alias, version in registered.versions.items():
            say(f"registered: {params.name}@{alias} is MLflow's version {version} of it")


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Where to write signing.key and signing.pub: outside the repository.")],
) -> None:
    """Make a key pair for signing model folders; keep the private key out of the repository."""
    from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair

    private, public = make_key_pair(folder)
    say(f"made {private} (keep it secret; set {KEY_VARIABLE} to its path) and {public} (commit it)")


@app.command()
def doctor(json: Json = False) -> None:
    """Check tools, files, store and the settings on GitHub, and say how to fix each. Ends with 1 if one fails."""
    from mergeline.evaluate.results import Status
    from mergeline.github.doctor import examine

    findings = examine(Path().resolve())
    try:
        tell_found(findings if json else [_told(finding) for finding in findings], json=json)
    finally:
        counts = {status: sum(finding.status is status for finding in findings) for status in Status}
        if not json:
            say(", ".join(f"{count} {status.value}" for status, count in counts.items() if count))


def _told(finding: Finding) -> Check:
    """The finding with what fixes it where a person sees it: below a fault, beside what was skipped."""
    from mergeline.evaluate.results import Status

    if not finding.hint:
        return finding
    if finding.status is Status.SKIP:
        return finding.model_copy(update={"value": f"{finding.value}: {finding.hint}"})
    return finding.model_copy(update={"meaning": f"{finding.meaning}\nhint: {finding.hint}".strip()})
