"""A challenger on fresh labelled rows of a real journal: proven, not proven, or too few labels."""

import dataclasses
import hashlib
import shutil
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from release_examples import stored_release

from mergeline.dataset.quarantine import ARRIVAL, FreshPart, KnownData
from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import Part, Split
from mergeline.errors import DataError, WatchError
from mergeline.evaluate.results import Comparison, Estimate, GateOutcome, PairedMetric, Status
from mergeline.manifest.schema import Manifest
from mergeline.model.train import train
from mergeline.params import Task
from mergeline.watch.challenge import Proof, challenge, missing_labels, prove, read_fresh, training_rows
from toy_data import orders, toy_params, write_months
from toy_journal import turned, write_journal

NOW = datetime(2024, 5, 1, tzinfo=UTC)
PARAMS = toy_params(validation={"min_rows": 50}, retrain={"min_labels": 300}, model={"arguments": {}})


@pytest.fixture(scope="session")
def champion(tmp_path_factory):
    """January to March are data; a champion was trained on the first two of them, and is in the store."""
    root = tmp_path_factory.mktemp("champion")
    paths = write_months(root / "data", rows=600)
    parts = [Part(partition=p.stem, file=f"data/{p.name}", sha256="", first=0, last=600) for p in paths]
    parts = [part.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
             for part, path in zip(parts, paths, strict=True)]  # fmt: skip
    train(root, PARAMS, Split(train=tuple(parts[:2]), holdout=tuple(parts[2:])), root / "model")
    release = stored_release(root / "store", root / "model", 1)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = ../store\n")
    manifest = Manifest.model_validate(
        {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "orders"},
         "spec": {"stable": release.model_dump()}}
    )  # fmt: skip
    return root, manifest


@pytest.fixture
def repository(champion, tmp_path):
    """The same, for a test that adds a journal."""
    root, manifest = champion
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return tmp_path, manifest


def run(repository, params=PARAMS, until=NOW, tell=lambda line: None):
    root, manifest = repository
    return challenge(root, params, manifest, str(root / "journal"), until=until, now=NOW, tell=tell)


class TestChallenge:
    def test_a_changed_world_proves_a_gain(self, repository):
        write_journal(repository[0], turned(orders("2024-04", 3000)))
        found = run(repository).result
        assert (found.proof, found.metric, found.judged > 900) == (Proof.PROVEN, "log_loss", True)
        assert found.gain.low > 0
        assert found.challenger.value < found.champion.value
        assert found.trained == 1800 + 3000 - found.judged
        assert found.ingested.partitions[-1].endswith("2024-04-28")

    def test_a_steady_world_proves_none(self, repository):
        write_journal(repository[0], orders("2024-04", 3000))
        found = run(repository).result
        assert found.proof is Proof.NOT_PROVEN
        assert "no gain" in found.headline or "too small" in found.headline or "chance" in found.headline

    def test_too_few_labels_say_how_many_are_missing(self, repository):
        write_journal(repository[0], turned(orders("2024-04", 200)))
        found = run(repository).result
        assert (found.proof, found.gain) == (Proof.TOO_FEW, None)
        assert found.missing == 300 - found.judged > 0

    def test_rows_whose_labels_may_still_come_are_left_alone(self, repository):
        write_journal(repository[0], turned(orders("2024-04", 3000)))
        early = run(repository, until=datetime(2024, 4, 15, tzinfo=UTC)).result
        assert early.last.day < 15
        assert early.proof is Proof.PROVEN

    def test_no_labels_at_all(self, repository):
        write_journal(repository[0], orders("2024-04", 500), labels=False)
        assert run(repository).result.proof is Proof.TOO_FEW
        assert run(repository).parts == ()

    def test_rows_of_the_far_future_are_set_aside_and_the_others_judged(self, repository):
        root, _ = repository
        write_journal(root, turned(orders("2024-04", 3000)))
        far = orders("2024-04", 12).assign(order=[f"far-{n}" for n in range(12)])
        write_journal(root, far.assign(placed=pd.Timestamp("2024-04-27")), name="b", event=pd.Timestamp("9999-12-31"))
        lines = []
        found = run(repository, tell=lines.append).result
        assert (found.proof, found.ingested.quarantined) == (Proof.PROVEN, 0)
        assert "set aside, since their time is before 1900 or after 2199: 12 rows" in lines
        assert found.last.year == 2024

    def test_columns_that_the_journal_hides_are_an_error(self, repository):
        write_journal(repository[0], orders("2024-04", 500))
        params = PARAMS.model_copy(
            update={"serve": toy_params(serve={"journal": {"drop": ["region", "x"], "hash": ["channel"]}}).serve}
        )
        with pytest.raises(WatchError, match="as they came: channel, region\n"):
            run(repository, params)

    def test_without_a_journal_it_is_an_error(self, repository):
        with pytest.raises(WatchError, match="there is no journal"):
            run(repository)


