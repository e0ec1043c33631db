"""Concludes from the jobs of a run, and from what the commit would release, whether it may be merged."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from mergeline.ci.bundle import ApplyOutcome
from mergeline.documents import Frozen
from mergeline.evaluate.results import Check
from mergeline.github.sanitize import item
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.manifest.transitions import Change
from mergeline.release.proposal import ProposalStatus
from mergeline.store.dvc_lock import LOCK_FILE

CHECK = "mergeline"
PLAN, TESTS, REPRODUCE, PROPOSE = "plan", "tests", "reproduce", "propose"
_PATHS = 100  # in the command that takes them back: a model is some ten objects
_JUDGED_BEFORE = (Change.ROLLBACK, Change.CONCLUSION, Change.PROMOTION)
_NO_CHANGE = "no model is changed"
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
    """What is known of one model in the commit that would be merged, worked out from git, not by the branch's own code.

    `standing` is what its manifests would do, `digest` the one model that it brings. `outputs` are generated files
    that it changes though its branch is a fork's. `unusable` says why its new model cannot be served, `both` that it
    changes workflows and the engine together. `elsewhere` is an environment after the first into which a model would
    come that may not. `unsound` is what `verify` would find after the merge, and not before it. `renumbered` is the
    manifest in which somebody edited a version, and which, in words.
    """

    standing: Change
    digest: str | None = None
    fork: bool = False
    outputs: tuple[str, ...] = ()
    elsewhere: str = ""
    unsound: tuple[Check, ...] = ()
    manifest: str = MANIFEST_FILE.as_posix()
    unusable: str | None = None
    both: bool = False
    renumbered: tuple[str, str] | None = None


NEXT = {
    "plan": "read the log of the job plan; where it is not the branch's fault, re-run the failed jobs",
    "tests": "read the log of the job tests, correct what fails, and push",
    "model": "the report says what failed, and the log of the job reproduce what stopped it: correct that, and push",
    "proposal": "the comment or the log of the job propose says what stopped it; then run model.yml with the number of "
    "the pull request (Actions → model → Run workflow), or push again",
    "release": "take the file back (git checkout origin/main -- deploy dvc.lock) and push: the proposal writes it",
    "commit": "merge main into the branch, correct what the message names, and push",
}
"""What to do where one of the things that are looked at is in the way."""
ENGINE_FIRST = (
    "this changes workflows and the engine together: jobs that may write run main's engine, which may not know what "
    "the branch's workflows ask of it. Merge the engine in a pull request of its own first, then the workflows"
)


class Reproduced(Frozen):
    """What the branch's own code says of the model that it made; the state is None where it says nothing."""

    state: ProposalStatus | None = None
    digest: str = ""


class CheckResult(Frozen):
    """Whether the commit may be merged; `reasons` has a line for each thing that was looked at, `hints` what to do."""

    accepted: bool
    title: str
    reasons: tuple[str, ...]
    hints: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The reasons and what to do next, as Markdown."""
        told = [*self.reasons, *(f"next: {hint}" for hint in self.hints)]
        return "\n".join(map(item, told)) + "\n"

    @property
    def refused(self) -> tuple[str, ...]:
        """What a comment says where the check is red: what is in the way, and what to do next."""
        if self.accepted:
            return ()
        return (
            *(reason for reason in self.reasons if reason.startswith("❌")),
            *(f"Next: {one}" for one in self.hints),
        )


def decide(
    needs: Mapping[str, JobResult],
    event: Event,
    commit: Mapping[str, CommitFacts],
    reproduced: Mapping[str, Reproduced],
) -> CheckResult:
    """Conclude whether a commit may be merged.

    What was reproduced is the word of the branch's own code. It can only take away: a commit that brings another model
    is accepted if `propose`, which runs the base branch's code, has put it there or found it there; in a merge group,
    where nothing can be put, if what was reproduced is what the group's manifest says.

    Args:
        needs: the jobs by name; one that is missing counts as cancelled.
        event: what the run was started for.
        commit: the commit that would be merged, with the proposals on it where there are some: each of its models.
        reproduced: the models that the commit had to be reproduced for.
    """
    jobs = {name: needs.get(name, JobResult(result=Result.CANCELLED)) for name in (TESTS, REPRODUCE, PROPOSE)}
    jobs[PLAN] = needs.get(PLAN, JobResult(result=Result.SUCCESS))  # a workflow file of before has no such job
    several = len(commit) > 1
    left_out = _left_out(jobs, REPRODUCE)
    against = {"plan": _plan(jobs[PLAN]), "tests": None if _left_out(jobs, TESTS) else _tests(jobs[TESTS])}
    for name, model in {"": Reproduced()}.items() if left_out else reproduced.items():
        trouble = None if left_out else _model(jobs[REPRODUCE], model, reproduced)
        against[f"model {name}" if several and name else "model"] = trouble
    forks = any(facts.fork for facts in commit.values())
    against["proposal"] = None if left_out else _proposal(jobs[PROPOSE], reproduced, event, fork=forks)
    for name, facts in commit.items():
        trouble = _release(jobs[PROPOSE], reproduced.get(name, Reproduced()), event, facts) or _unsound(facts)
        if not several or name in reproduced or trouble:
            against[f"release {name}" if several else "release"] = trouble
    reasons = tuple(f"{'❌' if trouble else '✅'} {name}: {trouble or 'good'}" for name, trouble in against.items())
    hints = list(dict.fromkeys(NEXT[name.partition(" ")[0]] for name, trouble in against.items() if trouble))
    if hints and any(facts.both for facts in commit.values()):
        hints.insert(0, ENGINE_FIRST)
    name, first = next(((name, trouble) for name, trouble in against.items() if trouble), ("", ""))
    told = f"{name}: {first.splitlines()[0]}" if several and first else first.partition("\n")[0]
    return CheckResult(
        accepted=not first,
        title=_sentence(told or _all_accepted(reproduced, commit)),
        reasons=reasons,
        hints=tuple(hints),
    )


def _plan(job: JobResult) -> str | None:
    return None if job.result is Result.SUCCESS else f"nobody could say what there is to do: plan ended as {job.result}"


def _left_out(jobs: Mapping[str, JobResult], name: str) -> bool:
    """Whether the plan, made by the base branch's code, says that this job has nothing to do."""
    output, nothing = {TESTS: ("tests", "false"), REPRODUCE: ("models", "[]")}[name]
    return jobs[name].result is Result.SKIPPED and jobs[PLAN].outputs.get(output) == nothing


