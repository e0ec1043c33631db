"""A day of traffic in a minute: a rollout and the journal from one evening to the next, by the test's own clock."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from journal_samples import SIGNATURE, append, settings
from pyarrow import parquet
from rollout_samples import ERRORS, make_served, make_serving
from test_rollout_controller import FAILING, Worker

from mergeline.journal.compactor import keep
from mergeline.journal.folders import Keeping, sealed_files
from mergeline.journal.journal import Journal
from mergeline.serve.rollout.state import DecisionKind, Phase

pytestmark = pytest.mark.slow

FLIGHTS = (
    0, 1, 0, 0, 0, 1953, 25951, 22821, 27242, 20312, 16708, 16033,
    18181, 19956, 21706, 23888, 23002, 24426, 21783, 21441, 16739, 10933, 2639, 1061,
)  # fmt: skip
"""Departures from New York by the hour that they were scheduled for: those of 2013, as if they were of one day."""
EVENING = datetime(2026, 1, 1, 18, tzinfo=UTC)
STEPS = [{"weight": 5, "hold": "2h"}, {"weight": 25, "hold": "4h"}, {"weight": 50, "hold": "3h"}]


class Day(Worker):
    """Requests as many as the hour has, with the failures and the slow answers that healthy models have."""

    def __init__(self, folder) -> None:
        stable, candidate = make_served(folder), make_served(folder, version=2)
        slower = {**ERRORS, "name": "slower", "metric": "p99_ratio", "success": "< 5", "failure": "> 10"}
        analysis = [{**ERRORS, "interval": "5m"}, slower]
        super().__init__(folder, make_serving(stable, candidate, steps=STEPS, analysis=analysis), now=EVENING)
        self.folder, self.chance, self.asked, self.hours = folder / "journal", random.Random(0), 0.0, Counter()
        self.weights: dict[int, int] = {}
        self._open()

    def _open(self) -> None:
        self.journal = Journal(self.folder, settings())
        self.recorder = self.journal.recorder(SIGNATURE)

    def live(self, hours: float, candidate=None) -> Day:
        """Second by second."""
        for _ in range(round(hours * 3600)):
            self.now += timedelta(seconds=1)
            self.asked += FLIGHTS[self.now.hour] / 3600
            while self.asked >= 1:
                self.asked -= 1
                self.request(candidate or {})
            self.controller.update()
            self.weights[self.now.hour] = self.weight
            if not self.now.minute and not self.now.second:
                self.journal.close()
                keep(Keeping.of(self.folder, settings()), self.now)
                self._open()
        return self

    def request(self, candidate: dict) -> None:
        key, role = f"flight-{self.served}", self.controller.plan.role(f"flight-{self.served}")
        self.served += 1
        self.hours[self.now.hour] += 1
        failed = self.chance.random() < 0.0002
        did = {"seconds": self.chance.lognormvariate(-6, 0.7), "failed": failed}
        did["scores"] = () if failed else (self.chance.betavariate(2, 5),)
        if role == "candidate":
            did |= candidate
        self.controller.counters.add(role, 1, did.pop("seconds"), **did)
        append(self.recorder, [key], time_ns=int(self.now.timestamp()) * 10**9, role=role)

    def close(self) -> None:
        self.controller.stop()
        self.journal.close()


@pytest.fixture
def day(tmp_path):
    day = Day(tmp_path)
    yield day
    day.close()


def test_a_healthy_candidate_waits_for_the_morning_and_passes_and_the_journal_holds_the_day(day):
    day.live(24)

    assert day.phase is Phase.PASSED, day.controller.state.reason
    decisions = day.controller.state.decisions
    assert not {DecisionKind.FAILED, DecisionKind.ABORTED} & {decision.kind for decision in decisions}
    # A little after midnight the second step is over, and nobody asks.
    night = [(decision.kind, decision.at.hour) for decision in decisions if decision.at.hour < 6]
    assert night == [(DecisionKind.PAUSED, 0), (DecisionKind.RESUMED, 5), (DecisionKind.ADVANCED, 5)]
    assert [day.weights[hour] for hour in (19, 21, 3, 6, 12)] == [5, 25, 25, 50, 100]
    day.journal.close()
    status = keep(Keeping.of(day.folder, settings()), day.now)
    assert status.error is None
    tables = [(file.day, parquet.read_table(file.path, columns=["_id", "_time"])) for file in sealed_files(day.folder)]
    keys = [key for _, table in tables for key in table.column("_id").to_pylist()]
    times = [time for _, table in tables for time in table.column("_time").to_pylist()]
    assert len(keys) == len(set(keys)) == day.served > 0.99 * sum(FLIGHTS)
    assert Counter(time.hour for time in times) == day.hours
    assert {found for found, _ in tables} == {date(2026, 1, 1), date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("hours", "requests"),
    [pytest.param(1, 40, id="in the evening"), pytest.param(4.5, 10, id="late"), pytest.param(11.5, 10, id="at dawn")],
)
def test_one_that_breaks_goes_after_a_few_of_its_requests_at_any_hour(day, hours, requests):
    day.live(hours)
    assert day.phase is not Phase.FAILED
    before = day.controller.counts().of("candidate", 0)
    for _ in range(600):
        if day.live(1 / 3600, FAILING).phase is Phase.FAILED:
            break
    assert day.phase is Phase.FAILED
    assert day.controller.counts().of("candidate", 0) - before <= requests
    assert day.live(1, FAILING).weight == 0
