"""Judges by the last seconds whether a candidate must go at once; stable is nothing that it could take off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from mergeline.params import GuardParams
from mergeline.serve.rollout.counts import (
    DIFFERENT,
    FAILED,
    INVALID,
    RECORDS,
    REPEATS,
    REQUESTS,
    Counts,
    Role,
    latency_bucket,
    latency_quantile,
)
from mergeline.serve.rollout.measure import disagreement, scored, spread_of
from mergeline.stats.two_samples import binomial_tail

WINDOWS_SECONDS = (1.5, 4.0, 60.0)
"""Short ones that see a fault at once, a long one that sees it where requests are few."""

LEVEL = 2e-4
FEWEST_HITS = 3
FEWEST_SCORES = 30
SLOW_SHARE = 0.01
FLOOR_MS = 50.0
"""What a scikit-learn pipeline may take at p99 when it waits for its turn: less would judge the kind of model.

With the default ratio of 10 that is the default of `max_latency_ms`: a compiled stable makes no bound stricter.
"""
NOTICED_MS = 100.0
"""No caller notices what is quicker (Nielsen, 1993, "Usability Engineering", chapter 5)."""
CONSTANT_SHARE = 0.99
VARIED_SHARE = 0.9
NEARLY_CONSTANT = 1e-3
"""Scores that differ by so little of what stable's do tell nobody from another."""


class GuardBreach(NamedTuple):
    """Why a candidate goes: the rule, and a sentence with the value, the bound and what they rest on."""

    rule: str
    reason: str


def judge(
    windows: dict[float, Counts], bounds: GuardParams, role: Literal["candidate", "shadow"]
) -> GuardBreach | None:
    """The first rule that is surely broken in one of the windows, or None.

    A share breaks its bound when an exact binomial test says so at the level of 0.02 %, and on three hits at least:
    an unlucky request or two never take a candidate off, three that all fail do.

    Args:
        windows: by their length in seconds, what was counted in them.
        bounds: what the candidate may do.
        role: how it scores: in its own requests, or beside stable's answers, where it cannot slow anybody down.
    """
    for seconds, counts in windows.items():
        for breach in _broken(counts, bounds, role):
            return breach._replace(reason=f"{breach.reason}, in the last {seconds:g} s")
    return None


def _broken(counts: Counts, bounds: GuardParams, role: Literal["candidate", "shadow"]) -> Iterator[GuardBreach]:
    yield from _errors(counts, bounds, role)
    yield from _share(
        "invalid",
        "scores that are no finite numbers",
        counts.of(role, INVALID),
        counts.of(role, RECORDS),
        bounds.max_invalid_rate,
    )
    if role == "candidate":
        yield from _latency(counts, bounds)
    yield from _constant(counts, role)
    yield from _disagreement(counts, bounds)


def _errors(counts: Counts, bounds: GuardParams, role: Role) -> Iterator[GuardBreach]:
    # What fails on stable as often is the requests' fault.
    stable = counts.of("stable", FAILED) / max(counts.of("stable", REQUESTS), 1)
    failed, requests = counts.of(role, FAILED), counts.of(role, REQUESTS)
    yield from _share("errors", "requests failed", failed, requests, max(bounds.max_error_rate, stable))


def _latency(counts: Counts, bounds: GuardParams) -> Iterator[GuardBreach]:
    stable = latency_quantile(counts.latencies("stable"), 0.99)
    slow_ms = bounds.max_latency_ms
    if stable is not None:
        relative = bounds.max_latency_ratio * max(FLOOR_MS, stable * 1e3)
        slow_ms = min(slow_ms, max(NOTICED_MS, relative))
    slow = sum(counts.latencies("candidate")[latency_bucket(slow_ms / 1e3) + 1 :])
    yield from _share(
        "latency", f"requests took over {slow_ms:.0f} ms", slow, counts.of("candidate", REQUESTS), SLOW_SHARE
    )


def _constant(counts: Counts, role: Role) -> Iterator[GuardBreach]:
    scores, repeats = scored(counts, role), counts.of(role, REPEATS)
    others = scored(counts, "stable") + scored(counts, "mirror")
    varied = counts.of("stable", REPEATS) + counts.of("mirror", REPEATS) <= VARIED_SHARE * others
    if min(scores, others) < FEWEST_SCORES or not varied:
        return
    spread, others_spread = spread_of(counts, role), spread_of(counts, "stable", "mirror")
    if repeats >= CONSTANT_SHARE * (scores - 1):
        yield GuardBreach("constant", f"{repeats + 1} of {scores} scores are the same, and stable's are not")
    elif spread < NEARLY_CONSTANT * others_spread:
        told = f"a standard deviation of {spread:.2g}, stable's of {others_spread:.2g}"
        yield GuardBreach("constant", f"{scores} scores are nearly the same: they have {told}")


def _disagreement(counts: Counts, bounds: GuardParams) -> Iterator[GuardBreach]:
    different, pairs = int(counts.common[DIFFERENT]), counts.pairs
    yield from _share("disagreement", "labels are not stable's", different, pairs, bounds.max_disagreement)
    value = disagreement(counts).value
    if counts.distance and pairs >= FEWEST_SCORES and value is not None and value > bounds.max_disagreement:
        yield GuardBreach(
            "disagreement",
            f"values are {value:.2f} standard deviations off stable's, on average of {pairs}; "
            f"the bound is {bounds.max_disagreement:g}",
        )


def _share(rule: str, what: str, hits: int, trials: int, bound: float) -> Iterator[GuardBreach]:
    if hits >= FEWEST_HITS and binomial_tail(hits, trials, bound) < LEVEL:
        yield GuardBreach(rule, f"{hits} of {trials} {what}; the bound is {bound:.2%}")
