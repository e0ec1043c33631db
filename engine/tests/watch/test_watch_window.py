"""Stretches of time, and the journal's files that belong to them."""
# ruff: noqa: S608 - names and values are our own

import os
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from production_journal import END, START, draw, reason, score

from mergeline.errors import WatchError
from mergeline.journal.window import (
    Clock,
    JournalFile,
    Source,
    Window,
    find_journal,
    held,
    length,
    read_moment,
    read_window,
)
from mergeline.model.bin_counts import connect
from mergeline.params import Task
from mergeline.watch.results import Outcome
from mergeline.watch.window_counts import _partly

DAY = timedelta(days=1)


def rows_of(production, window, now=END):
    with connect() as connection:
        journal = find_journal(connection, str(production.journal), window.start, now, window.clock)
        relation = journal.source(window).relation()
        if relation is None:
            return 0
        return connection.execute(f"select count(*) from {relation}").fetchone()[0]


class TestWords:
    @pytest.mark.parametrize(("text", "hours"), [("90m", 1.5), ("24h", 24), ("7d", 168), ("4w", 672)])
    def test_lengths_are_read(self, text, hours):
        assert length(text) == timedelta(hours=hours)
        assert read_window(text, END, Clock.ARRIVAL).start == END - timedelta(hours=hours)

    @pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "7 d", "1.5h", "7D", "seven", "9999999d"])
    def test_other_words_are_refused(self, text):
        with pytest.raises(WatchError, match="not a length of time"):
            read_window(text, END, Clock.ARRIVAL)

    @pytest.mark.parametrize("text", ["999999w", "522w", "3654d"])
    def test_more_than_ten_years_are_refused(self, text):
        with pytest.raises(WatchError, match="longer than ten years"):
            read_window(text, END, Clock.ARRIVAL)

    def test_ten_years_are_watched(self, production):
        production.answer(START, END, 700)
        assert production.look(window="3650d").rows == 700

    @pytest.mark.parametrize("text", ["2026-03-08", "2026-03-08T00:00:00Z", "2026-03-08T01:00:00+01:00"])
    def test_moments_are_read_as_utc(self, text):
        assert read_moment(text) == END

    def test_another_moment_is_refused(self):
        with pytest.raises(WatchError, match="not a time"):
            read_moment("yesterday")

    @pytest.mark.parametrize("text", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"])
    def test_a_moment_beyond_the_calendar_is_refused(self, text):
        with pytest.raises(WatchError, match="not a time"):
            read_moment(text)

    @pytest.mark.parametrize(("end", "window"), [("0001-01-01", "1m"), ("0001-01-07", "2d"), ("0030-01-01", "3653d")])
    def test_windows_that_begin_before_the_calendar_are_refused(self, production, end, window):
        production.answer(START, END, 70)
        with pytest.raises(WatchError, match="before the year 1"):
            production.look(end=read_moment(end), window=window, now=END)

    @pytest.mark.parametrize("end", ["9999-12-31T23:59:59.999999", "0150-01-01"])
    def test_the_calendars_far_ends_are_watched(self, production, end):
        production.answer(START, END, 70)
        assert production.look(end=read_moment(end), window="3653d", now=END).rows == 0


class TestEdges:
    def test_the_start_belongs_to_the_window_and_the_end_to_the_next(self, production):
        moments = [START, START - timedelta(microseconds=1), END - timedelta(microseconds=1), END]
        production.answer(START, END, 4, arrivals=moments)
        window = Window(START, END, Clock.ARRIVAL)
        assert rows_of(production, window) == 2
        assert rows_of(production, window.before()) == 1

    def test_windows_of_any_length_part_the_rows(self, production):
        production.answer(START, END, 5000)
        cuts = [START + (END - START) * share for share in (0, 0.13, 0.5, 0.501, 0.99, 1)]
        parts = [rows_of(production, Window(a, b, Clock.ARRIVAL)) for a, b in pairwise(cuts)]
        assert sum(parts) == 5000
        assert parts[0] == pytest.approx(650, abs=1)

    def test_an_end_in_another_zone_is_the_same_moment(self, production):
        production.answer(START, END, 700)
        abroad = END.astimezone(timezone(timedelta(hours=-11)))
        assert rows_of(production, Window(abroad - 7 * DAY, abroad, Clock.ARRIVAL)) == 700

    def test_the_records_own_time_may_order_the_rows(self, production):
        events = [START - 300 * DAY + timedelta(hours=place) for place in range(100)]
        production.answer(START, END, 100, events=events)
        window = Window(START - 300 * DAY, START - 299 * DAY, Clock.EVENT)
        assert rows_of(production, window) == 24

    def test_rows_without_a_time_of_their_own_are_counted(self, production):
        production.answer(START, END, 500, events=[START] * 500)
        production.answer(START, END, 300)
        found = production.look(watch={"clock": "event"})
        assert (found.rows, found.quality.timeless) == (500, 300)
        assert "300 rows have no time" in reason(found, "clock").value

    def test_rows_of_days_to_come_are_told(self, production):
        production.answer(START, END, 1000)
        production.answer(END + 3 * DAY, END + 4 * DAY, 20)
        found = production.look()
        assert found.rows == 1000
        assert "20 rows are of a time to come" in reason(found, "clock").value

    def test_rows_whose_own_time_is_still_to_come_are_told(self, production):
        year = 365 * DAY
        events = [START + timedelta(minutes=3 * place) + (year if place % 2 else 0 * DAY) for place in range(3000)]
        production.answer(START, END, 3000, events=events)
        found = production.look(watch={"clock": "event"})
        assert (found.rows, found.quality.future) == (1500, 1500)
        assert reason(found, "clock").status == "warn"
        assert "1,500 rows are of a time to come" in reason(found, "clock").value

    @pytest.mark.parametrize("statistics", [True, False])
    def test_the_present_moment_parts_the_rows_to_come_from_those_that_came(self, production, statistics):
        moments = [END - 2 * DAY, END, END + timedelta(microseconds=1), END + DAY]
        production.answer(START, START + timedelta(hours=1), 4, events=moments)
        production.answer(START + DAY, START + 2 * DAY, 5, events=[END + DAY] * 5)  # by the footer
        production.answer(START + DAY, START + 2 * DAY, 7)  # without a time of their own
        for file in production.journal.glob("predictions/*/*/*.parquet"):
            pq.write_table(pq.read_table(file), file, write_statistics=statistics)
        with connect() as connection:
            journal = find_journal(connection, str(production.journal), START, END, Clock.EVENT)
        assert journal.future == 7

    def test_a_damaged_file_does_not_hide_the_rows_to_come_of_others(self, production):
        production.answer(START, END, 7000, events=[START + (END - START) * place / 6000 for place in range(7000)])
        file = max(production.journal.glob("predictions/*/*/*.parquet"))
        file.with_name("copy.parquet").write_bytes(file.read_bytes())
        content = bytearray(file.read_bytes())
        content[4:-12_000] = os.urandom(len(content) - 12_004)
        file.write_bytes(bytes(content))
        found = production.look(watch={"clock": "event"})
        assert found.quality.future == pytest.approx(1000, abs=1)


class TestFiles:
    def test_files_that_are_not_whole_yet_are_not_read(self, production):
        production.answer(START, END, 700)
        whole = next(production.journal.glob("predictions/*/*/*.parquet"))
        whole.with_name(".draft.parquet").write_bytes(b"PAR1 half of a")
        (production.journal / "live").mkdir()
        (production.journal / "live" / "0-1.log").write_bytes(b"\x00")
        found = production.look()
        assert (found.rows, found.quality.unreadable) == (700, ())

    @pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other"])
    def test_a_damaged_file_is_named_and_left_out(self, production, damage):
        production.answer(START, END, 3500)
        file = sorted(production.journal.glob("predictions/*/*/*.parquet"))[2]
        content = file.read_bytes()
        if damage == "other":
            pq.write_table(pa.table({"something": [1, 2]}), file)
        else:
            file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": os.urandom(5000)}[damage])
        found = production.look()
        assert found.quality.unreadable == (str(file.relative_to(production.journal)),)
        assert found.rows == 3000
        assert found.outcome is Outcome.STEADY
        assert file.name in reason(found, "files").meaning

    def test_a_file_that_is_damaged_in_its_middle_is_left_out_too(self, production):
        production.answer(START, END, 7000)
        file = sorted(production.journal.glob("predictions/*/*/*.parquet"))[3]
        content = bytearray(file.read_bytes())
        for place in range(200, len(content) - 12_000, 50):  # the end, with the footer, stays
            content[place : place + 20] = os.urandom(20)
        file.write_bytes(bytes(content))
        found = production.look()
        assert found.quality.unreadable == (str(file.relative_to(production.journal)),)
        assert found.rows == 6000

    def test_a_damaged_file_of_labels_is_left_out(self, production):
        rows = production.answer(START, END, 3000)
        production.label(rows)
        file = sorted(production.journal.glob("feedback/*/*.parquet"))[0]
        file.write_bytes(b"PAR1")
        found = production.look()
        assert found.quality.unreadable == (str(file.relative_to(production.journal)),)
        assert 2000 < found.live.labelled < 3000

    @pytest.mark.parametrize("remote", [False, True], ids=["folder", "address"])
    @pytest.mark.parametrize("depth", [0, 1], ids=["day", "model"])
    def test_a_part_that_may_not_be_read_is_told_and_no_empty_one(self, production, close, depth, remote):
        production.answer(START, END, 3500)
        folder = sorted(production.journal.glob("predictions/" + "*/" * (depth + 1)))[2]
        close(folder)
        place = f"file://{production.journal}" if remote else "journal"
        found = production.look(watch={"journal": place})
        assert found.quality.unreadable == (str(folder.relative_to(production.journal)),)
        assert (found.rows, reason(found, "files").status) == (3000, "warn")
        assert folder.name in reason(found, "files").meaning

    @pytest.mark.parametrize("part", ["", "predictions"])
    @pytest.mark.parametrize("remote", [False, True], ids=["folder", "address"])
    def test_a_journal_that_may_not_be_read_is_an_error(self, production, close, part, remote):
        production.answer(START, END, 700)
        close(production.journal / part)
        with pytest.raises(WatchError, match=r"Permission denied|no journal"):
            production.look(watch={"journal": f"file://{production.journal}" if remote else "journal"})

    @pytest.mark.parametrize("part", ["feedback", "feedback/day=2026-03-03"])
    def test_labels_that_may_not_be_read_are_told(self, production, close, part):
        production.label(production.answer(START, END, 3000))
        close(production.journal / part)
        found = production.look()
        assert found.quality.unreadable == (part,)
        assert found.rows == 3000
        assert found.live.labelled < 3000

    def test_an_earlier_day_that_may_not_be_read_is_not_asked_for(self, production, close):
        production.answer(START - 100 * DAY, START - 99 * DAY, 100)
        production.answer(START, END, 700)
        close(min(production.journal.glob("predictions/*")))
        assert production.look().quality.unreadable == ()

    def test_a_folder_with_the_name_of_a_file_is_none(self, production):
        production.label(production.answer(START, END, 700))
        for pattern in ("predictions/*/*/*", "feedback/*/*"):
            file = next(production.journal.glob(pattern))
            folder = file.with_name("x.parquet")
            folder.mkdir()
            (folder / "inner.parquet").write_bytes(file.read_bytes())
        found = production.look()
        assert (found.rows, found.quality.files, found.quality.unreadable) == (700, 7, ())
        assert found.quality.repeated == 0

    def test_a_pipe_with_the_name_of_a_file_is_not_waited_for(self, production):
        production.answer(START, END, 700)
        os.mkfifo(next(production.journal.glob("predictions/*/*/*.parquet")).with_name("pipe.parquet"))
        assert production.look().rows == 700

    @pytest.mark.parametrize("remote", [False, True], ids=["folder", "address"])
    def test_links_are_followed_and_those_to_nothing_told(self, production, tmp_path, remote):
        production.answer(START, END, 700)
        file, other = sorted(production.journal.glob("predictions/*/*/*.parquet"))[:2]
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        other.parent.rename(tmp_path / "folder")
        other.parent.symlink_to(tmp_path / "folder")
        lost = file.with_name("lost.parquet")
        lost.symlink_to(tmp_path / "nowhere")
        found = production.look(watch={"journal": f"file://{production.journal}" if remote else "journal"})
        assert (found.rows, found.quality.unreadable) == (700, (str(lost.relative_to(production.journal)),))

    def test_an_empty_file_is_no_damage(self, production):
        production.answer(START, END, 700)
        file = next(production.journal.glob("predictions/*/*/*.parquet"))
        pq.write_table(pq.read_schema(file).empty_table(), file.with_name("nothing.parquet"))
        found = production.look()
        assert (found.rows, found.quality.unreadable) == (700, ())

    def test_files_without_statistics_are_filtered_row_by_row(self, production):
        production.answer(START - 3 * DAY, END, 1000)
        for file in production.journal.glob("predictions/*/*/*.parquet"):
            pq.write_table(pq.read_table(file), file, write_statistics=False)
        assert production.look().rows == 700

    def test_a_journal_that_cannot_be_written_is_read(self, production):
        production.answer(START, END, 700)
        production.journal.chmod(0o555)
        try:
            assert production.look().rows == 700
        finally:
            production.journal.chmod(0o755)

    def test_a_reader_keeps_the_server_from_merging(self, production):
        import fcntl

        production.journal.mkdir()
        with held(str(production.journal)), (production.journal / "reading.lock").open("rb") as other:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)  # other readers are welcome


