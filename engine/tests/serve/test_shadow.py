from __future__ import annotations

import threading
import time

import pytest
from rollout_samples import START, make_batch, make_rollout, make_served, make_serving

from mergeline.params import Task
from mergeline.serve.rollout import shadow as shadow_module
from mergeline.serve.rollout import step
from mergeline.serve.rollout.counts import DIFFERENT, DROPPED, FAILED, INVALID, RECORDS, REQUESTS, Counters, read_counts
from mergeline.serve.rollout.routing import make_plan
from mergeline.serve.rollout.shadow import MIRRORS_A_SECOND, MOST_AT_ONCE, MOST_WAITING, Shadow

MODELS = [f"sha256:{version:064x}" for version in (1, 2)]


class Beside:
    """A shadow whose journal is a list."""

    def __init__(self, folder, **settings) -> None:
        self.folder = folder / "counts"
        self.journal: list[tuple[object, list]] = []
        self.shadow = Shadow(
            Counters(self.folder), lambda ticket, answers: self.journal.append((ticket, answers)), MODELS, **settings
        )

    def offer(self, plan, batch, role="stable", ticket=None) -> None:
        model = plan.candidate if role == "candidate" else plan.stable
        answers = model.answer(batch.ids, batch.rows)
        self.shadow.offer(plan, batch, [role] * len(batch.ids), answers, ticket)

    def finish(self, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while self.shadow.waiting and time.monotonic() < end:
            time.sleep(0.005)
        assert self.shadow.waiting == 0

    @property
    def counts(self):
        return read_counts(self.folder)


@pytest.fixture
def beside(tmp_path):
    made = Beside(tmp_path)
    made.shadow.start()
    yield made
    made.shadow.stop()


def plan_of(folder, strategy="shadow", *, candidate=lambda hour: hour / 24, before=lambda: None, weight=100, **more):
    stable = make_served(folder, **more)
    other = make_served(folder, candidate, version=2, before=before, **more)
    steps = [{"weight": weight, "hold": "1h"}]
    serving = make_serving(stable, other, strategy=strategy, steps=steps)
    return make_plan(serving, step.start(serving.rollout, other.model.digest, START))


class TestShadowStrategy:
    def test_the_candidate_scores_what_stable_has_answered(self, beside, tmp_path):
        beside.offer(plan_of(tmp_path, candidate=lambda hour: 1 - hour / 24), make_batch(3, 20), ticket="here")
        beside.finish()
        assert beside.counts.of("shadow", REQUESTS) == 1
        assert beside.counts.of("shadow", RECORDS) == 2
        ((ticket, answers),) = beside.journal
        assert ticket == "here"
        assert [(answer.id, answer.score) for answer in answers] == [("id-0", 1 - 3 / 24), ("id-1", 1 - 20 / 24)]
        assert {answer.version for answer in answers} == {2}

    def test_labels_that_differ_are_counted(self, beside, tmp_path):
        plan = plan_of(tmp_path, candidate=lambda hour: 0.9)
        beside.offer(plan, make_batch(3, 4, 20))
        beside.finish()
        assert (beside.counts.pairs, beside.counts.common[DIFFERENT]) == (3, 2)

    def test_distances_of_a_regression_are_summed(self, beside, tmp_path):
        plan = plan_of(tmp_path, candidate=lambda hour: hour / 24 + 0.5, task=Task.REGRESSION)
        beside.offer(plan, make_batch(3, 4))
        beside.finish()
        assert (beside.counts.pairs, beside.counts.common[DIFFERENT]) == (2, 0)
        assert beside.counts.distance == pytest.approx(1.0)

    def test_a_share_of_the_requests_is_a_share(self, beside, tmp_path):
        plan = plan_of(tmp_path, weight=30)
        chosen = sum(plan.is_shadowed(make_batch(3, first=number)) for number in range(5000))
        assert chosen / 5000 == pytest.approx(0.3, abs=0.03)

    @pytest.mark.parametrize(("score", "invalid"), [(lambda hour: float("nan"), 2), (lambda hour: 1 / 0, 0)])
    def test_a_candidate_that_fails_is_counted_and_hurts_nobody(self, beside, tmp_path, score, invalid):
        plan = plan_of(tmp_path, candidate=score)
        for _ in range(2):
            beside.offer(plan, make_batch(3))
        beside.finish()
        counts = beside.counts
        assert (counts.of("shadow", FAILED), counts.of("shadow", INVALID), counts.pairs) == (2, invalid, 0)
        assert beside.journal == []

    def test_a_journal_that_fails_does_not_end_the_shadow(self, tmp_path):
        counters = Counters(tmp_path / "counts")

        def refuse(ticket, answers):
            raise OSError("no limit")

        shadow = Shadow(counters, refuse, MODELS)
        shadow.start()
        plan, batch = plan_of(tmp_path), make_batch(3)
        for _ in range(3):
            shadow.offer(plan, batch, ["stable"], plan.stable.answer(batch.ids, batch.rows))
        end = time.monotonic() + 10
        while shadow.waiting and time.monotonic() < end:
            time.sleep(0.005)
        shadow.stop()
        assert read_counts(tmp_path / "counts").of("shadow", REQUESTS) == 3


class TestCanaryStrategy:
    def test_stable_scores_what_the_candidate_has_answered(self, beside, tmp_path):
        beside.offer(plan_of(tmp_path, "canary", candidate=lambda hour: 0.9), make_batch(3), "candidate", "here")
        beside.finish()
        counts = beside.counts
        assert (counts.of("mirror", REQUESTS), counts.pairs, counts.common[DIFFERENT]) == (1, 1, 1)
        assert [answers[0].version for _, answers in beside.journal] == [1]

    def test_what_stable_has_answered_is_not_scored_again(self, beside, tmp_path):
        beside.offer(plan_of(tmp_path, "canary", weight=50), make_batch(3), "stable")
        assert (beside.shadow.waiting, beside.counts.of("mirror", REQUESTS)) == (0, 0)

    def test_of_a_mixed_request_only_the_candidates_records_are_pairs(self, beside, tmp_path):
        plan, batch = plan_of(tmp_path, "canary", candidate=lambda hour: 0.9), make_batch(3, 4)
        answers = [plan.stable.answer(batch.ids, batch.rows)[0], plan.candidate.answer(batch.ids, batch.rows)[1]]
        beside.shadow.offer(plan, batch, ["stable", "candidate"], answers)
        beside.finish()
        assert (beside.counts.pairs, beside.counts.common[DIFFERENT]) == (1, 1)
        assert beside.journal == []

    def test_what_stable_answered_in_its_place_is_no_pair(self, beside, tmp_path):
        plan, batch = plan_of(tmp_path, "canary"), make_batch(3)
        beside.shadow.offer(plan, batch, ["candidate"], plan.stable.answer(batch.ids, batch.rows))
        beside.finish()
        assert beside.counts.pairs == 0

    def test_only_so_many_a_second_are_scored_twice(self, tmp_path):
        now = [0.0]
        beside = Beside(tmp_path, clock=lambda: now[0])
        plan = plan_of(tmp_path, "canary")
        for _ in range(1000):
            now[0] += 0.002
            beside.offer(plan, make_batch(3), "candidate")
        assert beside.shadow.waiting == pytest.approx(2 * MIRRORS_A_SECOND, rel=0.1)
        assert beside.counts.common[DROPPED] == 0


class TestBounds:
    def test_a_full_queue_drops_and_counts(self, tmp_path):
        beside, plan = Beside(tmp_path), plan_of(tmp_path)
        for _ in range(25):
            beside.offer(plan, make_batch(*([3] * 100)))
        assert beside.shadow.waiting == MOST_WAITING
        assert beside.counts.common[DROPPED] == 500

    def test_large_requests_are_not_scored_together(self, tmp_path):
        beside, plan = Beside(tmp_path), plan_of(tmp_path)
        for _ in range(3):
            beside.offer(plan, make_batch(*([3] * MOST_AT_ONCE)))
        assert len(beside.shadow._next()) == 1

    def test_one_request_larger_than_the_queue_is_taken_when_nothing_waits(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shadow_module, "MOST_WAITING", 5)
        beside, plan = Beside(tmp_path), plan_of(tmp_path)
        beside.offer(plan, make_batch(*([3] * 10)))
        beside.offer(plan, make_batch(3))
        assert (beside.shadow.waiting, beside.counts.common[DROPPED]) == (10, 1)

    def test_an_offer_never_waits_for_a_candidate_that_hangs(self, tmp_path):
        hanging = threading.Event()
        beside = Beside(tmp_path)
        beside.shadow.start()
        plan = plan_of(tmp_path, before=lambda: hanging.wait(30) and None)
        batch = make_batch(3)
        answers = plan.stable.answer(batch.ids, batch.rows)
        start = time.perf_counter()
        for _ in range(3000):
            beside.shadow.offer(plan, batch, ["stable"], answers)
        assert time.perf_counter() - start < 1
        assert beside.counts.common[DROPPED] >= 1000
        hanging.set()
        beside.shadow.stop()

    def test_what_a_candidate_says_after_the_end_is_neither_counted_nor_kept(self, tmp_path):
        asked, told = threading.Event(), threading.Event()

        def hang() -> None:
            asked.set()
            told.wait(30)

        beside = Beside(tmp_path)
        beside.shadow.start()
        beside.offer(plan_of(tmp_path, before=hang), make_batch(3))
        assert asked.wait(10)
        beside.shadow.stop(0.05)
        assert beside.counts.common[DROPPED] == 1
        told.set()
        beside.shadow._thread.join(10)
        assert beside.counts.of("shadow", REQUESTS) == 0
        assert beside.journal == []

    def test_a_request_of_a_model_that_is_gone_is_dropped_and_counted(self, tmp_path):
        beside = Beside(tmp_path)
        stable, gone = make_served(tmp_path), make_served(tmp_path, version=3)
        serving = make_serving(stable, gone, strategy="shadow", steps=[])
        beside.offer(make_plan(serving, step.start(serving.rollout, gone.model.digest, START)), make_batch(3, 4))
        assert (beside.shadow.waiting, beside.counts.common[DROPPED]) == (0, 2)

    def test_what_waits_at_the_end_is_dropped_and_counted(self, tmp_path):
        beside, plan = Beside(tmp_path), plan_of(tmp_path)
        for _ in range(7):
            beside.offer(plan, make_batch(3))
        beside.shadow.stop()
        assert beside.counts.common[DROPPED] == 7

    def test_the_plan_without_a_rollout_offers_nothing(self, tmp_path):
        beside = Beside(tmp_path)
        plan = make_plan(make_serving(make_served(tmp_path), None), None)
        beside.offer(plan, make_batch(3))
        assert beside.shadow.waiting == 0

    def test_a_section_without_a_state_shadows_nothing(self, tmp_path):
        serving = make_serving(make_served(tmp_path), make_served(tmp_path, version=2), strategy="shadow")
        assert make_plan(serving, None).shadow is None
        other = step.start(make_rollout(strategy="shadow", sticky="tailnum"), serving.rolling_out, START)
        assert make_plan(serving, other).shadow is None
