"""Scoring files: the scores of a request, rows that break the schema set aside, files whole or not at all."""

import errno
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mergeline.errors import DataError
from mergeline.model import bulk_files
from mergeline.model.artifact import load_model
from mergeline.model.bulk import score_file
from toy_data import orders, train_toy


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("bulk")
    made = {}
    for name, model in {
        "compiled": {"factory": "toy.model:boosted", "arguments": {"max_iter": 3}},
        "served": {"factory": "toy.searches:tempered"},
    }.items():
        made[name] = load_model(shutil.copytree(train_toy(root, model=model), root / name), defer=name == "compiled")
    assert made["compiled"].scorer is not None
    assert made["served"].scorer is None
    return made


@pytest.fixture
def rows():
    return orders("2024-05", 500).drop(columns="returned")


def read(path):
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def write(frame, path):
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["compiled", "served"])
@pytest.mark.parametrize("files", ["rows.csv scores.parquet", "rows.parquet scores.csv"])
def test_a_file_gets_the_scores_of_its_rows(models, tmp_path, monkeypatch, kind, files):
    (source, target), rows = files.split(), orders("2024-05", 500).drop(columns="returned")
    monkeypatch.setattr(bulk_files, "BATCH_ROWS", 64)
    done = []
    result = score_file(models[kind], write(rows, tmp_path / source), tmp_path / target, done.append)
    assert (result.scored, result.refused, result.refused_file) == (500, 0, None)
    assert done[-1] == 500
    found = read(tmp_path / target)
    assert found["order"].tolist() == rows["order"].tolist()
    np.testing.assert_allclose(found["score"], models[kind].predict(rows), atol=1e-12)
    threshold = models[kind].signature.output.threshold
    assert (found["label"] == (found["score"] >= threshold)).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, target])


def test_a_csv_of_scores_has_quotes_only_where_a_text_needs_them(models, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk_files, "BATCH_ROWS", 2)
    odd = rows.head(4).assign(order=["plain", "more", 'a,"b"', "c"])
    score_file(models["served"], write(odd, tmp_path / "rows.parquet"), tmp_path / "scores.csv")
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.rsplit(",", 2)[0] for line in lines] == ["order", "plain", "more", '"a,""b"""', '"c"']
    assert read(tmp_path / "scores.csv")["order"].tolist() == odd["order"].tolist()


def test_a_csv_column_without_a_name_is_called_as_pandas_calls_it(models, rows, tmp_path):
    signature = models["served"].signature.model_copy(update={"id": "Unnamed: 0"})
    write(rows.rename(columns={"order": ""}), tmp_path / "rows.csv")
    score_file(replace(models["served"], signature=signature), tmp_path / "rows.csv", tmp_path / "scores.parquet")
    assert read(tmp_path / "scores.parquet")["Unnamed: 0"].tolist() == rows["order"].tolist()


class TestRowsThatBreakTheSchema:
    @pytest.mark.parametrize("target", ["scores.csv", "scores.parquet"])
    def test_they_are_set_aside_with_the_reason(self, models, rows, tmp_path, target):
        rows.loc[3, "region"] = "west"
        rows.loc[5, "amount"] = 2000.0
        rows.loc[7, "channel"] = None
        rows.loc[7, "items"] = 0
        result = score_file(models["compiled"], write(rows, tmp_path / "rows.parquet"), tmp_path / target)
        assert (result.scored, result.refused) == (497, 3)
        aside = read(result.refused_file)
        assert result.refused_file.name == target.replace("scores", "scores.refused")
        assert aside["row"].tolist() == [4, 6, 8]
        assert aside["reason"].tolist() == [
            "region is 'west', not one of north, south",
            "amount is 2000.0, at most 1000 is right",
            "channel is missing; items is 0, at least 1 is right",
        ]
        assert aside["order"].tolist() == rows["order"].iloc[[3, 5, 7]].tolist()
        assert len(read(tmp_path / target)) == 497

    def test_cells_of_a_csv_file_that_are_of_another_type(self, models, rows, tmp_path):
        text = write(rows.head(6), tmp_path / "rows.csv").read_text().splitlines()
        names = text[0].split(",")
        for line, name, cell in (
            (1, "items", "many"),
            (2, "items", "1.5"),
            (3, "gift", "perhaps"),
            (4, "amount", "NA"),
        ):
            cells = text[line].split(",")
            cells[names.index(name)] = cell
            text[line] = ",".join(cells)
        text[5] += ",more"
        (tmp_path / "rows.csv").write_text("\n".join(text) + "\n")
        result = score_file(models["compiled"], tmp_path / "rows.csv", tmp_path / "scores.parquet")
        aside = read(result.refused_file)
        assert result.scored == 2
        assert aside["reason"].iloc[0].startswith("items is 'many', not a whole number")
        assert aside["reason"].iloc[1].startswith("items is '1.5', not a whole number")
        assert aside["reason"].iloc[2] == "gift is 'perhaps', neither true nor false"
        assert aside["reason"].iloc[3] == "8 cells, the header has 7"
        assert aside["row"].tolist() == [1, 2, 3, 5]

    def test_rows_after_broken_ones_have_their_numbers_in_the_file(self, models, rows, tmp_path, monkeypatch):
        monkeypatch.setattr(bulk_files, "BATCH_ROWS", 3)
        monkeypatch.setattr(bulk_files, "_CSV_BYTES", 150)
        text = write(rows.head(12).drop(columns="order"), tmp_path / "rows.csv").read_text().splitlines()
        for number in (1, 4, 5, 12):
            text[number] += ",more"
        (tmp_path / "rows.csv").write_text("\n".join(text) + "\n")
        result = score_file(models["compiled"], tmp_path / "rows.csv", tmp_path / "scores.csv")
        assert read(tmp_path / "scores.csv")["row"].tolist() == [2, 3, 6, 7, 8, 9, 10, 11]
        assert read(result.refused_file)["row"].tolist() == [1, 4, 5, 12]

    def test_a_file_of_an_earlier_run_does_not_stay(self, models, rows, tmp_path):
        (tmp_path / "scores.refused.csv").write_text("old")
        score_file(models["compiled"], write(rows, tmp_path / "rows.csv"), tmp_path / "scores.csv")
        assert not (tmp_path / "scores.refused.csv").exists()