@pytest.mark.parametrize(("task", "classes"), [(Task.BINARY, True), (Task.REGRESSION, False)])
def test_labels_of_two_classes_are_asked_for_where_there_are_classes(task, classes):
    _, _, (check,) = prove(None, None, 5, PARAMS.model_copy(update={"task": task}))
    assert ("classes" in check.bound) == classes


def test_rows_that_break_the_schema_are_told_with_the_reason(repository):
    rows = orders("2024-04", 1500)
    write_journal(repository[0], rows.assign(amount=-1.0))
    check = next(check for check in run(repository).result.reasons if check.name == "quarantine")
    assert (check.status, check.value) == (Status.FAIL, "1,500 of 1,500 rows")
    assert "amount" in check.meaning


class TestRows:
    def read(self, root, until=NOW):
        return read_fresh(str(root / "journal"), load_schema(PARAMS.data), PARAMS, until, NOW, tell=print)

    def test_they_are_as_they_came_with_the_newest_label(self, tmp_path):
        rows = write_journal(tmp_path, orders("2024-04", 50))
        write_journal(tmp_path, rows, truth=~rows["returned"], delay="2h", name="b")
        found = self.read(tmp_path).sort_values("order", ignore_index=True)
        expected = rows.sort_values("order", ignore_index=True)
        assert len(found) == 50
        assert (found["returned"] == (~expected["returned"]).map({True: "true", False: "false"})).all()
        assert (found["placed"].dt.tz_localize(None) == expected["placed"]).all()
        np.testing.assert_array_equal(found["amount"], expected["amount"])
        assert (found[ARRIVAL] == expected["placed"]).all()

    def test_one_row_that_sends_its_time_does_not_take_the_others_theirs(self, tmp_path):
        rows = write_journal(tmp_path, orders("2024-04", 50), event=pd.NaT)
        one = orders("2024-03", 1).assign(order=["own"])
        write_journal(tmp_path, one, name="b", event=pd.Timestamp("2024-04-02"))
        found = self.read(tmp_path)
        assert found["placed"].notna().all()
        assert set(found["placed"].dt.tz_localize(None)) == {*rows["placed"], *one["placed"]}

    def test_a_column_that_is_named_as_the_journals_own_is_read_from_its_own_place(self, tmp_path):
        rows = write_journal(tmp_path, orders("2024-04", 50), more={"column_score": orders("2024-04", 50)["amount"]})
        schema = load_schema(PARAMS.data)
        amount = next(column for column in schema.columns if column.name == "amount")
        own = dataclasses.replace(schema, columns=(*schema.columns, dataclasses.replace(amount, name="_score")))
        found = read_fresh(str(tmp_path / "journal"), own, PARAMS, NOW, NOW, tell=print).sort_values("order")
        np.testing.assert_array_equal(found["_score"], rows.sort_values("order")["amount"])

    def test_an_id_that_came_ten_thousands_of_times_is_one_row(self, tmp_path):
        write_journal(tmp_path, orders("2024-04", 40_000).assign(order="same"))
        start = time.monotonic()
        assert len(self.read(tmp_path)) == 1
        assert time.monotonic() - start < 5

    def test_a_damaged_file_costs_its_own_rows_alone(self, tmp_path):
        write_journal(tmp_path, orders("2024-04", 50))
        write_journal(tmp_path, orders("2024-03", 50), name="b", day="2024-03-28")
        broken = tmp_path / "journal" / "predictions" / "day=2024-03-28" / "digest=aaaaaaaaaaaa" / "b.parquet"
        broken.write_bytes(broken.read_bytes()[:200])
        told = []
        found = read_fresh(str(tmp_path / "journal"), load_schema(PARAMS.data), PARAMS, NOW, NOW, tell=told.append)
        assert len(found) == 50
        assert [line for line in told if line.endswith("day=2024-03-28/digest=aaaaaaaaaaaa/b.parquet")]

    def test_a_column_that_came_half_way_is_missing_before(self, tmp_path):
        write_journal(tmp_path, orders("2024-04", 50))
        path = write_journal(tmp_path, orders("2024-03", 40), name="b", day="2024-03-28")
        file = tmp_path / "journal" / "predictions" / "day=2024-03-28" / "digest=aaaaaaaaaaaa" / "b.parquet"
        pq.write_table(pq.read_table(file).drop_columns(["gift"]), file)
        found = self.read(tmp_path)
        assert len(found) == 50 + len(path)
        assert found["gift"].isna().sum() == 40


