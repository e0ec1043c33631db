"""The files of a look at production: JSON, Markdown, HTML and metrics."""

import json
from datetime import timedelta

import pandas as pd
import pytest
from production_journal import END, SHADOW, START, Production, draw, score
from prometheus_client.parser import text_string_to_metric_families

from mergeline.model.bin_counts import CategoryCounts
from mergeline.model.profile import CategoryProfile
from mergeline.params import DriftParams, Task
from mergeline.watch.distributions import distributions
from mergeline.watch.drift import Compared, Part, find_drift
from mergeline.watch.report import write_watched
from mergeline.watch.results import Watched

WEEK = timedelta(days=7)
HOSTILE = '</td><script>alert(1)</script> | **x** `y` @everyone #1 "quoted"'


@pytest.fixture
def full(production):
    """A look at everything at once: labels, slices, drift, a shadow, back-tests."""
    production.label(production.answer(START - 2 * WEEK, START, 3000))
    frame = draw(production.rng, 3000, shift=0.4)
    frame.loc[:200, "region"] = HOSTILE
    shadow = (score(Task.BINARY, frame) * 0.9).clip(0, 1)
    production.label(production.answer(START, END, 0, frame=frame, shadow=shadow))
    return production.look()


def test_everything_is_written(full, tmp_path):
    written = write_watched(full, tmp_path / "out")
    assert all(path.stat().st_size > 1000 for path in written)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)


def test_the_json_is_read_back_as_it_was(full, tmp_path):
    written = write_watched(full, tmp_path)
    content = json.loads(written.verdict.read_text())
    assert content["format"] == 1
    assert Watched.model_validate(content) == full


def test_the_markdown_fits_into_a_comment_and_says_the_verdict_first(full, tmp_path):
    text = write_watched(full, tmp_path).markdown.read_text()
    assert len(text.encode()) < 60_000
    assert text.splitlines()[0].startswith("## 🌊 Drift: `orders` version 3")
    for part in ("Live quality", "Beside the stable model", "Estimated without labels", SHADOW[7:19], "amount"):
        assert part in text


def test_a_report_of_very_many_columns_still_fits(production, tmp_path):
    production.answer(START, END, 0, frame=draw(production.rng, 3000, shift=0.4))
    found = production.look()
    many = [
        each.model_copy(update={"column": f"{each.column} {place}"}) for place in range(60) for each in found.findings
    ]
    text = write_watched(found.model_copy(update={"findings": tuple(many)}), tmp_path).markdown.read_text()
    assert len(text.encode()) < 60_000


def test_the_page_holds_no_markup_of_the_data(full, tmp_path):
    page = write_watched(full, tmp_path).page.read_text()
    assert "<script" not in page
    assert "alert(1)" in page  # shown as text, in the table of slices
    assert "<svg" in page


def test_the_metrics_are_read_by_prometheus(full, tmp_path):
    text = write_watched(full, tmp_path).metrics.read_text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    verdict = {sample.labels["outcome"]: sample.value for sample in families["mergeline_watch_verdict"].samples}
    assert verdict == {"steady": 0, "drift": 1, "degraded": 0, "inconclusive": 0}
    effects = families["mergeline_watch_drift_effect"].samples
    amount = next(s for s in effects if s.labels["column"] == "amount" and s.labels["change"] == "values")
    assert amount.value > 0.1
    assert {sample.labels["column"] for sample in effects} >= {"it's odd", "score"}
    rows = {sample.labels["kind"]: sample.value for sample in families["mergeline_watch_rows"].samples}
    assert rows == {"window": 3000, "answered": 3000, "judged": 3000, "labelled": 3000}
    live = [s for s in families["mergeline_watch_live_metric"].samples if s.labels["metric"] == "roc_auc"]
    assert {sample.labels["bound"] for sample in live} == {"value", "low", "high"}
    assert families["mergeline_watch_window_end_timestamp_seconds"].samples[0].value == END.timestamp()
    assert all(sample.labels["model"] == "orders" for family in families.values() for sample in family.samples)


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.MULTICLASS])
def test_every_task_has_a_report(tmp_path, task):
    production = Production(tmp_path, task)
    production.label(production.answer(START - WEEK, END, 4000))
    text = write_watched(production.look(), tmp_path / "out").markdown.read_text()
    assert production.params.gate.metric in text.replace("\\", "")


def test_an_empty_window_has_a_report(production, tmp_path):
    production.journal.mkdir()
    written = write_watched(production.look(), tmp_path)
    assert "Inconclusive" in written.markdown.read_text()
    assert 'outcome="inconclusive"} 1.0' in written.metrics.read_text()


def test_a_column_without_a_value_has_a_report(production, tmp_path):
    production.answer(START, END, 0, frame=draw(production.rng, 1000).assign(amount=float("nan"), region=pd.NA))
    assert write_watched(production.look(), tmp_path).page.stat().st_size > 1000


def test_a_number_with_few_values_is_shown_value_by_value(production):
    frame = draw(production.rng, 4000).assign(gift=1.0)
    production.answer(START, END, 0, frame=frame)
    found = next(each for each in production.look().distributions if each.column == "gift")
    assert found.named == ("0", "1")
    assert found.now.y == (0, 1)
    assert found.before.y == pytest.approx((0.7, 0.3), abs=0.02)


def test_a_number_with_many_values_is_a_line_over_them(production):
    production.answer(START, END, 0, frame=draw(production.rng, 4000, shift=0.5))
    found = next(each for each in production.look().distributions if each.column == "amount")
    assert found.named == ()
    assert sum(found.before.y) == pytest.approx(1, abs=1e-4)
    assert sum(found.now.y) == pytest.approx(1, abs=1e-4)


def test_a_category_that_is_called_missing_keeps_its_own_shares():
    profile = CategoryProfile(name="kind", missing=0, rare=0, counts={"(missing)": 500, "(others)": 300, "z": 200})
    column = Compared(Part.INPUT, profile, CategoryCounts({"(missing)": 20, "(others)": 30, "z": 50}, 0, 0))
    (found,) = distributions([column], find_drift([column], {}, DriftParams(), "training"))
    shares = {name: (old, new) for name, old, new in zip(found.named, found.before.y, found.now.y, strict=True)}
    assert shares["(missing)"] == (0.5, 0.2)
    assert shares["((missing))"] == (0, 0)
