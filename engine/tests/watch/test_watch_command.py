"""`mergeline watch` as people and schedules call it."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from production_journal import END, START, Production, draw

UNTIL = ("--end", END.isoformat())

pytestmark = pytest.mark.slow


def test_a_window_is_judged_and_written_down(production):
    production.answer(START, END, 2000)
    done = production.call(*UNTIL)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.splitlines()[0]
        == "· watching orders version 3: 2026-03-01 00:00 to 2026-03-08 00:00 UTC in journal"
    )
    assert "steady. Nothing that the model uses has changed" in done.stdout
    assert (production.root / "build" / "watch" / "watch.html").exists()


@pytest.mark.parametrize(
    ("rows", "shift", "code"), [(2000, 0.0, 0), (20, 0.0, 4), (2000, 1.0, 5)], ids=["steady", "inconclusive", "drift"]
)
def test_strict_tells_the_verdict_by_its_code(production, rows, shift, code):
    production.answer(START, END, 0, frame=draw(production.rng, rows, shift))
    assert production.call(*UNTIL).returncode == 0
    assert production.call(*UNTIL, "--strict").returncode == code


def test_strict_tells_degradation_by_its_code(production):
    production.label(production.answer(START, END, 2000), production.rng.random(2000) < 0.5)
    assert production.call(*UNTIL, "--strict", "--json").returncode == 6


def test_a_tool_error_is_neither_drift_nor_steady(production):
    done = production.call(*UNTIL)
    assert done.returncode == 1
    assert "there is no journal" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--window", "soon"), ("--window", "0d"), ("--end", "tomorrow"), ("--end", "0001-01-01")]
)
def test_a_wrong_option_is_an_error(production, arguments):
    done = production.call(*arguments)
    assert done.returncode == 1
    assert "hint:" in done.stderr


def test_a_file_where_the_reports_folder_should_be_is_an_error(production):
    (production.root / "taken").write_text("")
    done = production.call(*UNTIL, "--output", "taken")
    assert done.returncode == 2  # an argument that cannot be, before anything is read
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["taken/below", "/proc/mergeline"])
def test_a_reports_folder_that_cannot_be_made_is_told_in_one_piece(production, place):
    production.answer(START, END, 70)
    (production.root / "taken").write_text("")
    done = production.call(*UNTIL, "--output", place)
    assert done.returncode == 1
    assert f"{place}: cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_missing_for_a_full_look_is_told_on_the_terminal(tmp_path):
    production = Production(tmp_path, evaluated=False)
    production.answer(START, END, 700)
    assert "dvc pull evaluation" in production.call(*UNTIL).stderr


def test_json_is_all_there_is_on_standard_output(production):
    production.answer(START, END, 2000)
    done = production.call(*UNTIL, "--json", "--output", "somewhere")
    assert json.loads(done.stdout)["outcome"] == "steady"
    assert (production.root / "somewhere" / "mergeline_watch.prom").exists()


def test_the_window_ends_now_unless_told_otherwise(production):
    now = datetime.now(UTC)
    production.answer(now - timedelta(days=2), now, 2000)
    done = production.call("--window", "24h", "--json")
    assert json.loads(done.stdout)["rows"] == pytest.approx(1000, abs=5)


def test_a_journal_elsewhere_is_watched(production, tmp_path):
    production.answer(START, END, 700)
    production.journal.rename(tmp_path / "else where")
    done = production.call(*UNTIL, "--journal", "else where", "--json")
    assert json.loads(done.stdout)["rows"] == 700


def test_two_looks_at_once_do_not_disturb_each_other(production):
    from concurrent.futures import ThreadPoolExecutor

    production.answer(START, END, 2000)
    production.call(*UNTIL)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(production.call, *UNTIL, "--json", apart=True) for _ in range(2)]
        found = [json.loads(result.result().stdout) for result in results]
    assert found[0]["findings"] == found[1]["findings"]
    json.loads((production.root / "build" / "watch" / "watch.json").read_text())


def test_the_same_window_gives_the_same_findings(production):
    production.label(production.answer(START, END, 3000))
    first, second = (production.look() for _ in range(2))
    assert first == second


def test_samples_of_both_sides_are_written_for_other_tools(production):
    production.answer(START - timedelta(days=7), END, 1500)
    done = production.call(*UNTIL, "--samples")
    assert done.returncode == 0, done.stderr
    assert "samples of the window and of the window before" in done.stderr
    current, reference = (
        pq.read_table(production.root / "build" / "watch" / f"{name}.parquet") for name in ("current", "reference")
    )
    assert current.schema == reference.schema
    assert set(current.column_names) == set(production.signature.names)
    assert (current.num_rows, reference.num_rows) == (750, 750)


def test_nothing_is_sampled_without_rows(production):
    production.journal.mkdir()
    done = production.call(*UNTIL, "--samples")
    assert done.returncode == 1
    assert "the window holds no rows" in done.stderr
