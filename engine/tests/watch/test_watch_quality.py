"""What is told of a window's data beside their distributions."""

from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from production_journal import CANARY, END, START, draw, finding, reason

from mergeline.watch.prometheus import render

WEEK = timedelta(days=7)


def test_a_fall_of_traffic_is_told(production):
    production.answer(START - WEEK, START, 4000)
    production.answer(START, END, 1000)
    found = production.look()
    assert found.quality.rows_before == 4000
    assert reason(found, "volume").status == "warn"
    assert "-75%" in reason(found, "volume").value


def test_even_traffic_is_not(production):
    production.answer(START - WEEK, END, 4000)
    assert reason(production.look(), "volume").status == "pass"


def test_a_journal_that_begins_within_the_window_before_says_nothing_of_volume(production):
    production.answer(START - timedelta(days=2), END, 4000)
    assert reason(production.look(), "volume").status == "skip"


def test_silence_is_told(production):
    production.answer(START, END - timedelta(days=3), 1000)
    found = reason(production.look(), "freshness")
    assert found.status == "warn"
    assert "3.0 days" in found.value


@pytest.mark.parametrize("statistics", [True, False], ids=["", "no statistics"])
def test_silence_is_told_though_rows_came_after_the_windows_end(production, statistics):
    day, hour, second = END - timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
    arrivals = [start + second * place for start in (day, day + 23 * hour) for place in range(200)]
    production.answer(day, END, 400, arrivals=arrivals)
    (file,) = production.journal.glob("predictions/*/*/*.parquet")
    pq.write_table(pq.read_table(file), file, write_statistics=statistics)
    found = production.look(window="1d", end=day + 22 * hour, watch={"max_silence": "1h"})
    assert (found.rows, found.quality.newest) == (200, day + 199 * second)
    assert reason(found, "freshness").status == "warn"
    assert f'newest_row_timestamp_seconds{{model="orders"}} {found.quality.newest.timestamp():.0f}' in render(found)


def test_repeated_ids_are_told(production):
    rows = production.answer(START, END, 2000)
    production.answer(START, END, 0, frame=draw(production.rng, 500), ids=rows["_id"].tolist()[:500])
    found = production.look()
    assert found.quality.repeated == pytest.approx(500 / 2500)
    assert reason(found, "duplicates").status == "warn"


def test_a_few_repeated_ids_are_not(production):
    rows = production.answer(START, END, 2000)
    production.answer(START, END, 0, frame=draw(production.rng, 10), ids=rows["_id"].tolist()[:10])
    assert reason(production.look(), "duplicates").status == "pass"


def test_values_beyond_training_are_told_with_their_reach(production):
    frame = draw(production.rng, 3000)
    frame.loc[:59, "amount"] = 12_345.5
    production.answer(START, END, 0, frame=frame)
    found = production.look().quality.beyond[0]
    assert (found.column, found.highest) == ("amount", 12_345.5)
    assert found.share == pytest.approx(60 / 3000 + found.before, abs=0.005)  # three standard deviations of 3,000 rows
    assert found.maximum < 100


def test_values_like_those_of_training_are_not(production):
    production.answer(START, END, 3000)
    assert production.look().quality.beyond == ()


def test_an_empty_window_passes_nothing_that_rows_would_have_to_show(production):
    production.answer(START - 2 * WEEK, START - WEEK, 700)
    found = production.look()
    names = {check.name for check in found.reasons}
    assert names & {"schema", "duplicates", "range"} == set()
    assert "2026-02-21" in reason(found, "freshness").meaning  # when the newest row of all came


def test_silence_in_a_journal_without_rows_asks_for_the_server(production):
    production.journal.mkdir()
    found = production.look()
    assert "is the server up" in reason(found, "freshness").meaning
    assert reason(found, "files").status == "skip"


@pytest.mark.parametrize(("digest", "status"), [(None, "pass"), (CANARY, "warn")], ids=["stable", "another"])
def test_a_server_that_answers_with_another_model_is_told(production, digest, status):
    production.answer(START, END, 1000, digest=digest)
    assert reason(production.look(), "answers").status == status


def test_what_is_far_out_is_told_without_changing_a_columns_name(production):
    frame = draw(production.rng, 3000)
    frame.loc[:99, "amount"] = 12_345.5
    production.answer(START, END, 0, frame=frame)
    assert ": amount (" in reason(production.look(), "range").meaning


def test_a_whole_numbers_median_is_whole(production):
    frame = draw(production.rng, 3000).assign(age=33.0)
    production.answer(START, END, 0, frame=frame)
    assert finding(production.look(), "age").after == pytest.approx(33, abs=0.2)
