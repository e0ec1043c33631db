"""Decides whether what one environment serves may go on to the next one, and opens the pull request for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from mergeline.ci.required_check import CHECK
from mergeline.documents import Frozen
from mergeline.errors import ManifestError
from mergeline.evaluate.results import Check, Status
from mergeline.github.open_proposal import open_forge
from mergeline.github.own_branch import Words, undisturbed
from mergeline.github.pull_requests import Pulls
from mergeline.github.sanitize import code_block, defuse
from mergeline.github.served_releases import serving_since
from mergeline.home import model_option
from mergeline.journal.window import length
from mergeline.manifest.edit import promote
from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import next_version
from mergeline.rollout.change import Main, Opened, open_change, read_main
from mergeline.rollout.status import Serving
from mergeline.timing import in_words


class Outcome(StrEnum):
    """What there is to do."""

    NOTHING = "nothing"  # the next environment has the model already, or there is none
    WAIT = "wait"  # something is not so yet
    REFUSE = "refuse"  # a person must act first
    PROMOTE = "promote"


class Condition(StrEnum):
    """What must be so, in the order in which people ask."""

    RELEASED = "released"  # the source serves a model that the target does not
    NEWER = "newer"  # it came after everything that the target has had
    HOLDS = "holds"  # no environment holds it
    ROLLOUT = "rollout"  # it is through its rollout in the source
    SERVES = "serves"  # the source's server answers with it
    SOAK = "soak"  # it has been stable in the source for long enough
    WATCH = "watch"  # it is not degraded
    TARGET = "target"  # nothing else rolls out in the target


class Finding(Frozen):
    """One condition: `value` and `bound` are versions or hours, `names` environments or words of others."""

    condition: Condition
    status: Status
    value: float | None = None
    bound: float | None = None
    names: tuple[str, ...] = ()


class Verdict(Frozen):
    """What there is to do with `release`, which is what the source serves, and why."""

    outcome: Outcome
    release: Release | None
    findings: tuple[Finding, ...]


class Facts(Frozen):
    """What is known of the two environments.

    `holders` are the environments that hold what the source serves, `since` is when its manifest came to name it.
    `serving` is what its server says, `watched` the outcome of the last look at that model: none where nobody looked.
    """

    source: Manifest
    target: Manifest
    holders: tuple[str, ...] = ()
    since: datetime | None = None
    serving: Serving | None = None
    watched: str = ""


_HOUR = timedelta(hours=1)
_REFUSING = (Condition.HOLDS, Condition.NEWER, Condition.WATCH)


def decide(facts: Facts, soak: timedelta, now: datetime) -> Verdict:
    """Whether what the source serves may be promoted to the target.

    What nobody has looked at (a server without an address, no run of watch) does not stand in the way, and is told.

    Args:
        facts: what is known.
        soak: how long it must have been stable in the source.
        now: the present time.
    """
    release = facts.source.spec.stable
    findings = tuple(_findings(facts, release, soak, now))
    failed = {finding.condition for finding in findings if finding.status is Status.FAIL}
    if Condition.ROLLOUT in failed:
        outcome = Outcome.WAIT
    elif Condition.RELEASED in failed:
        outcome = Outcome.NOTHING
    elif failed & {*_REFUSING}:
        outcome = Outcome.REFUSE
    else:
        outcome = Outcome.WAIT if failed else Outcome.PROMOTE
    return Verdict(outcome=outcome, release=release, findings=findings)


def _findings(facts: Facts, release: Release | None, soak: timedelta, now: datetime) -> Sequence[Finding]:
    target, rolling = facts.target.spec, facts.source.spec.candidate
    if release is None or release.digest in {one.digest for one in target.serving}:
        version = release.version if release else None
        found = [Finding(condition=Condition.RELEASED, status=Status.FAIL, value=version)]
        if rolling is not None:
            found.append(Finding(condition=Condition.ROLLOUT, status=Status.FAIL, value=rolling.version))
        return found

    def finding(condition: Condition, good: bool, **values: object) -> Finding:
        return Finding.model_validate(
            {"condition": condition, "status": Status.PASS if good else Status.FAIL, **values}
        )

    newest = next_version(facts.target) - 1
    served = None if facts.since is None else (now - facts.since) / _HOUR
    other = target.candidate
    serving, watched = facts.serving, facts.watched
    unseen = {"status": Status.SKIP}
    doubtful = {"status": Status.WARN} if watched not in ("steady", "degraded") else {}
    return [
        finding(Condition.RELEASED, good=True, value=release.version),
        finding(Condition.NEWER, release.version > newest, value=release.version, bound=newest),
        finding(Condition.HOLDS, not facts.holders, names=facts.holders),
        finding(Condition.ROLLOUT, good=True),
        finding(
            Condition.SERVES,
            serving is not None and serving.ready and serving.digest == release.digest,
            names=(serving.problem,) if serving is not None and serving.problem else (),
            **(unseen if serving is None else {}),
        ),
        finding(Condition.SOAK, served is not None and served >= soak / _HOUR, value=served, bound=soak / _HOUR),
        finding(
            Condition.WATCH,
            watched != "degraded",
            names=(watched,),
            **(doubtful if watched else unseen),
        ),
        finding(Condition.TARGET, other is None, value=other.version if other else None),
    ]


COMMENT = "promotion"

Look = Callable[[str, Manifest], tuple[Serving | None, str]]
"""What the server of an environment says that it serves, and what watch found of its manifest's model."""


