"""Tells a pull request what became of its proposal, from the job that applied it or after its run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergeline.ci.announce import outdated
from mergeline.ci.bundle import ApplyResult, ProposalBundle, bundle_folders, read_bundle, read_outcomes
from mergeline.ci.comment_text import (
    CommentContext,
    CommentText,
    say,
    text_of_missing,
    text_of_not_written,
    text_of_refused,
    text_of_several,
)
from mergeline.errors import BundleError, DocumentError, ForgeError
from mergeline.github.actions import Job, add_summary
from mergeline.github.base import BASE_BRANCH, MAIN, REMOTE
from mergeline.github.comment import About, Post, ours, post_report, read_about
from mergeline.github.effects import NOTHING, headline, merging_of
from mergeline.github.forge import GitHubForge
from mergeline.github.git import Git
from mergeline.github.git_objects import homes_in
from mergeline.github.own_branch import RUN_AGAIN
from mergeline.github.pull_requests import STALE, PullRequest, Pulls, made_again
from mergeline.params import PARAMS_FILE
from mergeline.release.proposal import judged_by

REPORT_KEY = "report"
_SILENT = frozenset({"cancelled", "skipped", "action_required", "stale", "neutral"})
"""Ends of a run that say nothing about the pull request: a newer run replaced it, or nobody has approved it yet."""

_RED = "the required check is red: the summary of the run's job `check` says why, and what to do next"


class _Repository(BaseModel):
    full_name: str


class WorkflowRun(BaseModel):
    """What is needed of a run, from the event `workflow_run`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int
    run_attempt: int = 1
    event: str
    head_branch: str | None = None
    head_sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    conclusion: str | None = None
    head_repository: _Repository | None = None
    repository: _Repository
    html_url: str = ""


def read_run(event: Mapping[str, Any]) -> WorkflowRun:
    """The run in the payload of a `workflow_run` event.

    Raises:
        ForgeError: it is another event's payload.
    """
    try:
        return WorkflowRun.model_validate(event["workflow_run"])
    except (KeyError, ValidationError) as cause:
        raise ForgeError(
            f"not the event of a run: {str(cause).splitlines()[0]}",
            where="--run-event",
            hint="run this in a workflow that is started by workflow_run",
        ) from None


def comment_on_pull(  # noqa: PLR0917 - what the job knows
    forge: Pulls, folder: Path, number: int, job: Job, setting: CommentContext, git: Git | None = None
) -> str:
    """Tell the pull request `number`, from the run that made the proposal; a line says what was done.

    Args:
        forge: where the pull request is.
        folder: the proposal's.
        number: the pull request's.
        job: the run's; addresses of another run's artifacts are left out.
        setting: what else is known.
        git: the repository, where what merging does is read.

    Raises:
        ForgeError: there is no such pull request, or the token may not.
    """
    pull = forge.get(number)
    if setting.red and not setting.refused:  # the job that concludes failed itself
        setting = setting.model_copy(update={"refused": (_RED,)})
    if pull.fork:  # started by hand, and refused: what its own run has told stays
        return f"pull request #{number}: a fork's is told after its own run"
    facts = setting.model_copy(update={
        "run_url": job.run_url,
        **{name: _artifact(getattr(setting, name), job.run_url) for name in ("page_url", "files_url")},
    })  # fmt: skip
    run = f"{job.run_id}.{job.run_attempt}" if job.run_id.isdecimal() else ""
    said, head = _words(folder, pull, None, facts, _merging(git, pull))
    if git is not None and STALE in pull.labels and not facts.refused:
        main = git.run("rev-parse", MAIN)
        if not outdated(git, pull, main):
            made_again(forge, pull, main)
    return _tell(forge, pull, said, About(head=head, run=run))


def _merging(git: Git | None, pull: PullRequest) -> dict[str, dict[str, str]]:
    """What merging the pull request as it is now does to each model, and what it changes of how that is judged."""
    if git is None or pull.fork:
        return {}
    git.fetch(REMOTE, BASE_BRANCH)
    git.bring(REMOTE, pull.head)
    told = {name: {"merging": words} for name, words in merging_of(git, MAIN, pull.head).items()}
    base = git.run("merge-base", MAIN, pull.head)
    for home in homes_in(git, pull.head).values():
        before, after = (git.text(commit, home.path(PARAMS_FILE)) for commit in (base, pull.head))
        with contextlib.suppress(DocumentError):  # a new model has no earlier params; of broken ones the report tells
            told.setdefault(home.model, {})["judge"] = judged_by(before, after)
    return told


def _artifact(url: str, run_url: str) -> str:
    """The address of an artifact of this very run; the job that names it runs the branch's code."""
    return url if run_url and re.fullmatch(rf"{re.escape(run_url)}/artifacts/\d+", url) else ""


