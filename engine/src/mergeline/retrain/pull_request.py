"""Proposes a model that is trained on fresh rows of production, on a branch that is made anew each time."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mergeline.ci.apply import RETRAIN_BRANCH, RETRAINED, RETRAINING, apply, tell_left_alone
from mergeline.ci.build_bundle import PARTITIONS, build_bundle
from mergeline.ci.bundle import EVIDENCE, ApplyOutcome, ApplyResult, ProposalSummary, read_bundle
from mergeline.dataset.quarantine import QUARANTINE_FOLDER, write_parts, write_quarantine
from mergeline.documents import parse_json, read_text
from mergeline.errors import DataError, ForgeError
from mergeline.files import write_json, write_text
from mergeline.github.base import BASE_BRANCH, REMOTE, fetch_main, read_base
from mergeline.github.git import Git
from mergeline.github.git_objects import contains, differing, require_committed
from mergeline.github.open_proposal import LABEL as MODEL
from mergeline.github.open_proposal import REPORT_COMMENT, concerns, open_forge
from mergeline.github.own_branch import PeopleError, own_tip
from mergeline.github.pull_requests import PullRequest, Pulls
from mergeline.github.sanitize import code_block, defuse, quote
from mergeline.home import Home
from mergeline.manifest.schema import Manifest, Release, is_manifest
from mergeline.params import DataParams, Params
from mergeline.release.mlflow_client import URI_VARIABLE, tracking_place
from mergeline.release.proposal import ProposalStatus
from mergeline.retrain.cool_down import DECLINED, Situation, Step, decide, too_many_bad, why_not_now
from mergeline.rollout.change import LABEL as PRODUCTION
from mergeline.rollout.change import put_check
from mergeline.store.config import share_config
from mergeline.watch.challenge import CHALLENGE_FILE, Challenge, Challenged
from mergeline.watch.results import Outcome as Verdict

RETRAINING_FOLDER = Path("build/retraining")
PROPOSAL_FOLDER = Path("build/retraining-proposal")
WORKTREES = Path(".dvc/tmp/retraining")
"""Where the work tree of a retraining is: on the disk of DVC's cache, and ignored by git and DVC."""
ISSUE = "retraining"
_ALARMS = (Verdict.DRIFT, Verdict.DEGRADED)

Say = Callable[[str], None]
Challenges = Callable[[Manifest], Challenge]
"""Runs a challenge against the champion of a manifest."""


@dataclass(frozen=True)
class Watch:
    """What the last look at production came to, as `watch.json` says; the outcome is None where nobody has looked.

    `digest` is the model's that was looked at.
    """

    outcome: Verdict | None = None
    headline: str = ""
    digest: str = ""

    def at(self, release: Release | None) -> Watch:
        """The look, where it was at this model; none where it was at another one."""
        return self if release is not None and release.digest == self.digest else Watch()


@dataclass(frozen=True)
class Prepared:
    """What there is to do and why; `folder` holds what is to be proposed, where there is something."""

    step: Step
    reason: str
    folder: Path | None = None
    challenged: Challenged | None = None


def branch_of(name: str) -> str:
    """The branch on which retrainings of a model are proposed."""
    return f"{RETRAIN_BRANCH}{name}"


def read_watch(path: Path) -> Watch:
    """What the last look at production came to.

    Raises:
        DataError: the file is not one that `mergeline watch` writes.
    """
    if not os.path.lexists(path):
        return Watch()
    told = parse_json(read_text(path), str(path), DataError)
    try:
        return Watch(Verdict(told["outcome"]), str(told["headline"]), str(told["digest"]))
    except (ValueError, KeyError, TypeError) as cause:
        raise DataError("not what mergeline watch writes", where=str(path), hint="run mergeline watch again") from cause


