"""The guard with real threads, real models and the real clock."""

from __future__ import annotations

import threading
import time

import pytest
from rollout_samples import STEPS, make_batch, make_served, make_serving

from mergeline.errors import ModelError
from mergeline.params import GuardParams
from mergeline.serve.rollout.controller import RolloutController
from mergeline.serve.rollout.state import STATE_FILE, Phase
from mergeline.serve.state import CurrentState, State

pytestmark = pytest.mark.slow


class TestRealTime:
    """Real threads, real models, the real clock."""

    @pytest.mark.parametrize("fault", ["raises", "sleeps"])
    def test_a_bad_candidate_is_off_for_new_requests_within_five_seconds(self, tmp_path, fault):
        bad = threading.Event()

        def misbehave():
            if bad.is_set():
                if fault == "raises":
                    raise ValueError("as it was told")
                time.sleep(0.6)

        stable = make_served(tmp_path)
        serving = make_serving(stable, make_served(tmp_path, version=2, before=misbehave), steps=STEPS[2:])
        controller = RolloutController(
            CurrentState(State(serving)), tmp_path / "state", tmp_path / "run", GuardParams()
        )
        controller.update()
        controller.start()
        stopped = threading.Event()

        def client(number: int) -> None:
            sent = 0
            while not stopped.is_set():
                sent += 1
                batch = make_batch(sent % 24, first=number * 1_000_000 + sent)
                plan, start = controller.plan, time.perf_counter()
                (role,) = plan.roles(batch)
                model = plan.candidate if role == "candidate" else plan.stable
                try:
                    scores = [answer.score for answer in model.answer(batch.ids, batch.rows)]
                except ModelError:
                    controller.counters.add(role, 1, time.perf_counter() - start, failed=True)
                else:
                    controller.counters.add(role, 1, time.perf_counter() - start, scores=scores)
                time.sleep(0.005)

        clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in clients:
            thread.start()
        try:
            time.sleep(1.5)
            assert controller.plan.weight == 50
            start = time.monotonic()
            bad.set()
            while controller.plan.candidate is not None and time.monotonic() - start < 10:
                time.sleep(0.01)
            seconds = time.monotonic() - start
        finally:
            stopped.set()
            for thread in clients:
                thread.join()
            controller.stop()
        assert seconds < 5
        assert controller.plan.stable is stable
        assert controller.state.phase is Phase.FAILED
        assert (tmp_path / "state" / STATE_FILE).exists()
