"""The sentences of a verdict, and verdicts from before they were composed in the report."""

from __future__ import annotations

import json
from string import Formatter
from typing import get_args

import pytest
from report_samples import make_input

from mergeline.evaluate.results import CheckCase, GateOutcome, GateVerdict, Power
from mergeline.files import canonical_json
from mergeline.report.compose import compose
from mergeline.report.markdown import render
from mergeline.report.words import SENTENCES, headline, meaning


@pytest.mark.parametrize("case", get_args(CheckCase))
def test_every_case_has_a_sentence(case):
    assert SENTENCES[case]
    assert list(Formatter().parse(SENTENCES[case]))


def test_a_verdict_holds_no_sentence():
    stored = json.dumps(make_input(outcome=GateOutcome.WORSE).verdict.model_dump(mode="json"))
    assert "headline" not in stored
    assert "the challenger is worse" not in stored


def test_a_verdict_keeps_its_digest_when_whole_numbers_lose_their_point_on_the_way():
    verdict = make_input(outcome=GateOutcome.WORSE).verdict
    stored = json.loads(json.dumps(verdict.model_dump(mode="json")))
    for check in stored["checks"]:
        numbers = check.get("numbers", {})
        check["numbers"] = {key: int(value) if value == int(value) else value for key, value in numbers.items()}
    again = GateVerdict.model_validate(stored)
    assert canonical_json(again.model_dump(mode="json")) == canonical_json(verdict.model_dump(mode="json"))


def test_an_earlier_verdict_is_read_with_its_sentences_and_keeps_its_digest():
    verdict = make_input().verdict
    earlier = verdict.model_dump(mode="json") | {"headline": "Better: so it is."}
    earlier["comparison"]["reason"] = "so it is"
    earlier["checks"] = [
        {"name": check.name, "status": check.status, "value": check.value, "bound": check.bound, "meaning": "So it is."}
        for check in verdict.checks
    ]
    read = GateVerdict.model_validate(earlier)
    assert headline(read) == "Better: so it is."
    assert {meaning(check) for check in read.checks} == {"So it is."}
    assert canonical_json(read.model_dump(mode="json")) == canonical_json(earlier)


@pytest.mark.parametrize("outcome", list(GateOutcome))
def test_a_report_says_the_comparison_and_each_failure_once(outcome):
    text = render(compose(make_input(outcome=outcome)))
    assert text.count("so the challenger is") + text.count("so these rows cannot tell") <= 1
    assert text.count("Production serves no model yet") <= 1
    assert text.count("Worse where carrier is EV") == (outcome is GateOutcome.WORSE)


def test_the_champion_that_knows_the_holdout_is_named():
    check = make_input(outcome=GateOutcome.WORSE).verdict.checks[0]
    seen = check.model_copy(update={"names": check.names | {"seen": "2013-06"}})
    assert meaning(seen).endswith("is worse (the champion was trained on 2013-06, which flatters it).")


def test_an_inconclusive_verdict_says_how_many_rows_could_tell():
    check = make_input(outcome=GateOutcome.INCONCLUSIVE).verdict.checks[0]
    told = check.model_copy(update={"numbers": check.numbers | {"rows": 1200, "rows_needed": 45_000}})
    assert meaning(told).endswith("so these rows cannot tell. About 45,000 rows could; there are 1,200.")


def test_the_report_says_what_the_holdout_can_show():
    subject = make_input()
    power = Power(difference=0.005, rows=28_243, power=0.97, target=0.8, rows_needed=12_400)
    comparison = subject.verdict.comparison.model_copy(update={"power": power})
    verdict = subject.verdict.model_copy(update={"comparison": comparison})
    text = render(compose(subject.model_copy(update={"verdict": verdict})))
    assert "A difference of 0.005 shows with 80% probability from about 12,400 holdout rows on" in text
    assert "these 28,243 rows show it with 97%" in text