def prepare(
    root: Path,
    params: Params,
    challenges: Challenges,
    watch: Watch,
    *,
    now: datetime,
    tell: bool,
    say: Say,
    anyway: bool = False,
    folder: Path | None = None,
) -> Prepared:
    """Look whether a retraining may and should be proposed, and lay out what it takes.

    Args:
        root: the repository, with the base branch checked out and its data pulled.
        params: of the repository.
        challenges: trains and judges the challenger.
        watch: the drift evidence; that of another model than the stable one counts as none.
        now: the present time.
        tell: tell people in an issue what is missing, and on the pull request where their commits stand in the way.
        say: takes a line of progress.
        anyway: a person wants it though no gain is proven.
        folder: where to lay out the partitions and the evidence; it is made anew.

    Raises:
        DataError: too many rows break the schema, and the error names the file that holds them; or the folder holds
            something else.
        ForgeError: the base branch's newest commit is not checked out as it is, or git or the forge refused.
    """
    home = Home.at(root)
    git, branch = Git(home.root), branch_of(params.name)
    forge = open_forge(git)
    git.remove_worktrees(home.root / WORKTREES)
    main = fetch_main(git)
    if git.find("HEAD") != main:
        raise ForgeError(
            f"the newest commit of {BASE_BRANCH} is not checked out",
            where=str(root),
            hint=f"git switch {BASE_BRANCH} && git pull, then: dvc pull",
        )
    require_committed(git, main)
    base = read_base(root, None, main, params.release.environments)
    manifest = base.manifest  # what a proposal must be better than; what was watched is what production serves
    watch = watch.at(base.others.get(params.release.environments[-1], manifest).spec.stable)
    try:
        tip = own_tip(git, branch, main)
    except PeopleError as error:
        if tell:
            _report_blocked(forge, params.name, branch, error, say)
        return Prepared(Step.WAIT, f"{branch}: {error.what}")
    if tell:
        with contextlib.suppress(ForgeError):
            forge.close_issue(_blocked_key(params.name), f"`{branch}` is free again.")
    closed = forge.list_declined(branch)
    if tip in {pull.head for pull in closed}:
        tip = None  # its branch was kept: one attempt, not two
    situation = Situation(
        now,
        under_way(home, forge, manifest, branch, main),
        (
            *attempts(git, main, branch, home.path(f"{params.data.path}.dvc"), tip),
            *(pull.closed_at for pull in closed if pull.closed_at is not None),
        ),
        tuple(f"#{pull.number} {pull.title}" for pull in closed if DECLINED in pull.labels),
    )
    waiting = why_not_now(situation, params.retrain)
    if waiting is not None:
        return Prepared(Step.WAIT, waiting)
    challenge = challenges(manifest)
    place = write_quarantine(challenge.rows.bad, root / QUARANTINE_FOLDER)
    stopped = too_many_bad(challenge.result, params.retrain)
    if stopped is not None:
        raise DataError(
            stopped,
            where=str(place),
            hint="fix what sends them, or the schema; or raise retrain.max_quarantine if they may be lost."
            " To see them, run mergeline retrain on a machine of yours: a job's file goes with the job",
        )
    step, reason = decide(challenge.result, anyway=anyway)
    if tell:
        _tell_missing(forge, params, watch, challenge.result, step, reason, say)
    if step is not Step.PROPOSE:
        return Prepared(step, reason, challenged=challenge.result)
    target = folder or root / RETRAINING_FOLDER
    _lay_out(target, challenge, watch, reason, params.data)
    return Prepared(step, reason, target, challenge.result)


