"""Judge a model, and propose it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import AllOption, BaseOption, Json, app, for_each_home, params_of
from mergeline.cli.output import progress, say, say_json, short_path, tell_verdict

if TYPE_CHECKING:
    from mergeline.github.pull_requests import PullRequest
    from mergeline.home import Home
    from mergeline.release.proposal import Base, Proposal


@app.command()
def gate(base: BaseOption = None, json: Json = False) -> None:
    """Judge the model in the work tree; write nothing. Ends with 3 if it is rejected, 4 if inconclusive."""
    from mergeline.evaluate.champion import judge_work_tree
    from mergeline.github.base import read_base
    from mergeline.params import read_params

    root, params = Path().resolve(), read_params()
    found = read_base(root, params.name, base, params.release.environments)
    judged = judge_work_tree(root, params, found.manifest)
    tell_verdict(judged.verdict, json=json)


@app.command()
def propose(
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Commit, push, and open or update the pull request.")
    ] = False,
    base: BaseOption = None,
    json: Json = False,
    next_step: Annotated[bool, typer.Option(hidden=True)] = True,
) -> None:
    """Reproduce the pipeline, judge the model, and write the manifest. Ends with 3 if rejected, 4 if inconclusive."""
    from mergeline.github.base import read_base, refresh_base
    from mergeline.github.git import Git
    from mergeline.github.git_objects import differing
    from mergeline.github.open_proposal import SIGNATURES, open_forge_to_submit, submit
    from mergeline.params import read_params
    from mergeline.release.proposal import ProposalStatus
    from mergeline.release.propose import propose as make

    root, params = Path().resolve(), read_params()
    if pull_request and base:
        raise typer.BadParameter("a pull request goes into the base branch; leave out --base")
    if pull_request:
        open_forge_to_submit(Git(root))  # before minutes of training, not after
    stale = None if base else refresh_base(root)
    proposal = make(root, params, read_base(root, params.name, base, params.release.environments), progress)
    for notice in filter(None, (stale, *proposal.notices)):
        progress(f"warning: {notice}")
    if proposal.judged is None:
        git = Git(root)
        fresh = git.run("status", "--porcelain", "--", str(SIGNATURES))  # signatures that no commit has yet
        if fresh and pull_request:
            _tell_opened(submit(root, params, proposal))
        if json:
            told = {"state": proposal.state, "version": proposal.version, "digest": proposal.digest}
            say_json({**told, "signed": proposal.signed} if proposal.signed else told)
            return
        what = "what is released is signed now" if fresh else "there is nothing to propose"
        say(f"unchanged: version {proposal.version} is what is served already; {what}")
        if fresh and not pull_request:
            say(f"next: commit {SIGNATURES} with the key and params.yaml, or run: mergeline propose --pull-request")
        if pull_request and (left := differing(git, "HEAD")):
            progress(f"not committed: {', '.join(left[:5])}; it makes no other model: commit it and push it with git")
        return
    if proposal.state is ProposalStatus.PROPOSED and pull_request:
        _tell_opened(submit(root, params, proposal))
    tell_verdict(
        proposal.judged.verdict,
        json=json,
        then=what_next(root, proposal, pull_request=pull_request, next_step=next_step),
    )


@app.command()
def report(base: BaseOption = None, every: AllOption = False) -> None:
    """Judge the model in the work tree against what production serves and write report/, without proposing it."""
    from mergeline.evaluate.champion import judge_work_tree
    from mergeline.github.base import read_base
    from mergeline.github.git import Git
    from mergeline.github.served_releases import PastStore
    from mergeline.release.propose import write_report
    from mergeline.store.objects import embedded_store

    def judge(name: str, home: Home) -> None:
        root, params, git = home.folder, params_of(home), Git(home.root)
        found = read_base(root, params.name, base)
        if name and not _released(root, found):
            return
        folder = embedded_store(root)
        past = PastStore(git, folder, "HEAD", "HEAD") if folder and git.find("HEAD") else None
        judged = judge_work_tree(root, params, found.manifest, past, needs_champion=False)
        reports = write_report(root, params, found, judged, version=None)
        say(f"report: {short_path(reports.markdown)}, {short_path(reports.page)}, {short_path(reports.card)}")

    for_each_home(judge, every=every)


def _released(root: Path, base: Base) -> bool:
    """Whether the pipeline's model is stable here, and was not at the base: one of several is not judged in vain."""
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.store.dvc_lock import locked_model

    now, was = read_manifest(root / MANIFEST_FILE).spec.stable, base.manifest.spec.stable
    return now is not None and now.source == locked_model(root) and (was is None or was.digest != now.digest)


def _tell_opened(pull: PullRequest) -> None:
    progress(f"pull request #{pull.number} from {pull.branch}: {pull.url}")


def what_next(root: Path, proposal: Proposal, *, pull_request: bool, next_step: bool) -> str:
    """Where the report is and what to do next; without `next_step` whoever called goes on with what was accepted."""
    reports = proposal.reports
    place = f"report: {short_path(reports.markdown)}, {short_path(reports.page)}" if reports else ""
    if proposal.version is None:
        change = "the model"
        if proposal.judged is not None and proposal.judged.verdict.inconclusive:
            change = "the model, judge on more rows (split), or say what difference matters (gate.margin)"
        return f"{place}\nnext: change {change}, and propose again; nothing but the report was written"
    if not next_step:
        return place
    if pull_request:
        return f"{place}\nnext: read the report, and merge the pull request to release version {proposal.version}"
    from mergeline.store.objects import embedded_store

    store = embedded_store(root)
    made = f"dvc.lock, deploy/ and {store}/" if store else "dvc.lock and deploy/"
    return f"{place}\nnext: commit your change with {made}, or run: mergeline propose --pull-request"
