"""The rows of a scored file in the journal: as the server writes them, all of them or none, and once."""

import shutil
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from journal_samples import rows as journalled
from journal_samples import settings

from mergeline.errors import MergelineError
from mergeline.journal.compactor import keep
from mergeline.journal.folders import Keeping, sealed_files
from mergeline.journal.journal import Journal
from mergeline.journal.scored_file import record_file
from mergeline.manifest.schema import Release
from mergeline.model import bulk_files
from mergeline.model.artifact import load_model
from mergeline.model.bulk import score_file
from mergeline.requests.answers import AnswerMaker
from mergeline.requests.records import RecordReader
from mergeline.traffic.rows import _values
from toy_data import orders, train_toy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZE = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    made = train_toy(root, model={"factory": "toy.model:boosted", "arguments": {"max_iter": 3}})
    return load_model(shutil.copytree(made, root / "kept"), defer=True)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.parquet"
    orders("2024-05", SIZE).drop(columns="returned").to_parquet(path, index=False)
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(bulk_files, "BATCH_ROWS", 64)


@pytest.fixture
def same_key(monkeypatch):
    monkeypatch.setenv("MERGELINE_JOURNAL_KEY", "one key for both journals")


def release(model):
    return Release.model_validate(
        {
            "version": 7, "digest": model.digest, "source": f"files/md5/ab/{'0' * 30}.dir",
            "lineage": {"code": "0" * 40, "data": f"md5:{'0' * 32}.dir", "params": "sha256:" + "0" * 64,
                        "environment": "sha256:" + "0" * 64},
            "evidence": {"metrics": {}, "gate": "sha256:" + "0" * 64},
        }
    )  # fmt: skip


def score(model, source, *, now=NOW, progress=lambda _: None, **values):
    """Score `source` into the journal next to it; whether its rows were there already."""
    folder = source.parent / "journal"
    with record_file(folder, settings(**values), model.signature, release(model), source, now=now) as recorder:
        score_file(model, source, source.with_name("scores.parquet"), progress, recorder)
    return recorder.known


def served(model, frame, folder, **values):
    """The rows as the server journals them."""
    signature = model.signature
    names = [*signature.names, signature.id, signature.time, *signature.metadata]
    columns = [_values(frame[name]) for name in names if name in frame]
    records = [
        dict(zip([name for name in names if name in frame], row, strict=True)) for row in zip(*columns, strict=True)
    ]
    batch = RecordReader(signature).read(records, len(records))
    answers = AnswerMaker(signature.output, version=7, digest=model.digest).make(batch.ids, model.predict(frame))
    journal = Journal(folder, settings(**values))
    recorder = journal.recorder(signature)
    recorder.append(batch, answers, ("stable",) * len(records), int(NOW.timestamp()) * 10**9)
    journal.close()
    keep(Keeping.of(folder, settings(**values)), NOW)
    return journalled(folder)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"drop": ("amount", "placed")},
        {"hash": ("order", "channel", "items", "gift", "amount")},
        {"hash": ("placed",)},
    ],
    ids=["whole", "dropped", "hashed", "time hashed"],
)
@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.usefixtures("same_key")
def test_a_file_s_rows_are_those_that_the_server_would_write(model, source, tmp_path, values, kind):
    frame = pd.read_parquet(source)
    if kind == "csv":
        source = source.with_suffix(".csv")
        text = frame.assign(placed=[time.isoformat() for time in frame["placed"]])
        text.to_csv(source, index=False)
    assert not score(model, source, **values)
    found = journalled(tmp_path / "journal")
    expected = served(model, frame, tmp_path / "other", **values)
    assert len(found) == SIZE
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.pop("_score") == pytest.approx(theirs.pop("_score"), abs=1e-12)
        assert mine == theirs
    (mine,), (theirs,) = (sealed_files(tmp_path / name) for name in ("journal", "other"))
    assert mine.path.parent.relative_to(tmp_path / "journal") == theirs.path.parent.relative_to(tmp_path / "other")
    assert pq.read_schema(mine.path) == pq.read_schema(theirs.path)