def retrain(root: Path, params: Params, folder: Path, say: Say) -> tuple[ProposalSummary, ApplyResult]:
    """Make the proposal of what was prepared, put it on its branch, and open or update its pull request.

    It is made in a work tree of its own: whatever happens to this process, the person's files are as they were.

    Args:
        root: the home.
        params: of the home.
        folder: what `prepare` laid out.
        say: takes a line for each step.

    Raises:
        BundleError: the folder for the proposal holds something else.
        ForgeError: git or the forge refused.
    """
    home = Home.at(root)
    git = Git(home.root)
    with git.worktree(home.root / WORKTREES, "HEAD") as own:
        share_config(root, own.folder)
        if os.environ.get(URI_VARIABLE):  # a relative database is the clone's, not the work tree's
            os.environ[URI_VARIABLE] = tracking_place(params.tracking, root).uri
        # An earlier process may have been killed while it wrote the bundle: this one is written elsewhere.
        bundle = own.folder / PROPOSAL_FOLDER
        made = build_bundle(own.folder / home.place, bundle, None, None, say, folder)
        [applied] = apply(root, bundle, head=made.head, branch=branch_of(params.name)).values()
        if applied.pull is not None and applied.commit is not None:
            forge, report = open_forge(git), read_bundle(bundle).report
            if report is not None:
                forge.comment(applied.pull, REPORT_COMMENT, report)
            put_check(home, forge, applied.commit, made.headline, passes=made.state.passes)
        return made, applied


def under_way(home: Home, forge: Pulls, manifest: Manifest, own: str, main: str) -> tuple[str, ...]:
    """The promotions that are under way: a candidate that rolls out, and open pull requests that change what serves.

    A person's pull request has no label of ours: its manifest says that it does.
    """
    git, candidate = Git(home.root), manifest.spec.candidate
    found = [f"version {candidate.version} rolls out"] if candidate else []
    others = [pull for pull in forge.list_open() if pull.branch != own and not pull.fork]
    promotions = (
        pull
        for pull in others
        if ({PRODUCTION, MODEL} & set(pull.labels) and concerns(git, home, pull, main))
        or _changes_manifest(git, home, pull, main)
    )
    return (*found, *(f"#{pull.number} {pull.title}" for pull in promotions))


def _changes_manifest(git: Git, home: Home, pull: PullRequest, main: str) -> bool:
    if not git.bring(REMOTE, pull.head):
        return False  # the branch was deleted at this moment
    return any(map(is_manifest, differing(git, f"{main}...{pull.head}", paths=[home.path("deploy")])))


def attempts(git: Git, main: str, branch: str, file: str, tip: str | None) -> tuple[datetime, ...]:
    """When retrainings were merged, and when the one on the branch was made.

    A merge is one of ours if its message names the branch, or the title that our pull requests have.
    """
    ours = re.compile(
        rf"(?:(?<![\w/-])|\bfrom [\w.-]+/){re.escape(branch)}(?![\w/-])|: version \d+{re.escape(RETRAINED)}\b"
    )
    log = git.run("log", "--first-parent", "-z", "--format=%ct%x1f%B", main, "--", file)
    entries = [entry.split("\x1f", 1) for entry in log.split("\0") if entry]
    seconds = [int(time) for time, message in entries if ours.search(message)]
    made = int(git.run("log", "-1", "--format=%ct", tip)) if tip is not None else 0
    # A branch that was squashed and not deleted is older than its merge: one attempt, not two.
    if tip is not None and made > max(seconds, default=0) and not contains(git, main, tip):
        seconds.append(made)
    return tuple(datetime.fromtimestamp(time, UTC) for time in seconds)


def _blocked_key(name: str) -> str:
    return f"retraining-blocked-{name}"[:60].rstrip("-")


def _report_blocked(forge: Pulls, name: str, branch: str, error: PeopleError, say: Say) -> None:
    """Say that people's commits keep a retraining from being proposed: on its pull request, or in one issue."""
    if forge.find(branch) is not None:
        tell_left_alone(forge, branch, error)
        return
    body = (
        f"No retraining of {name} is proposed: {error.what}. The pull request of `{branch}` is closed, and the branch "
        f"is still there.\n\n{error.hint}. This issue is closed by itself then.\n"
    )
    try:
        forge.open_or_update_issue(_blocked_key(name), f"{name}: {branch} blocks retraining", body, [RETRAINING])
    except ForgeError as refused:
        say(f"warning: no issue says that {branch} blocks retraining: {refused.what}")


