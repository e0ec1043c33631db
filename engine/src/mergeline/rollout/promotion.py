"""Decides whether what one environment serves may go on to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from mergeline.documents import Frozen
from mergeline.evaluate.results import Check, Status
from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import next_version
from mergeline.rollout.status import Serving


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
    there = {one.digest for one in (target.stable, target.candidate) if one is not None}
    if release is None or release.digest in there:
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


def as_checks(verdict: Verdict, source: str, target: str) -> tuple[Check, ...]:
    """The findings in words.

    Args:
        verdict: of `decide`.
        source: the environment that serves the model.
        target: the one that it would go on to.
    """
    return tuple(
        Check(name=one.condition.value, status=one.status, value=value, bound="", meaning=meaning)
        for one in verdict.findings
        for value, meaning in [_in_words(one, source, target)]
    )


def reason(verdict: Verdict, source: str, target: str) -> str:
    """The one sentence that says why there is this to do."""
    failed = [one for one in verdict.findings if one.status is Status.FAIL]
    if verdict.outcome is Outcome.NOTHING or not failed:
        value, meaning = _in_words((failed or [*verdict.findings])[0], source, target)
        return (
            f"{value}: {meaning}"
            if failed
            else f"version {verdict.release.version if verdict.release else '-'} may go on to {target}"
        )
    first = next((one for one in failed if one.condition in _REFUSING), failed[-1])
    return ": ".join(_in_words(first, source, target))


def _in_words(one: Finding, source: str, target: str) -> tuple[str, str]:
    """The value of a finding, and what it means."""
    version = "no model" if one.value is None else f"version {one.value:.0f}"
    hours = f"{'unknown' if one.value is None else f'{one.value:.1f}'} of {one.bound or 0:g} hours"
    named = ", ".join(one.names)
    back = f"to go back to it: mergeline rollback --environment {target} --to {one.value or 0:.0f}"
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
            (hours, "it has served for release.soak"),
            (hours, "it has not served for release.soak yet"),
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
