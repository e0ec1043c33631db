from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from journal_samples import DAY, DIGESTS, NOON, SIGNATURE, answers, append, batch, ids, rows, settings, written
from serve_samples import make_signature

from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.journal.parquet_export import seal_all
from mergeline.journal.wal_format import HEADER_BYTES, Found, Layout, label_name, read_segment
from mergeline.journal.wal_writer import DECLARE_BYTES, JournalError, Writer
from mergeline.params import Task
from mergeline.requests.answers import Answer, class_name


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


def test_a_prediction_is_kept_with_everything_that_the_contract_names(folder):
    journal = Journal(folder, settings())
    append(journal.recorder(SIGNATURE), ["UA1"])
    journal.close()
    seal_all(folder)
    assert rows(folder) == [
        {
            "_id": "UA1",
            "_time": datetime(2026, 1, 1, 12, tzinfo=UTC),
            "_event_time": datetime(2013, 7, 1, 5, tzinfo=UTC),
            "_digest": DIGESTS["stable"],
            "_version": 3,
            "_role": "stable",
            "_score": 0.25,
            "_label": "false",
            "_scores": None,
            "_shadow_digest": None,
            "_shadow_score": None,
            "_shadow_label": None,
            "_trace_id": None,
            "temp": 12.5,
            "hour": 8.0,
            "holiday": False,
            "origin": "JFK",
            "carrier": "UA",
            "tailnum": "N14228",
        }
    ]


def test_a_whole_number_that_a_float_must_round_is_rounded_and_its_segment_is_sealed(folder):
    journal = Journal(folder, settings())
    large = batch(["a", "b"], [(12.5, 2**53 + 1, False, "JFK", "UA"), (12.5, 2**63 - 1, None, "JFK", "UA")])
    journal.recorder(SIGNATURE).append(large, answers(["a", "b"]), ("stable", "stable"), NOON)
    journal.close()
    assert seal_all(folder).damaged == 0
    assert [row["hour"] for row in rows(folder)] == [2.0**53, 2.0**63]


def test_files_are_divided_by_day_in_utc_and_by_model(folder):
    journal = Journal(folder, settings())
    recorder = journal.recorder(SIGNATURE)
    append(recorder, ["a"])
    append(recorder, ["b"], time_ns=NOON + DAY, role="candidate")
    journal.close()
    seal_all(folder)
    places = sorted(str(path.parent.relative_to(folder / "predictions")) for path in folder.rglob("*.parquet"))
    assert places == ["day=2026-01-01/digest=aaaaaaaaaaaa", "day=2026-01-02/digest=bbbbbbbbbbbb"]


def test_records_of_one_request_may_be_answered_by_different_models(folder):
    journal = Journal(folder, settings())
    both = [*answers(["a"]), *answers(["b"], "candidate")]
    journal.recorder(SIGNATURE).append(batch(["a", "b"]), both, ("stable", "candidate"), NOON)
    journal.close()
    seal_all(folder)
    assert {row["_id"]: row["_role"] for row in rows(folder)} == {"a": "stable", "b": "candidate"}


def test_what_is_missing_is_null(folder):
    journal = Journal(folder, settings())
    missing = batch(["a"], [(float("nan"), 8, float("nan"), "JFK", None)], [(None, None)])
    journal.recorder(SIGNATURE).append(missing, answers(["a"]), ("stable",), NOON)
    journal.close()
    seal_all(folder)
    (row,) = rows(folder)
    assert [row[name] for name in ("temp", "holiday", "carrier", "tailnum", "_event_time")] == [None] * 5


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2013-07-01T05:00:00", datetime(2013, 7, 1, 5, tzinfo=UTC)),
        ("2013-07-01 05:00:00.5+02:00", datetime(2013, 7, 1, 3, 0, 0, 500_000, tzinfo=UTC)),
        ("2013-07-01T05:00:00Z", datetime(2013, 7, 1, 5, tzinfo=UTC)),
        ("yesterday", None),
        (1_372_654_800, None),
    ],
)
def test_the_records_own_time_is_kept_where_it_is_one(folder, sent, kept):
    journal = Journal(folder, settings())
    journal.recorder(SIGNATURE).append(batch(["a"], unread=[(sent, "N1")]), answers(["a"]), ("stable",), NOON)
    journal.close()
    seal_all(folder)
    assert rows(folder)[0]["_event_time"] == kept


