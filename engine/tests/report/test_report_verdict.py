"""The top of a report: what a reviewer decides from."""

from __future__ import annotations

from itertools import pairwise

import pytest
from report_parsing import headings, parse_markdown, tables
from report_samples import make_input

from mergeline.evaluate.results import Estimate, GateCheck, GateOutcome, Status
from mergeline.params import Task
from mergeline.report import markdown
from mergeline.report.compose import compose, verdict_state
from mergeline.report.inputs import ReportInput
from mergeline.report.words import headline


def written(subject: ReportInput) -> str:
    return markdown.render(compose(subject))


def with_checks(subject: ReportInput, *failing: str) -> ReportInput:
    checks = tuple(
        GateCheck(name=name, status=Status.FAIL, value="found it", bound="asked for it", meaning=f"{name} is bad.")
        for name in failing
    )
    passing = tuple(check for check in subject.verdict.checks if check.status is not Status.FAIL)
    verdict = subject.verdict.model_copy(update={"checks": (*passing, *checks), "accepted": False})
    return subject.model_copy(update={"verdict": verdict, "version": None})


@pytest.mark.parametrize(
    ("outcome", "first_line"),
    [
        (GateOutcome.BETTER, "## ✅ Accepted: `flights` version 8 is better than version 7"),
        (GateOutcome.EQUIVALENT, "## ✅ Accepted: `flights` version 8 is as good as version 7"),
        (GateOutcome.NO_CHAMPION, "## ✅ Accepted: `flights` version 1 is the first model, with no champion to beat"),
        (GateOutcome.WORSE, "## ❌ Rejected: `flights` is worse than version 7"),
        (
            GateOutcome.INCONCLUSIVE,
            "## ⚠️ Inconclusive: these rows cannot tell whether `flights` is as good as version 7",
        ),
    ],
)  # fmt: skip
def test_the_first_line_is_the_verdict(outcome, first_line):
    assert written(make_input(outcome=outcome)).splitlines()[0] == first_line


def test_the_second_line_says_why():
    subject = make_input(outcome=GateOutcome.NO_CHAMPION)
    assert written(subject).splitlines()[1] == headline(subject.verdict)


def test_a_better_model_that_fails_two_checks_is_rejected_and_both_reasons_stand_at_the_top():
    text = written(with_checks(make_input(), "size", "latency"))
    assert text.startswith("## ❌ Rejected: `flights` fails 2 of 12 checks\n")
    assert "> [!CAUTION]\n> - **size**: size is bad.\n> - **latency**: latency is bad.\n" in text


def test_an_inconclusive_model_that_also_fails_a_floor_is_rejected():
    subject = with_checks(make_input(outcome=GateOutcome.INCONCLUSIVE), "champion", "floor roc_auc")
    assert verdict_state(subject.verdict) == "rejected"


def test_one_failure_is_left_to_the_headline_and_the_table():
    assert "[!CAUTION]" not in written(with_checks(make_input(), "size"))


def test_a_champion_that_cannot_be_loaded_is_not_called_a_first_model():
    sample = make_input(outcome=GateOutcome.INCONCLUSIVE)
    verdict = sample.verdict.model_copy(update={"comparison": None})
    text = written(sample.model_copy(update={"verdict": verdict}))
    assert text.startswith("## ⚠️ Inconclusive: `flights` cannot be compared with the champion\n")
    assert "first model" not in text
    assert "could not be compared with" in text


def test_the_champion_itself_is_called_the_same_model():
    sample = make_input(outcome=GateOutcome.EQUIVALENT)
    verdict = sample.verdict.model_copy(update={"comparison": None})
    text = written(sample.model_copy(update={"verdict": verdict, "changes": ()}))
    assert text.startswith("## ✅ Accepted: `flights` version 8 is the same model as the champion\n")
    assert "Nothing: the champion was made from the same params, data, code and libraries." in text


def test_without_a_champion_nothing_speaks_of_gains_or_of_a_version_before():
    text = written(make_input(outcome=GateOutcome.NO_CHAMPION))
    assert "Gain" not in text
    assert "version None" not in text
    assert "Slices where the model is weakest" in text
    assert "This is the first model, so there is nothing to compare its origin with." in text


def test_failures_come_before_warnings_and_passes_are_folded():
    text = written(make_input(outcome=GateOutcome.WORSE))
    shown = next(table for table in tables(parse_markdown(text)) if table[0][0] == "Result")
    assert [(row[0], row[1]) for row in shown[1:]] == [
        ("❌ failed", "champion"), ("❌ failed", "slices"), ("⚠️ warning", "fairness origin"),
    ]  # fmt: skip
    assert "<summary>✅ 7 checks passed</summary>" in text


def test_the_gates_metric_comes_first_with_both_values_and_the_interval_of_the_gain():
    shown = tables(parse_markdown(written(make_input())))[0]
    assert shown[0] == ["Metric", "Champion (v7)", "This model", "Gain, 95 % interval", "Reading"]
    assert shown[1] == ["roc_auc ↑", "0.7312", "0.7384", "+0.0072 [+0.0033, +0.0111]", "▲ better"]


def test_a_gain_in_an_error_is_read_as_better_although_the_error_falls():
    row = tables(parse_markdown(written(make_input(Task.REGRESSION))))[0][1]
    assert row[0] == "mae ↓"
    assert float(row[2]) < float(row[1])
    assert row[4] == "▲ better"


def test_slices_that_got_worse_come_first_whatever_else_moved_more():
    sample = make_input(outcome=GateOutcome.WORSE)
    comparison = sample.verdict.comparison
    assert comparison is not None
    leaping = comparison.slices[0].model_copy(update={"gain": Estimate(value=0.4, low=0.3, high=0.5)})
    slices = (leaping, *comparison.slices[1:])
    verdict = sample.verdict.model_copy(update={"comparison": comparison.model_copy(update={"slices": slices})})
    text = written(sample.model_copy(update={"verdict": verdict}))
    shown = next(table for table in tables(parse_markdown(text)) if table[0][0] == "Slice")
    assert [row[0] for row in shown[1:4]] == ["carrier = EV", "carrier = MQ", "carrier = UA"]
    assert shown[1][-1] == "❌ worse, q 0.004"
    assert len(shown) == 1 + 6


def test_notices_of_the_run_stand_above_the_numbers():
    text = written(make_input(notices=("MLflow did not answer; the run is not recorded.",)))
    assert "> [!WARNING]\n> MLflow did not answer; the run is not recorded.\n" in text
    assert text.index("MLflow did not") < text.index("### Metrics")


def test_the_commands_and_the_digest_they_must_reproduce_are_there():
    text = written(make_input())
    assert "```bash\ngit switch faster-trees\nuv sync --locked\nuv run dvc pull\nuv run mergeline propose\n```" in text
    assert "its digest must come out as `sha256:3f9ac13f9ac1…`" in text


def test_a_stress_test_that_raised_says_so_in_its_summary():
    text = written(make_input())
    assert "<summary>🧪 5 stress tests, 1 raised an error</summary>" in text
    assert "found unknown categories" in text


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("outcome", list(GateOutcome))
def test_every_task_in_every_state_makes_a_report_of_headings_that_each_hold_something(task, outcome):
    tokens = parse_markdown(written(make_input(task, outcome)))
    kinds = [token.type for token in tokens if token.level == 0]
    assert ("heading_close", "heading_open") not in pairwise(kinds)
    assert headings(tokens)[1:3] == ["Metrics", "Checks"]
    assert headings(tokens)[-1] == "What changed"