class TestOnce:
    def test_the_same_rows_are_not_written_again(self, model, source, tmp_path):
        assert not score(model, source)
        assert score(model, source, now=datetime(2026, 3, 4, tzinfo=UTC))
        assert len(journalled(tmp_path / "journal")) == SIZE

    def test_nor_where_they_were_merged_with_others(self, model, source, tmp_path):
        score(model, source)
        other = tmp_path / "other.parquet"
        orders("2024-06", SIZE).to_parquet(other, index=False)
        score(model, other)
        keep(Keeping.of(tmp_path / "journal", settings()), datetime(2026, 3, 3, tzinfo=UTC))
        assert [file.level for file in sealed_files(tmp_path / "journal")] == [1]
        assert score(model, source)
        assert len(journalled(tmp_path / "journal")) == 2 * SIZE

    def test_an_interruption_writes_nothing_and_the_next_run_all(self, model, source, tmp_path):
        def stop(rows):
            if rows > SIZE / 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            score(model, source, progress=stop)
        assert journalled(tmp_path / "journal") == []
        assert not (tmp_path / "scores.parquet").exists()
        assert not score(model, source)
        assert len({row["_id"] for row in journalled(tmp_path / "journal")}) == SIZE

    def test_what_a_killed_run_left_is_deleted(self, model, source, tmp_path):
        left = tmp_path / "journal" / "scoring" / ".scored-0123-0.parquet.draft"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
        score(model, source)
        assert not left.parent.exists()

    def test_two_at_once_are_told(self, model, source, tmp_path):
        with (
            record_file(tmp_path / "journal", settings(), model.signature, release(model), source, now=NOW),
            pytest.raises(MergelineError, match="another `mergeline score`"),
        ):
            score(model, source)


class TestIds:
    def test_rows_without_an_id_get_one_that_the_answers_have_too(self, model, source, tmp_path):
        pd.read_parquet(source).drop(columns="order").to_parquet(source, index=False)
        score(model, source)
        answers = pd.read_parquet(tmp_path / "scores.parquet")
        assert answers["row"].tolist() == list(range(1, SIZE + 1))
        assert [row["_id"] for row in journalled(tmp_path / "journal")] == answers["id"].tolist()
        score(model, source)
        assert pd.read_parquet(tmp_path / "scores.parquet")["id"].tolist() == answers["id"].tolist()

    def test_a_missing_one_is_made_and_5_0_is_5(self, model, source, tmp_path):
        frame = pd.read_parquet(source)
        frame.assign(order=[np.nan, *range(1, SIZE)]).to_parquet(source, index=False)
        score(model, source)
        first, second, *_ = (row["_id"] for row in journalled(tmp_path / "journal"))
        assert first.endswith("-1")
        assert second == "1"


def test_rows_that_break_the_schema_are_not_in_it(model, source, tmp_path):
    frame = pd.read_parquet(source)
    frame.loc[3, "region"] = "west"
    frame.to_parquet(source, index=False)
    score(model, source)
    assert len(journalled(tmp_path / "journal")) == SIZE - 1
    assert frame.loc[3, "order"] not in {row["_id"] for row in journalled(tmp_path / "journal")}


def set_aside(source):
    found = pd.read_parquet(source.with_name("scores.refused.parquet"))
    return dict(zip(found["row"].tolist(), found["reason"], strict=True))


def test_rows_of_times_that_no_window_can_hold_are_set_aside_as_the_server_refuses_them(model, source, tmp_path):
    source = source.with_suffix(".csv")
    frame = orders("2024-05", 4).drop(columns="returned")
    frame.assign(placed=["0001-01-01", "soon", "", "2024-05-01T02:00:00+02:00"]).to_csv(source, index=False)
    score(model, source)
    found = [row["_event_time"] for row in journalled(tmp_path / "journal")]
    assert found == [None, datetime(2024, 5, 1, tzinfo=UTC)]
    assert {row: reason.partition(", ")[0] for row, reason in set_aside(source).items()} == {
        1: "placed is '0001-01-01'",
        2: "placed is 'soon'",
    }


def test_of_rows_with_one_id_the_first_is_kept_however_far_the_others_are(model, source, tmp_path):
    frame = pd.read_parquet(source)
    first = frame["order"].tolist()
    repeats = {5: 4, 63: 4, 64: 63, 130: 0, 299: 200}
    for place, of in repeats.items():
        frame.loc[place, "order"] = first[of]
    frame.loc[[10, 11], "order"] = None
    frame.to_parquet(source, index=False)
    score(model, source)
    expected = {place + 1 for place in frame.index[frame["order"].duplicated() & frame["order"].notna()]}
    assert {5 + 1, 63 + 1, 130 + 1, 299 + 1} <= expected
    assert set(set_aside(source)) == expected
    assert all("as in a row before" in reason for reason in set_aside(source).values())
    ids = [row["_id"] for row in journalled(tmp_path / "journal")]
    assert len(ids) == len(set(ids)) == SIZE - len(expected)
