"""When a retraining may be proposed, and when something else comes first."""

from datetime import UTC, datetime, timedelta

import pytest

from mergeline.dataset.quarantine import Ingested
from mergeline.params import RetrainParams
from mergeline.retrain.cool_down import Situation, Step, decide, too_many_bad, why_not_now
from mergeline.watch.challenge import Challenged, Proof

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SETTINGS = RetrainParams(cool_down="2d", max_per_week=2, max_quarantine=0.05)


def situation(*days_ago, promotions=()):
    return Situation(NOW, promotions, [NOW - timedelta(days=days) for days in days_ago])


def challenged(proof=Proof.PROVEN, partitions=("2026-03-01_2026-03-09",), rows=1000, quarantined=0):
    ingested = Ingested(
        partitions=partitions, rows=rows, known=0, late=0, quarantined=quarantined, reasons={"amount: breaks": 1}
    )
    return Challenged(
        name="orders", version=1, digest="sha256:1", proof=proof, headline="as it is", reasons=(), trained=1, judged=1,
        missing=0, first=None, last=None, metric="log_loss", champion=None, challenger=None, gain=None,
        ingested=ingested, made_at=NOW,
    )  # fmt: skip


def test_where_nothing_is_under_way_it_may():
    assert why_not_now(situation(), SETTINGS) is None
    assert why_not_now(situation(2.1, 30), SETTINGS) is None


def test_nothing_is_proposed_while_a_promotion_is_under_way():
    words = why_not_now(situation(promotions=["version 4 rolls out", "#7 flights: back to version 2"]), SETTINGS)
    assert words == "a promotion is under way: version 4 rolls out, #7 flights: back to version 2"


@pytest.mark.parametrize(("days", "may"), [(1.9, False), (2.0, True)])
def test_it_cools_down_after_the_last_one(days, may):
    words = why_not_now(situation(days), SETTINGS)
    assert (words is None) is may
    if not may:
        assert "cooling down until 2026-03-10 14:24 UTC" in words


def test_there_is_a_limit_a_week_and_a_day_from_which_on_the_next_may_come():
    assert "2 in seven days are the most; the next one from 2026-03-11 12:00" in why_not_now(situation(3, 6), SETTINGS)
    assert why_not_now(situation(3, 7), SETTINGS) is None


def test_what_a_challenge_asks_for():
    assert decide(challenged(), anyway=False) == (Step.PROPOSE, "as it is")
    assert decide(challenged(Proof.NOT_PROVEN), anyway=False)[0] is Step.NO_GAIN
    assert decide(challenged(Proof.TOO_FEW), anyway=False)[0] is Step.TOO_FEW
    assert decide(challenged(Proof.NOT_PROVEN), anyway=True)[0] is Step.PROPOSE
    assert decide(challenged(Proof.PROVEN, partitions=()), anyway=True)[0] is Step.TOO_FEW


def test_where_no_row_can_be_taken_in_it_says_what_became_of_them():
    _, words = decide(challenged(partitions=(), rows=0, quarantined=7), anyway=False)
    assert words == (
        "no fresh labelled row can be taken in: 0 are in the data already, 0 came too late, 7 are in quarantine"
    )


def test_too_many_bad_rows_stop_it_and_the_reason_is_named():
    assert too_many_bad(challenged(quarantined=50), SETTINGS) is None
    words = too_many_bad(challenged(quarantined=60), SETTINGS)
    assert words == "60 of 1,060 fresh rows break the schema, more than 5%; most often: amount: breaks"
