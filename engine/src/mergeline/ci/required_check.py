"""Concludes from the jobs of a run, and from what the commit would release, whether it may be merged."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from mergeline.ci.bundle import ApplyOutcome, ProposalStatus
from mergeline.documents import Frozen
from mergeline.evaluate.results import Check
from mergeline.manifest.change import Change
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.store.dvc_lock import LOCK_FILE

CHECK = "mergeline"
PLAN, TESTS, REPRODUCE, PROPOSE = "plan", "tests", "reproduce", "propose"
_PATHS = 100  # in the command that takes them back: a model is some ten objects
_JUDGED_BEFORE = (Change.ROLLBACK, Change.CONCLUSION, Change.PROMOTION)
_DONE = (ApplyOutcome.APPLIED, ApplyOutcome.NOTHING, ApplyOutcome.PUSHED)


class Result(StrEnum):
    """How a job ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class JobResult(Frozen):
    """One of the jobs that GitHub's `needs` tells of."""

    result: Result
    outputs: dict[str, str] = Field(default_factory=dict)


class Event(StrEnum):
    """What the run was started for."""

    PULL = "pull request"
    GROUP = "merge group"
    BRANCH = "branch of its own"


class CommitFacts(Frozen):
    """What is known of the commit that would be merged, worked out from git and not by the branch's own code.

    `standing` is what its manifests would do, `digest` the one model that it brings. `outputs` are generated files
    that it changes though its branch is a fork's. `elsewhere` is an environment after the first into which a model
    would come that may not. `unsound` is what `verify` would find after the merge, and not before it.
    """

    standing: Change
    digest: str | None = None
    fork: bool = False
    outputs: tuple[str, ...] = ()
    elsewhere: str = ""
    unsound: tuple[Check, ...] = ()


class CheckResult(Frozen):
    """Whether the commit may be merged; `reasons` has a line for each thing that was looked at."""

    accepted: bool
    title: str
    reasons: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The reasons as Markdown."""
        return "\n".join(f"- {reason}" for reason in self.reasons) + "\n"


def decide(needs: Mapping[str, JobResult], event: Event, commit: CommitFacts) -> CheckResult:
    """Conclude whether a commit may be merged.

    The outputs of `reproduce` are the word of the branch's own code. They can only take away: a commit that brings
    another model is accepted if `propose`, which runs the base branch's code, has put it there or found it there;
    in a merge group, where nothing can be put, if what was reproduced is what the group's manifest says.

    Args:
        needs: the jobs by name; one that is missing counts as cancelled.
        event: what the run was started for.
        commit: the commit that would be merged, with the proposal on it where there is one.
    """
    jobs = {name: needs.get(name, JobResult(result=Result.CANCELLED)) for name in (TESTS, REPRODUCE, PROPOSE)}
    jobs[PLAN] = needs.get(PLAN, JobResult(result=Result.SUCCESS))  # a workflow file of before has no such job
    against = {
        "plan": _plan(jobs[PLAN]),
        "tests": None if _left_out(jobs, TESTS) else _tests(jobs[TESTS]),
        "model": None if _left_out(jobs, REPRODUCE) else _model(jobs[REPRODUCE]),
        "proposal": None if _left_out(jobs, REPRODUCE) else _proposal(jobs[PROPOSE], jobs[REPRODUCE], event, commit),
        "release": _release(jobs, event, commit),
        "after the merge": _unsound(commit),
    }
    reasons = tuple(f"{'❌' if trouble else '✅'} {name}: {trouble or 'good'}" for name, trouble in against.items())
    first = next((trouble for trouble in against.values() if trouble), None)
    return CheckResult(
        accepted=first is None,
        title=_sentence(first.splitlines()[0] if first else _accepted(jobs[REPRODUCE], commit)),
        reasons=reasons,
    )


def _plan(job: JobResult) -> str | None:
    return None if job.result is Result.SUCCESS else f"nobody could say what there is to do: plan ended as {job.result}"


def _left_out(jobs: Mapping[str, JobResult], name: str) -> bool:
    """Whether the plan, made by the base branch's code, says that this job has nothing to do."""
    output = {TESTS: "tests", REPRODUCE: "model"}[name]
    return jobs[name].result is Result.SKIPPED and jobs[PLAN].outputs.get(output) == "false"


def _tests(job: JobResult) -> str | None:
    return None if job.result is Result.SUCCESS else f"the tests ended as {job.result}"


def _model(job: JobResult) -> str | None:
    state = _state(job)
    if state is None or job.result is not Result.SUCCESS:
        return f"the model could not be made: the job reproduce ended as {job.result}, state {state or 'unknown'}"
    return None if state.passes else f"the model is {state}"


