from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_samples import BAD, START, Run, make_batch, make_served, make_serving
from serve_samples import COLUMNS, make_signature

from mergeline.errors import ManifestError, ModelError
from mergeline.params import Task
from mergeline.release_params import Rollout
from mergeline.scorer.signature import Column, Kind
from mergeline.serve.rollout import step
from mergeline.serve.rollout.routing import check_sticky, columns_to_take, make_plan

TAIL = Column(name="tail", kind=Kind.CATEGORY, nullable=True)


@pytest.fixture
def serving(tmp_path):
    return make_serving(make_served(tmp_path), make_served(tmp_path, version=2))


def plan_at(serving, percent: int, **section):
    section = {"steps": [{"weight": percent, "hold": "1h"}], **section}
    serving = replace(serving, rollout=make_serving(serving.stable, serving.candidate, **section).rollout)
    return make_plan(serving, step.start(serving.rollout, serving.rolling_out, START))


class TestWhoAnswers:
    def test_before_the_rollout_has_begun_stable_answers(self, serving):
        assert make_plan(serving, None).candidate is None

    def test_the_first_step_gives_the_candidate_its_share(self, serving):
        plan = plan_at(serving, 30)
        roles = [plan.role(f"key-{number}") for number in range(20_000)]
        assert roles.count("candidate") / 20_000 == pytest.approx(0.3, abs=0.015)
        assert roles.count("candidate") + roles.count("stable") == 20_000

    def test_a_failed_candidate_answers_nobody(self, serving):
        run = Run(serving.rollout).go(1, BAD)
        state = run.state.model_copy(update={"candidate": serving.rolling_out})
        assert make_plan(serving, state).candidate is None

    def test_the_state_of_another_rollout_counts_for_nothing(self, serving):
        state = step.start(serving.rollout, "sha256:" + "9" * 64, START)
        assert make_plan(serving, state).candidate is None

    def test_a_candidate_that_is_not_loaded_answers_nobody(self, serving):
        state = step.start(serving.rollout, serving.rolling_out, START)
        assert make_plan(replace(serving, candidate=None), state).candidate is None

    @given(st.text(), st.tuples(st.integers(1, 100), st.integers(1, 100)))
    def test_a_key_stays_with_the_candidate_when_the_weight_grows(self, tmp_path_factory, key, percents):
        folder = tmp_path_factory.getbasetemp()
        serving = make_serving(make_served(folder), make_served(folder, version=2))
        small, large = (plan_at(serving, percent).role(key) for percent in sorted(percents))
        assert (small, large) != ("candidate", "stable")


class TestRequests:
    def test_without_a_sticky_column_one_model_answers_the_whole_request(self, serving):
        plan = plan_at(serving, 50)
        found = {tuple(plan.roles(make_batch(3, 4, 5, first=number))) for number in range(100)}
        assert found == {("stable",) * 3, ("candidate",) * 3}

    def test_the_same_request_again_gets_the_same_model(self, serving):
        plan = plan_at(serving, 50)
        assert plan.roles(make_batch(3, first=7)) == plan.roles(make_batch(9, first=7))

    @pytest.mark.parametrize("sticky", ["tailnum", "hour", "flight_id"])
    def test_records_of_one_request_go_by_their_own_keys(self, serving, sticky):
        plan = plan_at(serving, 50, sticky=sticky)
        batch = make_batch(*range(24), tails=[f"N{number}" for number in range(24)])
        keys = {"tailnum": [tail for _, tail in batch.unread], "hour": list(range(24)), "flight_id": batch.ids}[sticky]
        assert plan.roles(batch) == [plan.role(key) for key in keys]
        assert set(plan.roles(batch)) == {"stable", "candidate"}

    def test_the_key_alone_decides_whatever_the_id(self, serving):
        plan = plan_at(serving, 50, sticky="tailnum")
        batches = [make_batch(3, tails=["N725MQ"], first=number) for number in range(50)]
        assert len({tuple(plan.roles(batch)) for batch in batches}) == 1

    @pytest.mark.parametrize(("sticky", "batch"), [("tailnum", make_batch(3, 4)), ("temp", None)])
    def test_a_record_without_a_key_goes_by_its_id(self, serving, sticky, batch):
        plan = plan_at(serving, 50, sticky=sticky)
        if batch is None:
            batch = make_batch(3, 4)._replace(rows=((float("nan"), 3, False, "JFK", "UA"),) * 2)
        assert plan.roles(batch) == [plan.role(one) for one in batch.ids]


class TestFit:
    def test_the_same_columns_need_no_change(self):
        assert columns_to_take(make_signature(), make_signature()) is None

    def test_fewer_columns_in_another_order_are_picked(self):
        candidate = make_signature(columns=(COLUMNS[4], COLUMNS[1]))
        assert columns_to_take(make_signature(), candidate) == (4, 1)

    def test_the_candidate_gets_its_own_columns(self, tmp_path):
        model = replace(make_served(tmp_path), takes=(4, 1))
        seen = []
        narrow = replace(model.model, signature=make_signature(columns=(COLUMNS[4], COLUMNS[1])))
        narrow.pipeline.predict_proba = lambda frame: seen.append(frame) or __import__("numpy").ones((1, 2)) / 2
        replace(model, model=narrow).answer(("x",), ((12.5, 8, False, "JFK", "UA"),))
        assert seen[0].iloc[0].tolist() == ["UA", 8]

    @pytest.mark.parametrize(
        "columns", [(*COLUMNS, TAIL), (Column(name="hour", kind=Kind.NUMBER, nullable=False), *COLUMNS[2:])]
    )
    def test_a_column_that_requests_to_stable_lack_is_refused(self, columns):
        with pytest.raises(ModelError, match="which requests to stable don't have"):
            columns_to_take(make_signature(), make_signature(columns=columns))

    def test_another_task_is_refused(self):
        with pytest.raises(ModelError, match="another question"):
            columns_to_take(make_signature(), make_signature(Task.REGRESSION))

    def test_other_classes_are_refused_and_told(self):
        stable = make_signature(Task.MULTICLASS)
        other = stable.model_copy(update={"output": stable.output.model_copy(update={"classes": ("a", "b", "d")})})
        with pytest.raises(ModelError, match=r"'a', 'b', 'd'.*stable answers .*'a', 'b', 'c'"):
            columns_to_take(stable, other)

    def test_the_same_classes_in_another_order_fit(self):
        stable = make_signature(Task.MULTICLASS)
        other = stable.model_copy(update={"output": stable.output.model_copy(update={"classes": ("c", "a", "b")})})
        assert columns_to_take(stable, other) is None

    @pytest.mark.parametrize("sticky", [None, "hour", "tailnum", "scheduled_at", "flight_id"])
    def test_a_sticky_column_that_records_carry(self, sticky):
        check_sticky(Rollout(sticky=sticky), make_signature())

    def test_one_that_they_do_not_carry_is_refused_with_the_nearest(self):
        with pytest.raises(ManifestError, match="carry no column 'tailnumb'") as caught:
            check_sticky(Rollout(sticky="tailnumb"), make_signature())
        assert caught.value.hint == "did you mean `tailnum`?"