def comment_after_run(
    forge: GitHubForge, folder: Path, run: WorkflowRun, setting: CommentContext, git: Git | None = None
) -> str:
    """Tell the pull request of a run that has ended, found by what GitHub knows of the run.

    No number is taken from the artifact, and a run from a fork names none: the pull request is the one whose head
    is the run's repository and branch, and that holds the run's commit.

    Raises:
        ForgeError: the run is another repository's, or the token may not.
    """
    if run.repository.full_name.lower() != forge.client.name.lower():
        raise ForgeError(
            f"the run is one of {run.repository.full_name}", where="--run-event", hint="comment from that repository"
        )
    if run.event != "pull_request" or run.head_repository is None or run.head_branch is None:
        return f"nothing to tell: a run on {run.event} has no branch that asks for a merge"
    if not folder.exists() and (run.conclusion or "") in {*_SILENT, "success", ""}:
        return f"nothing to tell: the run ended as {run.conclusion} and left no proposal"
    source = run.head_repository.full_name
    pull = forge.find_by_head(source, run.head_branch, run.head_sha)
    if pull is None:
        return f"nothing to tell: no pull request of {source}:{run.head_branch} holds {run.head_sha[:12]}"
    about = About(head=run.head_sha, run=f"{run.id}.{run.run_attempt}")
    mine = ours(forge.comments(pull.number), REPORT_KEY, forge.client.me)
    if mine and read_about(mine[0]).run == about.run:
        return "nothing to tell: the run has told it by itself"
    facts = setting.model_copy(update={"fork": pull.fork, "run_url": run.html_url, "afterwards": True})
    if run.conclusion == "failure":
        facts = facts.model_copy(update={"refused": (_RED,)})
    said, _ = _words(folder, pull, run, facts, _merging(git, pull))
    return _tell(forge, pull, said, about)


def is_stale(earlier: About, about: About, commits: Sequence[str]) -> bool:
    """Whether what was told already is about a later commit, or comes from a later run on the same one.

    Args:
        earlier: what the comment is about.
        about: what is to be told.
        commits: the pull request's commits, oldest first.
    """
    if earlier.head == about.head:
        return bool(earlier.run and about.run) and _order(earlier.run) > _order(about.run)
    if earlier.head not in commits or about.head not in commits:
        return False
    return commits.index(earlier.head) > commits.index(about.head)


def _order(run: str) -> tuple[int, ...]:
    return tuple(int(part) for part in run.split("."))


def _words(
    folder: Path,
    pull: PullRequest,
    run: WorkflowRun | None,
    facts: CommentContext,
    merging: Mapping[str, Mapping[str, str]],
) -> tuple[CommentText, str]:
    """What is told of all models, and the commit that it is about."""
    head = run.head_sha if run else pull.head
    try:
        # After the run its artifact is all there is, and what became of a proposal is not for the artifact to say.
        outcomes = read_outcomes(folder) if run is None else {}
        folders = bundle_folders(folder)
    except BundleError as error:
        return text_of_refused(error, facts), head
    said: dict[str, CommentText] = {}
    if len(folders) > 1:
        facts = facts.model_copy(update={"page_url": "", "files_url": ""})  # they would be another model's
    for name, place in folders.items():
        own = facts.model_copy(update=dict(merging.get(name, merging.get("", {}))))
        said[name], head = _words_of(place, outcomes.get(name), pull, run, own)
    return text_of_several(said), head


def _words_of(
    folder: Path, applied: ApplyResult | None, pull: PullRequest, run: WorkflowRun | None, facts: CommentContext
) -> tuple[CommentText, str]:
    """What is told of one model, and the commit that it is about."""
    head = run.head_sha if run else pull.head
    try:
        if not folder.exists() and applied is None:
            if run is None and not facts.refused:  # nothing was to be made
                return CommentText(text=headline(NOTHING), create=False), head
            return text_of_missing(run.conclusion or "" if run else "", facts), head
        bundle = read_bundle(folder)
        _require_same(bundle, pull, run)
    except BundleError as error:
        return (
            text_of_not_written(applied, facts) if applied and applied.error else text_of_refused(error, facts)
        ), head
    return say(bundle.summary, bundle.report, applied, facts), run.head_sha if run else bundle.summary.head


def _require_same(bundle: ProposalBundle, pull: PullRequest, run: WorkflowRun | None) -> None:
    """Refuse a proposal that claims to be another pull request's, or of another commit than the run's."""
    claimed = bundle.summary
    if claimed.pull not in {None, pull.number}:
        raise BundleError(
            f"the proposal was made for pull request {claimed.pull}",
            where=f"pull request {pull.number}",
            hint=RUN_AGAIN,
        )
    if run is not None and claimed.head != run.head_sha:
        raise BundleError(
            f"the proposal says that it was made of {claimed.head}, and the run was one of {run.head_sha}",
            where=f"pull request {pull.number}",
            hint=RUN_AGAIN,
        )


def _tell(forge: Pulls, pull: PullRequest, said: CommentText, about: About) -> str:
    add_summary(said.text)
    number = pull.number
    if not said.create and not forge.has_comment(number, REPORT_KEY):
        return f"pull request #{number}: no model is changed, and no comment says otherwise"
    if not isinstance(forge, GitHubForge):
        forge.comment(number, REPORT_KEY, said.text)
        return f"pull request #{number}: commented"
    mine = ours(forge.comments(number), REPORT_KEY, forge.client.me)
    earlier = read_about(mine[0]) if mine else About()
    if mine and is_stale(earlier, about, forge.commits(number)):
        return f"pull request #{number}: the comment is about something newer, and stays"
    post = Post(repository=forge.client.name, number=number, key=REPORT_KEY, text=said.text, about=about)
    posted = post_report(forge, post)
    add_summary(f"\n<sub>The comment was {posted}</sub>")
    return f"pull request #{number}: the comment was {posted}"
