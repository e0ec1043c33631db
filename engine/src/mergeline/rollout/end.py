"""Decides how a rollout ends, from what the servers say and the labels, and opens the pull request that ends it.

Where it cannot end, people are told what keeps it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.documents import Frozen, read_text
from mergeline.errors import ForgeError, ManifestError
from mergeline.evaluate.results import GateOutcome
from mergeline.github.open_proposal import open_forge
from mergeline.github.own_branch import PeopleError, Words, undisturbed
from mergeline.github.pull_requests import Pulls
from mergeline.github.sanitize import code_block, defuse, quote
from mergeline.home import model_option
from mergeline.manifest.edit import abort, finish
from mergeline.manifest.schema import Manifest, Release
from mergeline.release_params import Rollout
from mergeline.rollout.change import LABEL, Main, Opened, open_change, path_here, read_main
from mergeline.rollout.status import ServerStatus, one_line

if TYPE_CHECKING:
    from mergeline.evaluate.results import LabelComparison

COMMENT = "rollout"
_A_PERSON_ASKS = "A person asks"


class Ending(StrEnum):
    """What there is to do."""

    NOTHING = "nothing"  # no model rolls out
    WAIT = "wait"  # steps are still to come, or the servers have not taken the manifest yet
    FINISH = "finish"  # the candidate may become stable
    ABORT = "abort"  # the candidate is removed, and held
    ATTENTION = "attention"  # a person must decide


class Decision(Frozen):
    """What there is to do, the reason that goes into the manifest and the titles, and a line for each thing seen."""

    ending: Ending
    reason: str
    reasons: tuple[str, ...] = ()


def decide(manifest: Manifest, seen: Sequence[ServerStatus], comparison: LabelComparison | None) -> Decision:
    """What the servers and the labels say of the manifest's rollout.

    One server that failed it is enough to end it; to pass, all of them must have passed. A candidate that has passed
    every step is still aborted where its labels say that it is worse. Where labels of the same requests cannot tell,
    the manifest's `onInconclusive` counts; labels of different requests, a weak test, only take away.

    Args:
        manifest: of the base branch.
        seen: what each server says.
        comparison: None where no labels are read.
    """
    candidate, rollout = manifest.spec.candidate, manifest.spec.rollout
    if candidate is None:
        return Decision(ending=Ending.NOTHING, reason="nothing rolls out")
    if not seen:
        return Decision(ending=Ending.ATTENTION, reason="no server says anything of the rollout")
    reasons = tuple(_reported(one) for one in seen)
    if comparison is not None:
        reasons = (*reasons, f"labels: {comparison.reading}")

    ending, reason = _by_servers(seen)
    if ending is Ending.FINISH and comparison is not None:
        ending, reason = _by_labels(comparison, rollout)
    return Decision(ending=ending, reason=reason, reasons=reasons)


def _by_servers(seen: Sequence[ServerStatus]) -> tuple[Ending, str]:
    """What there is to do as far as the servers know."""
    failed = [one for one in seen if one.current and one.phase == "failed"]
    behind = [one for one in seen if not one.current]
    stuck = [one for one in seen if one.phase in {"paused", "refused"}]
    going = [one for one in seen if one.phase != "passed"]
    if failed:
        return Ending.ABORT, failed[0].reason or "the rollout failed"
    if behind:
        return Ending.WAIT, f"{behind[0].where} does not roll out what the manifest asks for yet"
    if stuck:
        return Ending.ATTENTION, f"{stuck[0].phase}: {stuck[0].reason or 'no reason given'}"
    if going:
        return Ending.WAIT, f"{going[0].phase or 'not begun'}{f', {going[0].step}' if going[0].step else ''}"
    return Ending.FINISH, "every step is passed"


def _by_labels(comparison: LabelComparison, rollout: Rollout) -> tuple[Ending, str]:
    """What there is to do with a candidate that has passed every step."""
    if comparison.outcome is GateOutcome.WORSE:
        return Ending.ABORT, f"worse by its labels: {comparison.reading}"
    if comparison.paired and comparison.outcome is GateOutcome.INCONCLUSIVE:
        ending = Ending.ABORT if rollout.onInconclusive == "rollback" else Ending.ATTENTION
        return ending, f"every step is passed, and the labels cannot tell: {comparison.reading}"
    return Ending.FINISH, "every step is passed"


def _reported(one: ServerStatus) -> str:
    if not one.current:
        return f"{one.where}: another manifest's"
    step = f", {one.step}" if one.step else ""
    return f"{one.where}: {one.phase}{step}{f': {one.reason}' if one.reason else ''}"


@dataclass(frozen=True)
class Assessed:
    """The decision, and the statuses that led to it."""

    decision: Decision
    seen: tuple[ServerStatus, ...] = ()


Assess = Callable[[Manifest, str], Assessed]
"""Judges the rollout of a manifest, given with its text."""


@dataclass(frozen=True)
class Result:
    """The decision, and the pull request or the address where people were told, if any."""

    decision: Decision
    opened: Opened | None = None
    reported: str = ""


def end_here(root: Path, ending: Ending, reason: str, environment: str = "") -> tuple[Path, str]:
    """The path and the text of the work tree's manifest with its rollout ended.

    Raises:
        ManifestError: nothing rolls out, or no reason is given for aborting it.
    """
    path = path_here(root, environment)
    text = read_text(root / path, ManifestError)
    return path, finish(text) if ending is Ending.FINISH else abort(text, reason)


def end_by_pull_request(root: Path, assess: Assess, environment: str = "") -> Result:
    """Judge the rollout of the base branch, and open, update or leave alone what that asks for.

    It is production's, if no environment is named. It may be run at any time, twice at once too: there is one branch,
    one pull request and one issue for one candidate.

    Raises:
        ManifestError: the base branch has no manifest.
        WatchError: no server can be asked.
        ForgeError: git or the forge refused; people's commits on the branch stay.
    """
    return undisturbed(lambda: _end(root, assess, environment))


def _end(root: Path, assess: Assess, environment: str) -> Result:
    main = read_main(root, environment)
    text, manifest = main.text, main.manifest
    assessed = assess(manifest, text)
    decision, candidate = assessed.decision, manifest.spec.candidate
    forge, key = open_forge(main.git), f"rollout-{main.label}"[:60].rstrip("-")
    if candidate is None or decision.ending is not Ending.ATTENTION:
        with contextlib.suppress(ForgeError):  # issues may be switched off, and then there is none to close
            forge.close_issue(key, f"It goes on: {decision.reason}.")
    if candidate is None or decision.ending is Ending.NOTHING:
        return Result(decision)
    if decision.ending is Ending.WAIT:
        return Result(decision, reported=_warn(forge, branch_of(main, candidate), decision.reason))
    if decision.ending is Ending.ATTENTION:
        return Result(decision, reported=_ask(forge, key, main, candidate, assessed))
    words = _words(main, candidate, assessed)

    def edited(number: int | None) -> dict[Path, str]:
        finished = decision.ending is Ending.FINISH
        return {main.path: finish(text) if finished else abort(text, decision.reason, number)}

    try:
        opened = open_change(main, root, words, edited)
    except PeopleError as error:
        pull = forge.find(words.branch)
        if pull is None:
            raise
        forge.comment(pull.number, COMMENT, f"{words.body}\nThis branch is left alone: {error.what}. {error.hint}.\n")
        return Result(decision, reported=pull.url)
    number = opened.kept.pull.number
    if forge.has_comment(number, COMMENT):  # it said what is over
        forge.comment(number, COMMENT, f"The description holds now: {defuse(decision.reason)}.\n")
    return Result(decision, opened=opened)


def branch_of(main: Main, candidate: Release) -> str:
    """The branch on which the end of a candidate's rollout is proposed."""
    return f"rollout/{main.label}-{candidate.version}"