def _proposal(job: JobResult, reproduce: JobResult, event: Event, commit: CommitFacts) -> str | None:
    if job.result is Result.SKIPPED and (event is Event.GROUP or commit.fork):
        return None
    outcome = job.outputs.get("outcome", "")
    if job.result is Result.SUCCESS and outcome in _DONE:
        return None
    state = _state(reproduce)
    if state is not None and not state.passes and not outcome:
        return f"nothing was proposed: the model is {state}"
    words = {
        "outdated": "the proposal is outdated: main or the branch moved on; run model.yml with its number",
        "refused": "the proposal was refused, and nothing was written: the comment says why",
    }
    return words.get(outcome, f"the job propose ended as {job.result}")


def _release(jobs: Mapping[str, JobResult], event: Event, commit: CommitFacts) -> str | None:
    """Whether merging the commit would release something that nobody has judged."""
    if commit.fork and commit.outputs:
        return _taken_back(commit)
    if commit.elsewhere:
        return (
            f"the manifest of {commit.elsewhere} names a model that was not promoted: it must have served in the "
            "environment before, no environment may hold it, and it comes in a pull request of its own\n"
            "  to bring it there: `mergeline promote --pull-request`"
        )
    judged_before = commit.standing in _JUDGED_BEFORE and not commit.fork
    if commit.standing is Change.SAME or judged_before:
        return None
    reproduce, propose = jobs[REPRODUCE], jobs[PROPOSE]
    if event is Event.GROUP:
        judged = reproduce.outputs.get("digest") if _state(reproduce) is ProposalStatus.PROPOSED else None
    else:
        done = propose.result is Result.SUCCESS and propose.outputs.get("outcome") in _DONE
        judged = propose.outputs.get("digest") if done else None
    if commit.digest and judged == commit.digest and not commit.fork:
        return None
    return "deploy/manifest.yaml names a model that was not judged against main as it is now"


def _unsound(commit: CommitFacts) -> str | None:
    """What would be wrong with the state that the merge makes, each on a line, and how to get there."""
    if not commit.unsound:
        return None
    found = [f"{check.name}: {check.value.splitlines()[0]}: {check.meaning}" for check in commit.unsound]
    if commit.standing is Change.ROLLBACK and any(check.name == LOCK_FILE.name for check in commit.unsound):
        found = [
            f"{LOCK_FILE} names another model than the manifest would serve",
            "to go back: `mergeline rollback --pull-request 'what failed'`; or revert the release's whole commit",
        ]
    elif any(check.name.endswith("store") for check in commit.unsound):
        found.append("objects of what would serve are not in the store: run model.yml with its number to put them back")
    return "\n  ".join(line.replace("\n", "\n  ") for line in found)


def _taken_back(commit: CommitFacts) -> str:
    """What a fork's author is told: one line for the title, and the command.

    The paths go back to where the branch left main (`A...B` is git's word for that), which removes added ones too.
    """
    more = f" and {len(commit.outputs) - 3} more" if len(commit.outputs) > 3 else ""
    manifest = () if commit.standing is Change.SAME else (MANIFEST_FILE.as_posix(),)
    paths = shlex.join((*manifest, *commit.outputs[:_PATHS]))
    return (
        f"a fork may not bring what the pipeline makes: {', '.join(commit.outputs[:3])}{more}\n"
        "  take it back, with this repository's address for UPSTREAM, then commit and push: "
        f"`git fetch UPSTREAM main && git restore --source=FETCH_HEAD...HEAD --staged --worktree -- {paths}`"
    )


def _state(job: JobResult) -> ProposalStatus | None:
    state = job.outputs.get("state", "")
    return ProposalStatus(state) if state in set(ProposalStatus) else None


def _accepted(reproduce: JobResult, commit: CommitFacts) -> str:
    if commit.standing is Change.ROLLBACK:
        return "accepted: merging takes production back to a model that it served before"
    if commit.standing is Change.PROMOTION:
        return "accepted: merging brings a model on that the environment before has served"
    if commit.standing is Change.CONCLUSION:
        return "accepted: merging ends a rollout; its candidate was judged when it came"
    if _state(reproduce) is ProposalStatus.PROPOSED and commit.fork:
        return "accepted: merging releases nothing yet; the model is made again from main, and proposed by itself"
    if _state(reproduce) is ProposalStatus.PROPOSED:
        return "accepted: merging releases the model in the report"
    return "accepted: no model is changed"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
