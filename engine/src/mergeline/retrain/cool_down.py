"""Decides whether a retraining may be proposed now: the cool-down, what is under way, what labels prove; in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mergeline.journal.window import length
from mergeline.params import RetrainParams
from mergeline.watch.challenge import Challenged, Proof

WEEK = timedelta(days=7)
DECLINED = "declined"
"""A person's label on a closed pull request: no retraining is proposed until it is removed."""


class Step(StrEnum):
    """What there is to do."""

    PROPOSE = "propose"
    WAIT = "wait"  # something else comes first: a promotion, a cool-down, people's commits
    NO_GAIN = "no gain"  # a challenger proves none
    TOO_FEW = "too few labels"


@dataclass(frozen=True)
class Situation:
    """What else is going on.

    `promotions` are those under way, in words; `attempts` are when retrainings were merged or closed, and when the one
    that is on the branch was made. `declined` are the closed pull requests that carry the label `declined`, in words.
    """

    now: datetime
    promotions: Sequence[str]
    attempts: Sequence[datetime]
    declined: Sequence[str] = ()


def why_not_now(situation: Situation, settings: RetrainParams) -> str | None:
    """Why nothing may be proposed now, whatever a challenger proves; None where something may."""
    if situation.promotions:
        return f"a promotion is under way: {', '.join(situation.promotions)}"
    if situation.declined:
        return f"declined: {', '.join(situation.declined)}; to have it proposed again, remove the label {DECLINED}"
    newest = max(situation.attempts, default=None)
    until = None if newest is None else newest + length(settings.cool_down)
    if newest is not None and until is not None and situation.now < until:
        form = "%Y-%m-%d %H:%M"
        return f"the last one was proposed, merged or closed at {newest:{form}}; cooling down until {until:{form}} UTC"
    week = [when for when in situation.attempts if situation.now - when < WEEK]
    if len(week) >= settings.max_per_week:
        again = min(week) + WEEK
        return f"{len(week)} in seven days are the most; the next one from {again:%Y-%m-%d %H:%M} UTC on"
    return None


def decide(challenged: Challenged, *, anyway: bool) -> tuple[Step, str]:
    """What a challenge asks for.

    Args:
        challenged: what it came to.
        anyway: a person wants it proposed though nothing is proven.
    """
    if not challenged.ingested.partitions:
        taken = challenged.ingested
        return Step.TOO_FEW, (
            f"no fresh labelled row can be taken in: {taken.known:,} are in the data already, {taken.late:,} came too "
            f"late, {taken.quarantined:,} are in quarantine"
        )
    if challenged.proof is Proof.PROVEN or anyway:
        return Step.PROPOSE, challenged.headline
    if challenged.proof is Proof.TOO_FEW:
        return Step.TOO_FEW, challenged.headline
    return Step.NO_GAIN, challenged.headline


def too_many_bad(challenged: Challenged, settings: RetrainParams) -> str | None:
    """Why so many rows in quarantine stop a retraining; None where they do not."""
    taken = challenged.ingested
    if taken.bad_share <= settings.max_quarantine:
        return None
    most = next(iter(taken.reasons), "no reason")
    return (
        f"{taken.quarantined:,} of {taken.offered:,} fresh rows break the schema, "
        f"more than {settings.max_quarantine:.0%}; most often: {most}"
    )