def _words(main: Main, candidate: Release, assessed: Assessed) -> Words:
    manifest, inside = main.manifest, main.inside
    name, version = manifest.metadata.name, candidate.version
    why = defuse(one_line(assessed.decision.reason))
    if assessed.decision.ending is Ending.FINISH:
        title, asks = f"{name}: version {version} becomes stable{inside}", f"to make version {version} stable"
        found = f"Version {version} has passed its rollout."
    else:
        title, asks = f"{name}: version {version} is aborted{inside}", f"to abort version {version}"
        found = f"Version {version} has failed its rollout. It is held, so that it is not proposed again."
    first = found if assessed.seen else f"{_A_PERSON_ASKS} {asks}: {why}."
    return Words(
        branch=branch_of(main, candidate),
        title=title,
        body=f"{first}\n\n{evidence(manifest, assessed)}",
        made=f"{assessed.decision.ending} of version {version}",
    )


def _warn(forge: Pulls, branch: str, reason: str) -> str:
    """Say on the pull request that was opened when the rollout had ended that it goes on; where, or nothing."""
    pull = forge.find(branch)
    if pull is None or _A_PERSON_ASKS in pull.body:  # people end a rollout when they like
        return ""
    forge.comment(pull.number, COMMENT, f"Do not merge this now: {defuse(reason)}.\n")
    return pull.url


