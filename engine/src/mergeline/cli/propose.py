"""Judge a model, and propose it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import BaseOption, Json, app
from mergeline.cli.output import progress, say, say_json, short_path, tell_verdict

if TYPE_CHECKING:
    from mergeline.release.proposal import Proposal


@app.command()
def gate(base: BaseOption = None, json: Json = False) -> None:
    """Judge the model in the work tree beside the champion; write nothing. Ends with 3 if it is rejected."""
    from mergeline.evaluate.champion import judge_work_tree
    from mergeline.github.base import read_base
    from mergeline.params import read_params

    root, params = Path().resolve(), read_params()
    judged = judge_work_tree(root, params, read_base(root, params.name, base).manifest)
    tell_verdict(judged.verdict, json=json)


@app.command()
def propose(  # noqa: PLR0917 - typer takes each option as a parameter
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Commit, push, and open or update the pull request.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Write the proposal of the last commit into this folder, and nothing else."),
    ] = None,
    pull: Annotated[int | None, typer.Option("--pull", min=1, help="With --output: the pull request's number.")] = None,
    ingest: Annotated[
        Path | None,
        typer.Option(
            "--ingest", help="With --output: fresh partitions to take in, as `retrain --output` laid them out."
        ),
    ] = None,
    base: BaseOption = None,
    json: Json = False,
) -> None:
    """Reproduce the pipeline, judge the model, and write the manifest. Ends with 3 if it is rejected.

    With --output it ends with 0 whatever the verdict, and with 1 for an error; the folder is written in every case.
    """
    if output is not None:
        if pull_request:
            raise typer.BadParameter("--output writes a folder, and opens no pull request")
        _hand_over(output, pull, base, ingest, json=json)
        return
    if pull is not None or ingest is not None:
        raise typer.BadParameter("--pull and --ingest go with --output")
    from mergeline.github.base import read_base, refresh_base
    from mergeline.github.git import Git
    from mergeline.github.open_proposal import open_forge, submit
    from mergeline.params import read_params
    from mergeline.release.proposal import State
    from mergeline.release.propose import propose as make

    root, params = Path().resolve(), read_params()
    if pull_request and base:
        raise typer.BadParameter("a pull request goes into the base branch; leave out --base")
    if pull_request:
        open_forge(Git(root))  # before minutes of training, not after
    stale = None if base else refresh_base(root)
    proposal = make(root, params, read_base(root, params.name, base), progress)
    for notice in filter(None, (stale, *proposal.notices)):
        progress(f"warning: {notice}")
    if proposal.judged is None:
        if json:
            say_json({"state": proposal.state, "version": proposal.version, "digest": proposal.digest})
            return
        say(f"unchanged: version {proposal.version} is what is served already; there is nothing to propose")
        return
    if proposal.state is State.PROPOSED and pull_request:
        opened = submit(root, params, proposal)
        progress(f"pull request #{opened.number} from {opened.branch}: {opened.url}")
    tell_verdict(proposal.judged.verdict, json=json, then=_next_step(proposal, pull_request=pull_request))


def _hand_over(folder: Path, pull: int | None, base: str | None, ingest: Path | None, *, json: bool) -> None:
    """Write the proposal's folder, and tell the job what it came to."""
    from mergeline.ci.build_bundle import hand_over
    from mergeline.ci.bundle import HandedState, read_proposal
    from mergeline.github.actions import add_summary, set_output

    told = hand_over(Path().resolve(), folder, pull, base, progress, ingest.resolve() if ingest else None)
    set_output("state", told.state)
    set_output("digest", told.digest or "")
    report = read_proposal(folder).report
    add_summary(report or f"**{told.state}**: {told.headline}")
    if json:
        say_json(told.model_dump(mode="json"))
    else:
        say(f"{told.state}. {told.headline}")
        say(f"written to {folder}; next: mergeline apply {folder} --pull N --head {told.head}, where it may be pushed")
    if told.state is HandedState.FAILED:
        error = told.error
        progress(f"failed: {error.where}: {error.what}\n  hint: {error.hint}" if error else "failed")
        sys.exit(1)


@app.command()
def report(base: BaseOption = None) -> None:
    """Judge the model in the work tree and write report/, without proposing it."""
    from mergeline.evaluate.champion import judge_work_tree
    from mergeline.github.base import read_base
    from mergeline.params import read_params
    from mergeline.release.propose import write_report

    root, params = Path().resolve(), read_params()
    found = read_base(root, params.name, base)
    judged = judge_work_tree(root, params, found.manifest)
    reports = write_report(root, params, found, judged, version=None)
    say(f"report: {short_path(reports.markdown)}, {short_path(reports.page)}, {short_path(reports.card)}")


def _next_step(proposal: Proposal, *, pull_request: bool) -> str:
    reports = proposal.reports
    place = f"report: {short_path(reports.markdown)}, {short_path(reports.page)}" if reports else ""
    if proposal.version is None:
        return f"{place}\nnext: change the model, and propose again; nothing but the report was written"
    if pull_request:
        return f"{place}\nnext: read the report, and merge the pull request to release version {proposal.version}"
    return f"{place}\nnext: commit dvc.lock, deploy/ and store/, or run: mergeline propose --pull-request"