class TestChangedSchema:
    def test_a_column_that_appears_half_way_is_told_and_its_rows_are_missing(self, production):
        middle = START + (END - START) / 2
        production.answer(START, middle, 2000, without=("amount",))
        production.answer(middle, END, 2000)
        found = production.look()
        assert found.outcome is Outcome.DRIFT
        assert found.quality.partly == {"amount": pytest.approx(0.5, abs=0.01)}
        assert found.quality.absent == ()

    @pytest.mark.parametrize("name", ["element", "list", "schema", "duckdb_schema", "a, b"])
    def test_an_input_that_is_called_like_a_part_of_a_list_is_missed_too(self, tmp_path, name):
        # `_scores` of several classes is a list, and Parquet has names for its parts, and for the file's own root.
        scored = pa.array([[0.2, 0.8]] * 10, pa.list_(pa.float64()))
        nested = pa.array([{"element": 1, "deeper": {"list": 2}}] * 10)
        lacking = {"_scores": scored, "nested": nested, "x": [1.0] * 10}
        whole, lacks = str(tmp_path / "whole.parquet"), str(tmp_path / "lacks.parquet")
        pq.write_table(pa.table({**lacking, name: [1.0] * 10}), whole)
        pq.write_table(pa.table(lacking), lacks)
        files = tuple(JournalFile(path, 10, START, START) for path in (whole, lacks))
        with connect() as connection:
            found = _partly(connection, Source(Window(START, END, Clock.ARRIVAL), files), ["x", "_scores", name])
        assert found == {"_scores": 1.0, name: 0.5}  # a model's own `_scores` is stored as `column_scores`

    def test_a_number_that_comes_as_text_is_read_as_far_as_it_can_be(self, production):
        frame = draw(production.rng, 3500)
        production.answer(START, END, 0, frame=frame, retyped={"amount": pa.string()})
        found = production.look()
        assert found.quality.retyped == {"amount": "VARCHAR"}
        assert found.outcome is Outcome.DRIFT
        assert not [each for each in found.findings if each.column == "amount" and each.status == "drift"]

    def test_a_type_that_changes_half_way_is_told(self, production):
        middle = START + (END - START) / 2
        production.answer(START, middle, 2000, retyped={"amount": pa.string()})
        production.answer(middle, END, 2000)
        found = production.look()
        assert (found.rows, found.quality.retyped) == (4000, {"amount": "VARCHAR"})

    def test_a_category_that_comes_as_a_number_is_counted_as_text(self, production):
        middle = START + (END - START) / 2
        production.answer(START, middle, 1000)
        frame = draw(production.rng, 1000).assign(region=[7.0] * 1000)
        for column in production.signature.columns:
            assert column.name in frame
        production.answer(middle, END, 0, frame=frame.assign(region=frame["region"].astype("str")))
        assert production.look().outcome is Outcome.DRIFT

    def test_a_large_journal_is_read_in_parts_that_come_to_the_same(self, production, monkeypatch):
        third = (END - START) / 3
        production.answer(START, START + third, 700, without=("amount",))
        production.answer(START + third, START + 2 * third, 700, retyped={"amount": pa.string()})
        rows = production.answer(START + 2 * third, END, 700)
        production.label(rows)
        whole = production.look()
        monkeypatch.setattr("mergeline.journal.window.LARGE", 0)
        monkeypatch.setattr("mergeline.journal.window.ROWS_AT_ONCE", 1)
        assert production.look() == whole
        assert whole.quality.partly.keys() == whole.quality.retyped.keys() == {"amount"}

    def test_what_the_journal_drops_or_hashes_is_not_compared(self, production):
        frame = draw(production.rng, 3000)
        hashed = frame.assign(region="9f86d0" + frame["region"].str[:1], amount="81fea" + frame["gift"].astype("str"))
        hashed["amount"] = hashed["amount"].astype("str")
        scores = score(Task.BINARY, frame)
        production.answer(START, END, 0, frame=hashed.drop(columns="age"), scores=scores)
        redaction = {"drop": ["age"], "hash": ["region", "amount"]}
        found = production.look(serve={"journal": redaction})
        assert found.outcome is Outcome.STEADY, found.headline
        assert {each.column for each in found.findings} == {"gift", "it's odd", "score", "label"}
        assert (found.quality.absent, found.quality.retyped, found.quality.new) == ((), {}, ())
        assert "amount, age, region" in found.notices[0]

    def test_new_columns_are_told(self, production):
        production.answer(START, END, 0, frame=draw(production.rng, 1000).assign(**{"a new one": 1.0}))
        found = production.look()
        assert found.quality.new == ("a new one",)
        assert reason(found, "schema").status == "warn"


def test_a_journal_at_an_address_is_read(production):
    production.answer(START, END, 700)
    with connect() as connection:
        place = f"file://{production.journal}"
        journal = find_journal(connection, place, START, END, Clock.ARRIVAL)
        relation = journal.source(Window(START, END, Clock.ARRIVAL)).relation()
        assert connection.execute(f"select count(*) from {relation}").fetchone() == (700,)


def test_an_address_that_nothing_answers_at_is_an_error(production):
    with connect() as connection, pytest.raises(WatchError, match="does not answer"):
        find_journal(connection, "nosuch://bucket/journal", START, END, Clock.ARRIVAL)


def test_days_before_the_window_are_not_opened(production):
    production.answer(START - 400 * DAY, START - 390 * DAY, 1000)
    production.answer(START, END, 700)
    with connect() as connection:
        journal = find_journal(connection, str(production.journal), START, END, Clock.ARRIVAL)
    assert sum(file.rows for file in journal.files) == 700
    assert datetime.now(UTC) > journal.newest