@dataclass(frozen=True)
class Promotion:
    """The verdict on one step, from `source` to `target`, and the pull request if there is one."""

    source: str
    target: str
    verdict: Verdict
    opened: Opened | None = None
    reported: str = ""
    model: str = ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """The findings in words."""
        return tuple(
            Check(name=one.condition.value, status=one.status, value=value, bound="", meaning=meaning)
            for one in self.verdict.findings
            for value, meaning in [self._in_words(one)]
        )

    @property
    def reason(self) -> str:
        """Why there is this to do, in one sentence."""
        release = self.verdict.release
        failed = [one for one in self.verdict.findings if one.status is Status.FAIL]
        if not failed:
            return f"version {release.version if release else '-'} may go on to {self.target}"
        first = next((one for one in failed if one.condition in _REFUSING), failed[-1])
        return ": ".join(self._in_words(failed[0] if self.verdict.outcome is Outcome.NOTHING else first))

    def _in_words(self, one: Finding) -> tuple[str, str]:
        """The value of a finding, and what it means."""
        source, target = self.source, self.target
        version = "no model" if one.value is None else f"version {one.value:.0f}"
        served = "unknown" if one.value is None else in_words(one.value * _HOUR)
        soak, named = in_words((one.bound or 0) * _HOUR), ", ".join(one.names)
        option = f"{model_option(self.model)} --environment {target} --to {one.value or 0:.0f}"
        back = f"to go back to it: mergeline rollback{option}"
        address = f"no address of its server: params.yaml: release.in_environment.{source}.status"
        words = {
            Condition.RELEASED: (
                (f"{source} serves {version}", f"{target} does not serve it yet"),
                (f"{source} serves {version}", f"{target} has nothing to take from it"),
            ),
            Condition.NEWER: (
                (f"{version}, after version {one.bound or 0:.0f}", f"it is newer than all that {target} has had"),
                (f"{version}, and {target} has had version {one.bound or 0:.0f}", back),
            ),
            Condition.HOLDS: (
                ("held nowhere", "nobody holds it"),
                (f"held in {named}", "a hold counts in every environment: mergeline hold list"),
            ),
            Condition.ROLLOUT: (
                ("passed", "it is stable"),
                (f"{version} rolls out in {source}", "it is not stable yet"),
            ),
            Condition.SERVES: (
                ("its server answers with it", "it is in service"),
                (named or "not ready, or another model", f"the server of {source} does not serve it"),
                ("not checked", address),
            ),
            Condition.SOAK: (
                (f"{served} of {soak}", "it has served for release.soak"),
                (f"{served} of {soak}", "it has not served for release.soak yet"),
            ),
            Condition.WATCH: (
                (named, "it is not degraded"),
                (named, "see what watch found before it goes further"),
                ("not checked", "mergeline watch has not looked at this model"),
            ),
            Condition.TARGET: (
                ("nothing rolls out", f"{target} is free"),
                (f"{version} rolls out in {target}", "that ends first, or is aborted"),
            ),
        }[one.condition]
        return words[{Status.FAIL: 1, Status.SKIP: 2}.get(one.status, 0)]  # as they should be, as not, not looked at


