"""What one request must know to be answered: the models, and which of them answers which record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mergeline.serve.errors import Value
from mergeline.serve.records import Batch, unread_names
from mergeline.serve.rollout.counts import Role
from mergeline.serve.rollout.router import Key, Router, is_chosen, make_router
from mergeline.serve.rollout.state import Phase, RolloutState, identity_of, shadow_share, weight
from mergeline.serve.state import ServedModel, Serving

KeyOf = Callable[[Batch, int], Value]
"""The sticky value of one record of a batch."""

_STABLE: Role = "stable"


@dataclass(frozen=True, slots=True)
class Plan:
    """Replaced whole when anything changes; a request takes it once and keeps it.

    Attributes:
        stable: answers what the candidate does not, and what the candidate could not.
        candidate: answers `weight` percent of the keys; None where it answers none.
        shadow: scores `share` percent of the requests after stable's answers are sent; None where it scores none.
        key_of: finds the sticky value; None where each request is routed by the id of its first record.
    """

    stable: ServedModel
    candidate: ServedModel | None = None
    shadow: ServedModel | None = None
    weight: int = 0
    share: int = 0
    key_of: KeyOf | None = None
    router: Router = field(default=make_router(""), repr=False)

    def role(self, key: Key) -> Role:
        """Who answers this key."""
        if self.candidate is None:
            return "stable"
        return "candidate" if is_chosen(self.router(key), self.weight) else "stable"

    def roles(self, batch: Batch) -> Sequence[Role]:
        """Who answers each record, in order.

        Without a sticky column one role answers the whole request. A record without a sticky value is routed by its
        id.
        """
        ids, key_of = batch.ids, self.key_of
        if self.candidate is None:
            return [_STABLE] * len(ids)
        if key_of is None:
            return [self.role(ids[0])] * len(ids)
        roles: list[Role] = []
        for place, record in enumerate(ids):
            key = key_of(batch, place)
            roles.append(self.role(record if key is None or key != key else key))  # noqa: PLR0124 - NaN is missing
        return roles

    def is_shadowed(self, batch: Batch) -> bool:
        """Whether the candidate scores this request beside stable."""
        if self.shadow is None:
            return False
        return self.share >= 100 or is_chosen(self.router(batch.ids[0]), self.share)


def make_plan(serving: Serving, state: RolloutState | None) -> Plan:
    """The plan of what is loaded and of how far its rollout is.

    A state that belongs to another candidate or to another section `rollout` counts for nothing: stable answers all
    until the rollout that the manifest asks for has begun.
    """
    stable, candidate, rollout = serving.stable, serving.candidate, serving.rollout
    if candidate is None or state is None or state.phase is Phase.FAILED:
        return Plan(stable)
    if state.identity != identity_of(candidate.model.digest, rollout):
        return Plan(stable)
    answered, beside = weight(rollout, state), shadow_share(rollout, state)
    return Plan(
        stable,
        candidate=candidate if answered else None,
        shadow=candidate if beside else None,
        weight=answered,
        share=beside,
        key_of=_finder(stable, rollout.sticky) if rollout.sticky else None,
        router=make_router(candidate.model.digest),
    )


def _finder(stable: ServedModel, column: str) -> KeyOf | None:
    signature = stable.model.signature
    names, unread = signature.names, unread_names(signature)
    if column in names:
        place = names.index(column)
        return lambda batch, record: batch.rows[record][place]
    if column in unread:
        place = unread.index(column)
        return lambda batch, record: batch.unread[record][place] if batch.unread else None
    return lambda batch, record: batch.ids[record]