def test_scores_of_a_multiclass_task_are_in_the_order_of_the_classes(folder):
    signature = make_signature(Task.MULTICLASS)
    journal = Journal(folder, settings())
    answer = Answer("a", 0.7, "c", 3, DIGESTS["stable"], {"a": 0.1, "b": 0.2, "c": 0.7})
    journal.recorder(signature).append(batch(["a"]), [answer], ("stable",), NOON)
    journal.close()
    seal_all(folder)
    assert (rows(folder)[0]["_label"], rows(folder)[0]["_scores"]) == ("c", [0.1, 0.2, 0.7])


def test_a_regression_has_no_label(folder):
    journal = Journal(folder, settings())
    answer = Answer(7, -3.5, None, 3, DIGESTS["stable"])
    journal.recorder(make_signature(Task.REGRESSION)).append(batch([7]), [answer], ("stable",), NOON)
    journal.close()
    seal_all(folder)
    assert [(row["_id"], row["_score"], row["_label"]) for row in rows(folder)] == [("7", -3.5, None)]


@pytest.mark.parametrize("label", [True, False, 1, "True", 2.5])
def test_a_label_has_the_name_that_the_answers_give_it(label):
    assert label_name(label) == class_name(label)


def test_models_with_other_columns_share_a_segment(folder):
    journal = Journal(folder, settings())
    smaller = make_signature(columns=SIGNATURE.columns[:2])
    append(journal.recorder(SIGNATURE), ["a"])
    few = batch(["b"], [(1.5, 3)])
    journal.recorder(smaller).append(few, answers(["b"], "candidate"), ("candidate",), NOON)
    journal.close()
    seal_all(folder)
    first, second = sorted(rows(folder), key=lambda row: row["_id"])
    assert "carrier" in first
    assert "carrier" not in second
    assert second["temp"] == 1.5


def test_a_column_that_looks_like_the_journals_own_is_told_apart(folder):
    column = SIGNATURE.columns[0].model_copy(update={"name": "_score"})
    journal = Journal(folder, settings())
    few = batch(["a"], [(1.5,)])
    journal.recorder(make_signature(columns=(column,))).append(few, answers(["a"]), ("stable",), NOON)
    journal.close()
    seal_all(folder)
    assert (rows(folder)[0]["_score"], rows(folder)[0]["column_score"]) == (0.25, 1.5)


class TestShadow:
    def test_its_answers_stand_beside_those_that_were_given(self, folder):
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)
        first = append(recorder, ["a", "b"])
        second = append(recorder, ["a"])  # the same id again: the answers must not be mixed up
        journal.shadow(second, answers(["a"], "candidate", 0.9, True))
        journal.shadow(first, answers(["a", "b"], "candidate", 0.6, True))
        journal.close()
        seal_all(folder)
        found = [
            (row["_id"], row["_shadow_digest"], row["_shadow_score"], row["_shadow_label"]) for row in rows(folder)
        ]
        digest = DIGESTS["candidate"]
        assert found == [("a", digest, 0.6, "true"), ("b", digest, 0.6, "true"), ("a", digest, 0.9, "true")]

    def test_an_answer_that_comes_after_its_segment_was_closed_is_counted_as_lost(self, folder):
        journal = Journal(folder, settings())
        ticket = append(journal.recorder(SIGNATURE), ["a"])
        journal.close()
        journal.shadow(ticket, answers(["a"], "candidate"))
        assert journal.counts.lost_shadows == 1

    def test_a_closed_segment_waits_for_the_shadow(self, folder):
        journal = Journal(folder, settings(seal_seconds=1e-9))
        ticket = append(journal.recorder(SIGNATURE), ["a"])
        journal.tend()  # the segment is old, and another one takes its place
        assert len(list((folder / "live").glob("*.log"))) == 2
        journal.shadow(ticket, answers(["a"], "candidate", 0.9))
        journal.close()
        seal_all(folder)
        assert [row["_shadow_score"] for row in rows(folder)] == [0.9]