def assess(source: Main, target: Main, look: Look, now: datetime) -> Promotion:
    """Judge whether what the source serves may go on to the target, both as the base branch has them.

    Raises:
        ForgeError: the history is not here whole.
    """
    stable, name = source.manifest.spec.stable, source.manifest.metadata.name
    every = {source.environment: source.manifest, **source.others}
    digest = stable.digest if stable else ""
    holders = (each for each, one in every.items() if digest in one.spec.held)
    serving, watched = look(source.environment, source.manifest) if stable else (None, "")
    facts = Facts(
        source=source.manifest,
        target=target.manifest,
        holders=tuple(holders),
        since=serving_since(source.git, source.commit, name, source.at),
        serving=serving,
        watched=watched,
    )
    verdict = decide(facts, length(source.params.soak), now)
    return Promotion(source.environment, target.environment, verdict, model=source.home.model)


def steps(root: Path, to: str = "") -> tuple[tuple[Main, Main], ...]:
    """The steps that a model can take: the base branch's state of each environment and of the next one.

    Args:
        root: the repository.
        to: the environment to promote to; empty takes each after the first.

    Raises:
        ManifestError: there is no such environment, or none before it.
        ForgeError: git refused.
    """
    main = read_main(root, to)
    names = main.environments
    if to and to == names[0]:
        raise ManifestError(
            f"{to} is the first environment, and a proposal brings models there",
            where="--to",
            hint="mergeline propose" if len(names) == 1 else f"there are: {', '.join(names[1:])}",
        )
    pairs = [(before, after) for before, after in itertools.pairwise(names) if to in ("", after)]
    return tuple((main.at_environment(before), main.at_environment(after)) for before, after in pairs)


def promoted_text(target: Main, release: Release) -> str:
    """The target's manifest with the release in it: at once, or as its own rollout says."""
    return promote(target.text, release, target.params.rollout_in(target.environment))


def promote_by_pull_request(root: Path, look: Look, now: datetime, to: str) -> Promotion:
    """Judge one step, and open, update or leave alone its pull request.

    It may be run at any time: there is one branch and one pull request for one environment.

    Raises:
        ManifestError: there is no such environment.
        ForgeError: git or the forge refused; people's commits on the branch stay.
    """
    return undisturbed(lambda: _promote(root, look, now, to))


def _promote(root: Path, look: Look, now: datetime, to: str) -> Promotion:
    [(source, target)] = steps(root, to)
    found = assess(source, target, look, now)
    forge, branch = open_forge(source.git), f"promote/{target.manifest.metadata.name}-{target.environment}"
    release = found.verdict.release
    if found.verdict.outcome is not Outcome.PROMOTE or release is None:
        return replace(found, reported=_warn(forge, branch, found))
    text = promoted_text(target, release)
    opened = open_change(target, root, _words(branch, found, target, release), lambda _: {target.path: text})
    if forge.has_comment(opened.kept.pull.number, COMMENT):  # it said what is over
        forge.comment(opened.kept.pull.number, COMMENT, f"It may be merged again: {defuse(found.reason)}.\n")
    return replace(found, opened=opened)


def _warn(forge: Pulls, branch: str, found: Promotion) -> str:
    """Take the green check off a pull request that is open though the conditions hold no more; where, or nothing."""
    pull = forge.find(branch)
    if pull is None:
        return ""
    words = f"Do not merge this now: {defuse(found.reason)}.\n"
    forge.comment(pull.number, COMMENT, words)
    forge.check(pull.head, CHECK, success=False, title=f"Not now: {found.reason}"[:200], summary=words)
    return pull.url


def _words(branch: str, found: Promotion, target: Main, release: Release) -> Words:
    name = target.manifest.metadata.name
    lines = [f"{check.status.value:<4}  {check.name:<8}  {check.value}: {check.meaning}" for check in found.checks]
    return Words(
        branch=branch,
        title=f"{name}: version {release.version} to {target.environment}",
        body=(
            f"{found.source} serves version {release.version}, and this copies it to {found.target}: no model is "
            f"trained, and the bytes are those that were reviewed.\n\n{code_block(defuse(chr(10).join(lines)))}\n"
        ),
        made=f"promotion of version {release.version} to {target.environment}",
    )