def _ask(forge: Pulls, key: str, main: Main, candidate: Release, assessed: Assessed) -> str:
    """Tell people once: on the pull request that is open already, else in an issue that is kept up to date."""
    name, version = main.manifest.metadata.name, candidate.version
    option = model_option(main.home.model) + (f" --environment {main.environment}" if main.inside else "")
    body = (
        f"The rollout of version {version}{main.inside} needs a person's decision.\n\n"
        f"{evidence(main.manifest, assessed)}\n"
        "What you can do, each in a pull request of its own:\n\n"
        f"- make it stable: `mergeline rollout promote --pull-request{option}`\n"
        f"- remove it, and hold it: `mergeline rollout abort 'what failed' --pull-request{option}`\n"
        "- let it begin anew: change the section `rollout` in the manifest\n"
    )
    pull = forge.find(branch_of(main, candidate))
    if pull is not None:
        forge.comment(pull.number, COMMENT, body)
        return pull.url
    return forge.open_or_update_issue(
        key, f"{name}: the rollout of version {version}{main.inside} needs you", body, [LABEL]
    ).url


def evidence(manifest: Manifest, assessed: Assessed) -> str:
    """What was seen, as Markdown; what servers say is shown as it is, and does nothing."""
    lines = [f"{assessed.decision.reason}", *(f"- {reason}" for reason in assessed.decision.reasons)]
    parts = [quote("\n".join(lines))]
    measured = [(one, analysis) for one in assessed.seen for analysis in one.analyses]
    if measured:
        rows = [
            f"{analysis.name:<20} {'-' if analysis.value is None else format(analysis.value, '.4g'):>10}"
            f" {analysis.samples:>9,}  {analysis.outcome or '-':<12} {analysis.success} / {analysis.failure}"
            for _, analysis in measured
        ]
        head = f"{'analysis':<20} {'value':>10} {'samples':>9}  {'outcome':<12} success / failure"
        parts.append(f"What was measured last:\n\n{code_block(defuse(chr(10).join([head, *rows])))}")
    decided = [decision for one in assessed.seen[:1] for decision in one.decisions][-20:]
    if decided:
        told = [f"{one.at:%Y-%m-%d %H:%M} UTC  {one.kind:<10} {one.reason}" for one in decided]
        parts.append(f"What was decided:\n\n{quote(chr(10).join(told))}")
    stable, candidate = manifest.spec.stable, manifest.spec.candidate
    if stable and candidate and candidate.evidence.pull:
        # The metrics in their evidence are of different rows: those on the same rows are in the report alone.
        parts.append(
            f"Compared with version {stable.version} on the same rows: the report in #{candidate.evidence.pull}."
        )
    return "\n\n".join(parts) + "\n"