class TestFeedback:
    def test_labels_are_kept_and_what_is_known_of_the_id_is_said(self, folder):
        journal = Journal(folder, settings())
        append(journal.recorder(SIGNATURE), ["a", 5])
        labels = [Feedback("a", "true", None), Feedback("never", "false", None), Feedback("5", "true", None)]
        assert journal.feedback(labels, NOON) == ["recorded", "unknown", "recorded"]
        assert journal.feedback([Feedback("a", "false", None)], NOON + DAY) == ["repeated"]
        journal.close()
        seal_all(folder)
        found = [(row["_id"], row["_label"], row["_value"], row["_time"].day) for row in rows(folder, "feedback")]
        assert found == [
            ("a", "true", None, 1),
            ("never", "false", None, 1),
            ("5", "true", None, 1),
            ("a", "false", None, 2),
        ]
        assert (journal.counts.feedback, journal.counts.feedback_unknown, journal.counts.feedback_repeated) == (4, 1, 1)

    def test_values_of_a_regression_are_numbers(self, folder):
        journal = Journal(folder, settings())
        journal.feedback([Feedback("a", None, 2.5)], NOON)
        journal.close()
        seal_all(folder)
        assert [(row["_label"], row["_value"]) for row in rows(folder, "feedback")] == [(None, 2.5)]

    def test_workers_that_share_a_folder_know_each_others_ids(self, folder, tmp_path):
        first, second = (Journal(folder, settings(), shared=tmp_path) for _ in range(2))
        append(first.recorder(SIGNATURE), ["a"])
        assert second.feedback([Feedback("a", "true", None)], NOON) == ["recorded"]
        assert first.feedback([Feedback("a", "true", None)], NOON) == ["repeated"]
        first.close()
        second.close()


