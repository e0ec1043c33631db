from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from journal_samples import DAY, DIGESTS, NOON, SIGNATURE, answers, append, batch, ids, rows, settings, written
from serve_samples import make_signature

from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.journal.parquet_export import seal_all
from mergeline.journal.wal_format import label_name
from mergeline.params import Task
from mergeline.requests.answers import Answer, class_name


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
