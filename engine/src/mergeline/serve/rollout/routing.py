"""What one request must know to be answered: the models, and which of them answers which record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mergeline.documents import nearest
from mergeline.errors import ManifestError, ModelError
from mergeline.release_params import Rollout
from mergeline.requests.problems import Value
from mergeline.requests.records import Batch, unread_names
from mergeline.scorer.signature import Output, Signature
from mergeline.serve.rollout.counts import Role
from mergeline.serve.rollout.state import Phase, RolloutState, identity_of, shadow_share, weight
from mergeline.serve.state import ServedModel, Serving

BUCKETS = 10_000
BUCKETS_A_PERCENT = BUCKETS // 100

Key = str | int | float | bool | None
Router = Callable[[Key], int]


def make_router(salt: str) -> Router:
    """The function from a key to its bucket, 0 to 9,999, under this salt."""
    salted = hashlib.blake2b(salt.encode() + b"\0", digest_size=8)
    copy, number = salted.copy, int.from_bytes

    def bucket(key: Key) -> int:
        hashed = copy()
        hashed.update(key.encode("utf-8", "surrogatepass") if type(key) is str else key_text(key).encode())
        return number(hashed.digest(), "little") % BUCKETS

    return bucket


def key_text(key: Key) -> str:
    """A key as the text that is hashed: JSON's 5.0 and 5 are one key, and so are true and "true"."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float) and key.is_integer():
        return str(int(key))
    return "" if key is None else str(key)


def is_chosen(bucket: int, percent: int) -> bool:
    """Whether the bucket belongs to the first `percent` of all buckets."""
    return bucket < percent * BUCKETS_A_PERCENT


def columns_to_take(stable: Signature, candidate: Signature) -> tuple[int, ...] | None:
    """Which values of a row read for `stable` are the candidate's columns, in its order; None for the whole row.

    Raises:
        ModelError: the candidate needs a column that requests to stable don't have, or answers something else.
    """
    asked, wanted = (
        (output.task, output.positive, frozenset(output.classes)) for output in (candidate.output, stable.output)
    )
    if asked != wanted:
        raise ModelError(
            f"the candidate answers another question: {_question(candidate.output)}, stable answers "
            f"{_question(stable.output)}",
            where="spec.candidate",
            hint="release it with strategy replace",
        )
    places = {column.name: (place, column.kind) for place, column in enumerate(stable.columns)}
    for column in candidate.columns:
        if places.get(column.name, (0, None))[1] is not column.kind:
            raise ModelError(
                f"the candidate reads column {column.name!r} ({column.kind}), which requests to stable don't have",
                where="spec.candidate",
                hint="release it with strategy replace, or make the column part of stable first",
            )
    takes = tuple(places[column.name][0] for column in candidate.columns)
    return None if takes == tuple(range(len(stable.columns))) else takes


def _question(output: Output) -> str:
    classes = ", ".join(repr(name) for name in output.classes)
    positive = f", positive {output.positive!r}" if output.positive is not None else ""
    return f"{output.task} ({classes}{positive})" if classes else str(output.task)


def check_sticky(rollout: Rollout, stable: Signature) -> None:
    """See that requests carry the sticky column.

    Raises:
        ManifestError: they don't; with the nearest name that they do carry.
    """
    names = (*stable.names, *unread_names(stable), *((stable.id,) if stable.id else ()))
    if rollout.sticky is not None and rollout.sticky not in names:
        guess = nearest(rollout.sticky, names)
        raise ManifestError(
            f"requests carry no column {rollout.sticky!r}",
            where="spec.rollout.sticky",
            hint=f"did you mean `{guess}`?" if guess else "name it in params.yaml under data.metadata, and train again",
        )


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