class TestRedaction:
    def sealed_row(self, folder, **redaction):
        journal = Journal(folder, settings(**redaction))
        append(journal.recorder(SIGNATURE), ["UA1"])
        journal.close()
        raw = b"".join(path.read_bytes() for path in (folder / "live").iterdir())
        seal_all(folder)
        (row,) = rows(folder)
        return row, raw

    def test_a_dropped_column_is_written_nowhere(self, folder):
        row, raw = self.sealed_row(folder, drop=["carrier", "tailnum", "scheduled_at"])
        assert "carrier" not in row
        assert "tailnum" not in row
        assert row["_event_time"] is None
        assert b"N14228" not in raw
        assert b"2013-07-01" not in raw

    def test_a_hashed_column_keeps_equal_values_equal_and_hides_them(self, folder, tmp_path):
        row, raw = self.sealed_row(folder, hash=["tailnum", "hour", "origin"])
        again, _ = self.sealed_row(tmp_path / "elsewhere", hash=["tailnum"])
        assert b"N14228" not in raw
        assert len(row["tailnum"]) == len(row["hour"]) == 32
        assert row["tailnum"] != again["tailnum"]  # another deployment, another key

    def test_the_key_survives_a_restart_and_is_private(self, folder):
        for _ in range(2):
            journal = Journal(folder, settings(hash=["tailnum"]))
            append(journal.recorder(SIGNATURE), ["a"])
            journal.close()
        seal_all(folder)
        assert len({row["tailnum"] for row in rows(folder)}) == 1
        assert stat.S_IMODE((folder / "hash.key").stat().st_mode) == 0o600

    def test_the_key_may_come_from_the_environment(self, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("MERGELINE_JOURNAL_KEY", "a secret of this deployment")
        row, _ = self.sealed_row(folder, hash=["tailnum"])
        again, _ = self.sealed_row(tmp_path / "elsewhere", hash=["tailnum"])
        assert row["tailnum"] == again["tailnum"]
        assert not (folder / "hash.key").exists()

    def test_hashed_ids_still_join_labels_with_predictions(self, folder):
        journal = Journal(folder, settings(hash=["flight_id"]))
        append(journal.recorder(SIGNATURE), [5])
        assert journal.feedback([Feedback("5", "true", None)], NOON) == ["recorded"]
        journal.close()
        seal_all(folder)
        assert ids(folder) == ids(folder, "feedback") != ["5"]

    def test_a_missing_value_stays_missing(self, folder):
        journal = Journal(folder, settings(hash=["temp", "carrier"]))
        missing = batch(["a"], [(float("nan"), 8, True, "JFK", None)])
        journal.recorder(SIGNATURE).append(missing, answers(["a"]), ("stable",), NOON)
        journal.close()
        seal_all(folder)
        assert (rows(folder)[0]["temp"], rows(folder)[0]["carrier"]) == (None, None)

    def test_a_name_that_is_no_column_is_told_with_the_nearest_one(self, folder):
        journal = Journal(folder, settings(hash=["tailnumm"], drop=["flight_id"]))
        journal.recorder(SIGNATURE)
        warnings = journal.status()["warnings"]
        assert any("'tailnumm'; did you mean 'tailnum'?" in text for text in warnings)
        assert any("hash it instead" in text for text in warnings)


class TestDisk:
    def test_a_full_disk_stops_the_journal_and_not_the_answers_and_heals(self, full_disk, monkeypatch):
        folder, fill, make_room = full_disk.folder / "journal", full_disk.fill, full_disk.make_room
        monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.05)
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)
        append(recorder, ["before"])
        fill()
        lost = 0
        while append(recorder, [f"lost-{lost}"]) is not None:  # the page that is begun still takes some
            lost += 1
        assert not journal.is_writing
        assert journal.status()["error"]["what"] == "No space left on device"
        assert journal.counts.lost_predictions == 1
        make_room()
        threading.Event().wait(0.1)
        journal.tend()
        assert journal.is_writing
        append(recorder, ["after"])
        journal.close()
        seal_all(folder)
        assert ids(folder) == sorted(["before", "after", *(f"lost-{number}" for number in range(lost))])

    def test_a_full_disk_stops_the_answers_where_the_params_say_so(self, full_disk):
        journal = Journal(full_disk.folder / "journal", settings(when_full="stop_answering"))
        recorder = journal.recorder(SIGNATURE)
        full_disk.fill()
        many = [f"id-{number}" for number in range(200)]  # more than what is left of a page
        with pytest.raises(JournalError, match=r"No space left(.|\n)*make room"):
            append(recorder, many)
        journal.close()

    def test_labels_are_refused_rather_than_lost(self, tmp_path):
        (tmp_path / "journal").write_text("a file where the folder should be")
        journal = Journal(tmp_path / "journal", settings())
        with pytest.raises(JournalError):
            journal.feedback([Feedback("a", "true", None)], NOON)
        journal.close()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder_is_no_error_and_heals(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.0)
        tmp_path.chmod(0o555)
        journal = Journal(tmp_path / "journal", settings())
        recorder = journal.recorder(SIGNATURE)
        assert append(recorder, ["lost"]) is None
        tmp_path.chmod(0o755)
        assert append(recorder, ["a"]) is not None
        journal.close()

    def test_a_journal_that_cannot_be_made_is_no_error_and_heals(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.0)
        obstacle = tmp_path / "journal"
        obstacle.write_text("a file where the folder should be")
        journal = Journal(obstacle, settings(hash=["tailnum"]))
        recorder = journal.recorder(SIGNATURE)
        assert append(recorder, ["lost"]) is None
        assert not journal.is_writing
        obstacle.unlink()
        assert append(recorder, ["a"]) is not None
        assert journal.is_writing
        journal.close()
        seal_all(obstacle)
        assert ids(obstacle) == ["a"]

    def test_a_folder_that_was_deleted_is_made_again(self, folder):
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)
        append(recorder, ["gone"])
        for path in (folder / "live").iterdir():
            path.unlink()
        journal.tend()
        append(recorder, ["a"])
        journal.close()
        seal_all(folder)
        assert ids(folder) == ["a"]


