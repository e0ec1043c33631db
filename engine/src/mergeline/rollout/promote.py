"""Opens the pull request that brings what one environment serves to the next one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mergeline.ci.required_check import CHECK
from mergeline.errors import ManifestError
from mergeline.evaluate.results import Check
from mergeline.github.open_proposal import open_forge
from mergeline.github.own_branch import OutdatedError, PeopleError, Words
from mergeline.github.pull_requests import Pulls
from mergeline.github.sanitize import code_block, defuse
from mergeline.github.served_releases import serving_since
from mergeline.journal.window import length
from mergeline.manifest.edit import promote
from mergeline.manifest.schema import Manifest, Release
from mergeline.rollout.promotion import Facts, Outcome, Verdict, as_checks, decide, reason
from mergeline.rollout.rollback import LABEL, Main, Opened, open_change, read_main
from mergeline.rollout.status import Serving

COMMENT = "promotion"
_ATTEMPTS = 3

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

    @property
    def checks(self) -> tuple[Check, ...]:
        """The findings in words."""
        return as_checks(self.verdict, self.source, self.target)

    @property
    def reason(self) -> str:
        """Why there is this to do, in one sentence."""
        return reason(self.verdict, self.source, self.target)


def assess(source: Main, target: Main, look: Look, now: datetime) -> Promotion:
    """Judge whether what the source serves may go on to the target, both as the base branch has them.

    Raises:
        ForgeError: the history is not here whole.
    """
    stable, name = source.manifest.spec.stable, source.manifest.metadata.name
    every = {source.environment: source.manifest, **source.others}
    digest = stable.digest if stable else ""
    holders = (each for each, one in every.items() if digest in {hold.digest for hold in one.spec.holds})
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
    return Promotion(source.environment, target.environment, verdict)


def steps(root: Path, to: str = "") -> tuple[tuple[Main, Main], ...]:
    """The steps that a model can take: the base branch's state of each environment and of the next one.

    Args:
        root: the repository.
        to: the environment to promote to; empty takes each after the first.

    Raises:
        ManifestError: there is no such environment, or none before it.
        ForgeError: git refused.
    """
    names = read_main(root, to).environments
    if to and to == names[0]:
        raise ManifestError(
            f"{to} is the first environment, and a proposal brings models there",
            where="--to",
            hint="mergeline propose" if len(names) == 1 else f"there are: {', '.join(names[1:])}",
        )
    pairs = [(before, after) for before, after in itertools.pairwise(names) if to in ("", after)]
    return tuple((read_main(root, before), read_main(root, after)) for before, after in pairs)


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
    for attempt in range(_ATTEMPTS):
        try:
            return _promote(root, look, now, to)
        except PeopleError:
            raise
        except OutdatedError:  # another run pushed at this moment: what it made is found by looking again
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _promote(root: Path, look: Look, now: datetime, to: str) -> Promotion:
    [(source, target)] = steps(root, to)
    found = assess(source, target, look, now)
    forge, branch = open_forge(source.git), f"promote/{target.manifest.metadata.name}-{target.environment}"
    release = found.verdict.release
    if found.verdict.outcome is not Outcome.PROMOTE or release is None:
        return Promotion(found.source, found.target, found.verdict, reported=_warn(forge, branch, found))
    text = promoted_text(target, release)
    opened = open_change(target, root, _words(branch, found, target, release), lambda _: {target.path: text})
    if forge.has_comment(opened.kept.pull.number, COMMENT):  # it said what is over
        forge.comment(opened.kept.pull.number, COMMENT, f"It may be merged again: {defuse(found.reason)}.\n")
    return Promotion(found.source, found.target, found.verdict, opened=opened)


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
        labels=[LABEL],
        made=f"promotion of version {release.version} to {target.environment}",
    )