def _tests(job: JobResult) -> str | None:
    return None if job.result is Result.SUCCESS else f"the tests ended as {job.result}"


def _model(job: JobResult, model: Reproduced, all_models: Mapping[str, Reproduced]) -> str | None:
    state = model.state
    # One job runs for each model, and GitHub tells how all of them ended: it counts where no model says why.
    unexplained = job.result is not Result.SUCCESS and all(
        one.state and one.state.passes for one in all_models.values()
    )
    if state in (None, ProposalStatus.FAILED) or unexplained:
        return f"the model could not be made: the job reproduce ended as {job.result}, state {state or 'unknown'}"
    return None if state is None or state.passes else f"the model is {state}"


def _proposal(job: JobResult, reproduced: Mapping[str, Reproduced], event: Event, *, fork: bool) -> str | None:
    if job.result is Result.SKIPPED and (event is Event.GROUP or fork):
        return None
    outcome = job.outputs.get("outcome", "")
    if job.result is Result.SUCCESS and outcome in _DONE:
        return None
    stopped = [one.state for one in reproduced.values() if one.state is not None and not one.state.passes]
    if stopped and not outcome:
        return f"nothing was proposed: the model is {stopped[0]}"
    words = {
        "outdated": "the proposal is outdated: main or the branch moved on; run model.yml with its number",
        "refused": "the proposal was refused, and nothing was written: the comment says why",
    }
    return words.get(outcome, f"the job propose ended as {job.result}")


def _release(propose: JobResult, reproduced: Reproduced, event: Event, commit: CommitFacts) -> str | None:
    """Whether merging the commit would release something that nobody has judged."""
    if commit.fork and commit.outputs:
        return _taken_back(commit)
    if commit.elsewhere:
        return _numbered(commit) or (
            f"the manifest of {commit.elsewhere} names a model that was not promoted: it must have served in the "
            "environment before, no environment may hold it, and it comes in a pull request of its own\n"
            "  to bring it there: `mergeline promote --pull-request`"
        )
    judged_before = commit.standing in _JUDGED_BEFORE and not commit.fork
    if commit.standing is Change.SAME or judged_before:
        return None
    if event is Event.GROUP:
        judged = [reproduced.digest] if reproduced.state is ProposalStatus.PROPOSED else []
    else:
        done = propose.result is Result.SUCCESS and propose.outputs.get("outcome") in _DONE
        judged = propose.outputs.get("digest", "").split() if done else []
    if commit.digest in judged and not commit.fork:
        return f"the model cannot be served: {commit.unusable}" if commit.unusable else None
    return _numbered(commit) or f"{commit.manifest} names a model that was not judged against main as it is now"


def _numbered(commit: CommitFacts) -> str | None:
    """What is told of a version that somebody edited; None where nobody did."""
    if commit.renumbered is None:
        return None
    manifest, words = commit.renumbered
    return (
        f"{manifest} changes a number: {words}; a proposal gives a model its number once, and no hand changes it\n"
        f"  to put it back: `git checkout origin/main -- {shlex.quote(manifest)}`"
    )


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
    manifest = () if commit.standing is Change.SAME else (commit.manifest,)
    paths = shlex.join((*manifest, *commit.outputs[:_PATHS]))
    return (
        f"a fork may not bring what the pipeline makes: {', '.join(commit.outputs[:3])}{more}\n"
        "  take it back, with this repository's address for UPSTREAM, then commit and push: "
        f"`git fetch UPSTREAM main && git restore --source=FETCH_HEAD...HEAD --staged --worktree -- {paths}`"
    )


def _all_accepted(reproduced: Mapping[str, Reproduced], commit: Mapping[str, CommitFacts]) -> str:
    """What merging does, of each model that it changes."""
    told = {name: _accepted(reproduced.get(name, Reproduced()), facts) for name, facts in commit.items()}
    words = {name: text for name, text in told.items() if text != _NO_CHANGE} or {"": _NO_CHANGE}
    if len(commit) == 1 or "" in words:
        return f"accepted: {next(iter(words.values()))}"
    return "accepted: " + "; ".join(f"{name}: {text}" for name, text in words.items())


def _accepted(reproduced: Reproduced, commit: CommitFacts) -> str:
    if commit.standing is Change.ROLLBACK:
        return "merging takes production back to what it served before"
    if commit.standing is Change.PROMOTION:
        return "merging brings a model on that the environment before has served"
    if commit.standing is Change.CONCLUSION:
        return "merging ends a rollout; its candidate was judged when it came"
    if reproduced.state is ProposalStatus.PROPOSED and commit.fork:
        return "merging releases nothing yet; the model is made again from main, and proposed by itself"
    if reproduced.state is ProposalStatus.PROPOSED and commit.standing is not Change.SAME:
        return "merging releases the model in the report"
    return _NO_CHANGE


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