class TestWorkers:
    def test_a_segment_that_a_server_holds_is_left_alone(self, folder):
        journal = Journal(folder, settings())
        append(journal.recorder(SIGNATURE), ["a"])
        assert seal_all(folder).segments == 0
        journal.close()
        assert seal_all(folder).segments == 1
        assert ids(folder) == ["a"]

    def test_a_segment_that_its_server_has_just_deleted_stops_no_other(self, folder):
        written(folder, ["a"])
        (folder / "live" / "0-gone.log").symlink_to("nowhere")  # it is listed, and cannot be opened
        assert seal_all(folder).segments == 1
        assert ids(folder) == ["a"]

    def test_the_segment_of_a_killed_worker_is_sealed_by_another(self, folder):
        script = (
            "import os, sys; sys.path[:0] = sys.argv[2:]\n"
            "from pathlib import Path\n"
            "from journal_samples import *\n"
            "journal = Journal(Path(sys.argv[1]), settings())\n"
            "append(journal.recorder(SIGNATURE), ['a'])\n"
            "os.kill(os.getpid(), 9)\n"
        )
        killed = subprocess.run([sys.executable, "-c", script, folder, *sys.path], check=False)
        assert killed.returncode == -9
        journal = Journal(folder, settings())
        append(journal.recorder(SIGNATURE), ["b"])
        seal_all(folder)
        assert ids(folder) == ["a"]
        journal.close()

    def test_two_workers_write_segments_of_their_own(self, folder):
        journals = [Journal(folder, settings()) for _ in range(2)]
        for number, journal in enumerate(journals):
            append(journal.recorder(SIGNATURE), [f"worker {number}"])
        for journal in journals:
            journal.close()
        assert seal_all(folder).segments == 2
        assert ids(folder) == ["worker 0", "worker 1"]

    def test_threads_may_append_at_once(self, folder):
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)

        def work(name):
            for number in range(200):
                append(recorder, [f"{name}-{number}"])

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        journal.close()
        seal_all(folder)
        assert ids(folder) == sorted(f"{name}-{number}" for name in "abcd" for number in range(200))

    def test_an_idle_server_leaves_no_segment_behind(self, folder):
        journal = Journal(folder, settings(seal_seconds=1e-9))
        append(journal.recorder(SIGNATURE), ["a"])
        journal.tend()
        journal.tend()  # the second segment is empty, and stays
        journal.close()
        assert len(list((folder / "live").glob("*"))) == 1


@pytest.mark.slow
def test_the_keeper_seals_in_the_background_and_says_what_it_did(folder):
    journal = Journal(folder, settings(seal_seconds=0.1))
    journal.start()
    append(journal.recorder(SIGNATURE), ["a", "b"])
    journal.close(seconds=30)
    assert ids(folder) == ["a", "b"]
    assert not list((folder / "live").iterdir())
    keeper = journal.status()["keeper"]
    assert (keeper["sealed_predictions"], keeper["files"], keeper["error"]) == (2, 1, None)
    assert json.dumps(journal.status())
    assert datetime.fromisoformat(keeper["last_pass"]) > datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.slow
def test_the_compactor_imports_nothing_heavy_but_arrow(folder):
    written(folder, ["a"])
    script = (
        "import sys\n"
        "from mergeline.journal import compactor\n"
        "compactor.main('seal', '{\"folder\": \"' + sys.argv[1] + '\"}')\n"
        "heavy = {'pandas', 'numpy', 'pydantic', 'bentoml', 'sklearn', 'duckdb', 'fsspec'}\n"
        "print(sorted(name for name in heavy if sys.modules.get(name)), 'pyarrow' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    assert found.stdout == "[] True\n"
    assert ids(folder) == ["a"]


@pytest.mark.parametrize("at", range(20))
def test_damage_to_a_segments_header_costs_no_row_and_is_told(folder, at):
    path = written(folder, ["a"], ["b"])
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(bytes(content))
    assert seal_all(folder).damaged == 1
    assert ids(folder) == ["a", "b"]
    assert (folder / "damaged" / path.name).exists()


def test_a_lost_declaration_costs_no_row_since_it_is_repeated(folder):
    path = written(folder, ["a"], ["b"])
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 20] ^= 0xFF
    path.write_bytes(bytes(content))
    assert seal_all(folder).damaged == 1
    assert ids(folder) == ["a", "b"]


def test_a_server_that_is_killed_has_repeated_its_declarations(folder):
    writer = Writer(folder / "live", seal_seconds=3600)
    layout = (0, Layout((("temp", "number"),), (), False, ()))
    for _ in range(3):
        writer.append(b"\x91\x01" + bytes(DECLARE_BYTES // 2), layout)
        writer.tend()
    (path,) = (folder / "live").glob("*.log")
    with path.open("rb") as stream:
        found = [each for each in read_segment(stream) if isinstance(each, Found)]
    assert sum(each.is_wanted_first for each in found) == 2
    writer.close()