def _tell_missing(  # noqa: PLR0917 - what is told, and of what
    forge: Pulls, params: Params, watch: Watch, challenged: Challenged, step: Step, reason: str, say: Say
) -> None:
    """Keep the one issue that says what labels are wanting while production drifts; close it when that is over.

    Issues may be switched off: that keeps nothing from going on.
    """
    key = f"{ISSUE}-{params.name}"[:60].rstrip("-")
    if step is Step.TOO_FEW and watch.outcome in _ALARMS:
        settings = params.retrain
        body = (
            f"Production has changed, and there are too few labels to tell whether a new model would be better.\n\n"
            f"{quote(f'{watch.outcome}: {watch.headline}')}\n\n"
            f"{quote(reason)}\n\n"
            f"Send labels to `POST /feedback`: at least {settings.min_labels:,} for rows of the newest "
            f"{settings.judge_days} days, which are not in the data yet. This issue is closed by itself.\n"
        )
        try:
            forge.open_or_update_issue(key, f"{params.name}: labels are missing to retrain", body, [RETRAINING])
        except ForgeError as error:
            say(f"warning: no issue says which labels are missing: {error.what}")
    elif step is not Step.TOO_FEW or watch.outcome is Verdict.STEADY:
        enough = f"There are enough labels now: {challenged.judged:,} rows to judge on."
        with contextlib.suppress(ForgeError):
            forge.close_issue(key, enough if step is not Step.TOO_FEW else "Production is steady again.")


def _lay_out(folder: Path, challenge: Challenge, watch: Watch, reason: str, data: DataParams) -> None:
    """Write partitions, evidence and the challenge into the folder, made anew.

    Raises:
        DataError: it holds what a retraining does not write.
    """
    drafts = f".{CHALLENGE_FILE}."  # one that was killed may have left its first file half written
    there = [path for path in folder.iterdir() if not path.name.startswith(drafts)] if folder.exists() else []
    old = list((folder / PARTITIONS).iterdir()) if (folder / PARTITIONS).exists() else []
    foreign = [path for path in old if path.suffix != ".parquet" or not path.is_file()]
    if foreign or (there and not (folder / CHALLENGE_FILE).is_file()):
        raise DataError(
            "the folder holds something else than an earlier retraining",
            where=str(foreign[0] if foreign else folder),
            hint="give another folder: --output, or empty this one",
        )
    write_json(folder / CHALLENGE_FILE, challenge.result.model_dump(mode="json"))  # first: it says whose folder this is
    for path in old:
        path.unlink()
    write_parts(challenge.parts, folder / PARTITIONS, data)
    write_text(folder / EVIDENCE, evidence(challenge.result, watch, reason))


def evidence(challenged: Challenged, watch: Watch, reason: str) -> str:
    """Why a retraining is proposed, as Markdown; words from outside are shown as they are, and do nothing."""
    taken = challenged.ingested
    rows = [
        f"partitions    {', '.join(taken.partitions)}",
        f"rows          {taken.rows:,}",
        f"in quarantine {taken.quarantined:,}"
        + "".join(f"\n  {count:,}  {why}" for why, count in taken.reasons.items()),
        f"known already {taken.known:,}",
        f"came too late {taken.late:,}",
    ]
    parts = [
        f"**A challenger against version {challenged.version}, on {challenged.judged:,} newest labelled rows "
        f"({challenged.proof})**\n\n{quote(reason)}",
        quote("\n".join(f"{one.status.value} {one.name}: {one.value}: {one.meaning}" for one in challenged.reasons)),
        f"**Fresh rows**\n\n{code_block(defuse(chr(10).join(rows)))}",
    ]
    if watch.outcome is not None:
        parts.append(f"**Production: {watch.outcome}**\n\n{quote(watch.headline)}")
    return "\n\n".join(parts) + "\n"


def is_done(proposal: ProposalSummary, applied: ApplyResult) -> bool:
    """Whether nothing failed on the way: a model that the gate rejects is a good end; an error or a refusal is not."""
    return proposal.state is not ProposalStatus.FAILED and applied.outcome is not ApplyOutcome.REFUSED
