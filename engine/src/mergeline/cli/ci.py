"""Hand a proposal over: put it onto its branch, and conclude whether it may be merged."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json


@app.command()
def apply(
    folder: Annotated[Path, typer.Argument(help="The proposal's folder, as `propose --output` wrote it.")],
    head: Annotated[str, typer.Option("--head", help="The commit that it must have been made of.")],
    pull: Annotated[int | None, typer.Option("--pull", min=1, help="Number of the pull request.")] = None,
    branch: Annotated[
        str, typer.Option("--branch", help="Instead: a branch of its own, whose pull request is opened or updated.")
    ] = "",
    json: Json = False,
) -> None:
    """Check a proposal, and push it to its branch. Ends with 1 if it is refused; then nothing was written."""
    from mergeline.ci.apply import apply as put
    from mergeline.ci.proposal_status import Outcome
    from mergeline.github.actions import set_output

    if (pull is None) == (not branch):
        raise typer.BadParameter("give either --pull or --branch")
    applied = put(Path().resolve(), folder, head=head, pull=pull, branch=branch)
    for name in ("outcome", "commit", "pull", "digest", "predicate"):
        value = getattr(applied, name)
        set_output(name, "" if value is None else str(value))
    if json:
        say_json(applied.model_dump(mode="json"))
    else:
        say(f"{applied.outcome}: {applied.commit[:12] if applied.commit else 'no commit'}")
    if applied.error is not None:
        progress(f"{applied.error.where}: {applied.error.what}\n  hint: {applied.error.hint}")
    if applied.outcome is Outcome.REFUSED:
        sys.exit(1)


@app.command()
def pin(
    pull: Annotated[int, typer.Option("--pull", min=1, help="Number of the pull request.")],
) -> None:
    """Name the commit of a pull request that a run by hand may run. Refuses forks, and runs from other branches."""
    from mergeline.ci.pin import pin as pinned
    from mergeline.github.actions import set_output
    from mergeline.github.git import Git
    from mergeline.github.open_proposal import open_forge

    head = pinned(open_forge(Git(Path().resolve())), pull, os.environ)
    set_output("head", head)
    say(f"pull request {pull} is at {head}")


@app.command()
def check(json: Json = False) -> None:
    """Conclude from the jobs in NEEDS whether the pull request may be merged. Ends with 1 if it may not."""
    from mergeline.ci.required_check_run import check as conclude
    from mergeline.github.actions import add_summary

    conclusion = conclude(Path().resolve(), os.environ)
    add_summary(f"### {conclusion.title}\n\n{conclusion.summary}")
    if json:
        say_json(conclusion.model_dump(mode="json"))
    else:
        say("\n".join((conclusion.title, *conclusion.reasons)))
    if not conclusion.accepted:
        sys.exit(1)
