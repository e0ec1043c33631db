"""Speak with the people of the repository: comment on a pull request, and say what its settings lack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import say, say_json, tell_checks

if TYPE_CHECKING:
    from mergeline.evaluate.results import Check
    from mergeline.github.doctor.finding import Finding


@app.command()
def comment(
    folder: Annotated[Path, typer.Argument(help="The proposal's folder, as `propose --output` wrote it.")],
    pull: Annotated[int | None, typer.Option("--pull", help="Number of the pull request.")] = None,
    run_event: Annotated[
        Path | None,
        typer.Option("--run-event", help="Event of a run that has ended: the pull request is looked up by it."),
    ] = None,
    attested: Annotated[
        str, typer.Option("--attested", envvar="MERGELINE_ATTESTED", help="How the step that attests ended.")
    ] = "",
) -> None:
    """Tell a pull request what its proposal came to, in one comment that is kept up to date."""
    from mergeline.ci.proposal_comment import read_run, tell_pull, tell_run
    from mergeline.ci.proposal_words import Setting
    from mergeline.errors import ForgeError
    from mergeline.github.actions import read_event, read_job
    from mergeline.github.forge import GitHubForge
    from mergeline.github.git import Git
    from mergeline.github.open_proposal import open_forge
    from mergeline.params import read_params

    if (pull is None) == (run_event is None):
        raise typer.BadParameter("give either --pull or --run-event")
    forge = open_forge(Git(Path().resolve()))
    setting = Setting(attested=attested, signed=read_params().release.signing.policy == "required")
    if pull is not None:
        told = tell_pull(forge, folder, pull, read_job(), setting)
    elif run_event is None or not isinstance(forge, GitHubForge):
        raise ForgeError("only GitHub has runs", where="--run-event", hint="give --pull")
    else:
        told = tell_run(forge, folder, read_run(read_event(run_event)), setting)
    say(told.line)


@app.command()
def doctor(json: Json = False) -> None:
    """Check tools, files, store and the settings on GitHub, and say how to hint each. Ends with 1 if one fails."""
    from mergeline.evaluate.results import Status
    from mergeline.github.doctor.examine import examine

    findings = examine(Path().resolve())
    if json:
        say_json([finding.model_dump(mode="json") for finding in findings])
    else:
        tell_checks([_told(finding) for finding in findings])
        counts = {status: sum(finding.status is status for finding in findings) for status in Status}
        say(", ".join(f"{count} {status.value}" for status, count in counts.items() if count))
    if any(finding.status is Status.FAIL for finding in findings):
        sys.exit(1)


def _told(finding: Finding) -> Check:
    """The finding with what fixes it where a person sees it: below a fault, beside what was skipped."""
    from mergeline.evaluate.results import Status

    if not finding.hint:
        return finding
    if finding.status is Status.SKIP:
        return finding.model_copy(update={"value": f"{finding.value}: {finding.hint}"})
    return finding.model_copy(update={"meaning": f"{finding.meaning}\nmend: {finding.hint}".strip()})