def comparison(value, low, high):
    gain = Estimate(value=value, low=low, high=high)
    metric = PairedMetric(
        name="log_loss", higher_is_better=False, champion=Estimate(value=0.6), challenger=Estimate(value=0.6 - value),
        gain=gain,
    )  # fmt: skip
    return Comparison(
        champion_digest="", champion_version=1, outcome=GateOutcome.EQUIVALENT, metrics=(metric,), slices=(),
        delong=None,
    )  # fmt: skip


class TestProve:
    JUDGE = pd.DataFrame({"returned": [True, False] * 200})

    @pytest.mark.parametrize(
        ("value", "low", "high", "proof", "words"),
        [
            (0.02, 0.01, 0.03, Proof.PROVEN, "worth a release"),
            (0.004, 0.001, 0.007, Proof.NOT_PROVEN, "too small"),
            (0.02, -0.01, 0.05, Proof.NOT_PROVEN, "chance"),
            (-0.02, -0.03, -0.01, Proof.NOT_PROVEN, "no gain"),
        ],
    )
    def test_a_gain_must_be_certain_and_worth_it(self, value, low, high, proof, words):
        found, headline, _ = prove(comparison(value, low, high), self.JUDGE, 0, PARAMS)
        assert found is proof
        assert words in headline

    def test_a_relative_gain_is_a_share_of_the_champions_loss(self):
        relative = toy_params(retrain={"min_labels": 400, "min_gain": 0.05, "min_gain_relative": True})
        assert prove(comparison(0.031, 0.02, 0.04), self.JUDGE, 0, relative)[0] is Proof.PROVEN
        assert prove(comparison(0.029, 0.02, 0.04), self.JUDGE, 0, relative)[0] is Proof.NOT_PROVEN

    def test_one_label_that_is_missing_is_not_called_a_class(self):
        params = toy_params(retrain={"min_labels": 401})
        assert prove(None, self.JUDGE, 1, params)[1].endswith("1 more label is needed")
        assert prove(None, self.JUDGE, 1, PARAMS)[1].endswith("labels of another class are needed")

    def test_one_class_proves_nothing(self):
        assert missing_labels(pd.DataFrame({"returned": [True] * 5000}), PARAMS) == 1
        assert prove(None, self.JUDGE, 1, PARAMS)[0] is Proof.TOO_FEW

    def test_without_an_interval_nothing_is_proven(self):
        assert prove(comparison(0.1, None, None), self.JUDGE, 0, PARAMS)[0] is Proof.NOT_PROVEN


def test_where_all_partitions_would_be_held_out_it_is_an_error():
    rows = orders("2024-01", 10)
    with pytest.raises(DataError, match="2 partitions would be held out, and there are 2"):
        training_rows(KnownData((("2024-01", rows),)), (FreshPart("2024-02", rows),), toy_params(split={"holdout": 2}))


def test_late_labels_are_counted_and_not_put_into_older_partitions(repository):
    root, _ = repository
    write_journal(root, orders("2024-04", 1000))
    late = orders("2024-02", 900).assign(order=[f"late-{n}" for n in range(900)])
    write_journal(root, late, name="b", day="2024-02-28", delay="40D")
    lines = []
    found = run(repository, tell=lines.append).result
    assert found.ingested.late == 900
    assert found.ingested.rows == 1000
    assert "of them 0 are in the data already, and 900 are older than the newest data" in lines