class TestRefusals:
    def test_a_column_that_is_not_there_is_named_with_the_nearest(self, models, rows, tmp_path):
        source = write(rows.rename(columns={"amount": "amounts"}), tmp_path / "rows.csv")
        with pytest.raises(DataError, match="there is no column amount") as told:
            score_file(models["compiled"], source, tmp_path / "scores.csv")
        assert "amounts" in told.value.hint

    def test_other_separators_are_told_with_how_to_convert(self, models, tmp_path):
        source = tmp_path / "rows.csv"
        source.write_text("amount;items\n1.5;2\n")
        with pytest.raises(DataError, match="separated by `;`") as told:
            score_file(models["compiled"], source, tmp_path / "scores.csv")
        assert "sep=';'" in told.value.hint

    def test_a_file_that_ends_early_leaves_the_old_answers(self, models, rows, tmp_path):
        source = write(rows, tmp_path / "rows.parquet")
        source.write_bytes(source.read_bytes()[:2000])
        (tmp_path / "scores.csv").write_text("old")
        with pytest.raises(DataError, match="the file is damaged"):
            score_file(models["compiled"], source, tmp_path / "scores.csv")
        assert (tmp_path / "scores.csv").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet", "scores.csv"]

    def test_a_column_of_another_type_is_named(self, models, rows, tmp_path):
        source = write(rows.assign(amount=pd.Timestamp("2024-01-01")), tmp_path / "rows.parquet")
        with pytest.raises(DataError, match=r"column amount: it holds timestamp"):
            score_file(models["compiled"], source, tmp_path / "scores.csv")

    @pytest.mark.parametrize(("source", "target"), [("rows.json", "scores.csv"), ("rows.csv", "scores.xlsx")])
    def test_other_kinds_of_file(self, models, tmp_path, source, target):
        with pytest.raises(DataError, match="neither a Parquet nor a CSV file"):
            score_file(models["compiled"], tmp_path / source, tmp_path / target)

    def test_a_file_that_is_not_there(self, models, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            score_file(models["compiled"], tmp_path / "rows.csv", tmp_path / "scores.csv")

    @pytest.mark.parametrize("target", ["scores.csv", "scores.parquet"])
    def test_a_full_disk_is_told_with_the_file_and_leaves_nothing(self, models, rows, tmp_path, target):
        source = write(rows, tmp_path / "rows.parquet")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            with pytest.raises(OSError, match=target) as told:
                score_file(models["compiled"], source, tmp_path / target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(tmp_path / target))
        assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("file", ["rows.csv", "rows.parquet"])
def test_a_compiled_model_scores_without_importing_pandas(models, rows, tmp_path, file):
    source, folder = write(rows, tmp_path / file), models["compiled"].folder
    code = (
        "import sys; from pathlib import Path; from mergeline.model.artifact import load_model\n"
        "from mergeline.model.bulk import score_file; from mergeline.model.bulk_files import spare_pandas\n"
        f"spare_pandas(); model = load_model(Path({str(folder)!r}), defer=True)\n"
        f"score_file(model, Path({str(source)!r}), Path({str(tmp_path / 'scores.csv')!r}))\n"
        "assert 'pandas' not in sys.modules and 'sklearn' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "scores.csv")) == 500
