"""What `mergeline new` guesses from a team's own file."""

import ast
import dataclasses
import re
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mergeline.dataset.partitions import Partition, read_partition, read_raw
from mergeline.dataset.schema import TeamSchema, load_schema
from mergeline.errors import DataError
from mergeline.params import DataParams, Task, read_params
from mergeline.store.dvc_lock import canonical_lock
from mergeline.template.blank import fill_blank, guess_columns, params_source, schema_source
from mergeline.template.fill import write_params

TEMPLATE = Path(__file__).parents[3]
PARCELS = """parcel_id,sent at,depot,zip,weight,pieces,express,lost
p1,2024-01-01 08:00:00,Ulm,01067,1.5,2,true,no
p2,2024-01-02 08:00:00,Bonn,50667,,1,false,yes
p3,2024-01-03 08:00:00,Ulm,50667,2.0,3,true,no
p4,2024-01-04 08:00:00,Ulm,01067,0.5,1,false,no
"""


@pytest.fixture
def parcels(tmp_path):
    """Four parcels as a CSV file."""
    path = tmp_path / "parcels.csv"
    path.write_text(PARCELS)
    return path


def guessed(path, target=""):
    return guess_columns(read_raw(Partition(path.stem, path)), target, str(path))


def test_types_come_from_the_cells_and_a_leading_zero_makes_a_text(parcels):
    assert guessed(parcels).types == {
        "parcel_id": "str",
        "sent at": "datetime64[ns]",
        "depot": "str",
        "zip": "str",
        "weight": "float",
        "pieces": "int",
        "express": "bool",
        "lost": "str",
    }


def test_the_last_column_is_the_target_and_its_rarer_class_is_positive(parcels):
    guess = guessed(parcels)
    assert (guess.target, guess.task, guess.positive) == ("lost", Task.BINARY, "yes")


def test_what_names_a_row_and_what_orders_the_rows_is_found(parcels):
    guess = guessed(parcels)
    assert (guess.id, guess.time, guess.nullable) == ("parcel_id", "sent at", {"weight"})


def test_a_target_that_is_not_there_is_refused_with_the_names_that_are(parcels):
    with pytest.raises(DataError, match="no column 'loss'") as told:
        guessed(parcels, "loss")
    assert "lost" in told.value.hint


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False] * 20, Task.BINARY),
        (["a", "b", "c", "d"] * 10, Task.MULTICLASS),
        ([0, 1, 2, 3] * 10, Task.MULTICLASS),
        ([float(n) / 7 for n in range(40)], Task.REGRESSION),
        (list(range(40)), Task.REGRESSION),
    ],
)
def test_the_task_comes_from_the_targets_values(values, task):
    rows = pd.DataFrame({"x": range(40), "y": values})
    assert guess_columns(rows, "y", "rows").task is task


def test_columns_that_teach_nothing_are_named():
    rows = pd.DataFrame({"same": [1] * 20, "words": [f"text {n}" for n in range(20)], "empty": None, "y": range(20)})
    notes = "\n".join(
        guess_columns(rows.assign(words=rows["words"].where(rows.index > 0, "text 1")), "y", "rows").notes
    )
    assert "`same`: it has one value" in notes
    assert "`empty`: it is empty in every row" in notes
    assert "`words`: nearly every row has a text of its own" in notes


def test_the_schema_that_is_written_reads_the_file_it_was_guessed_from(parcels, monkeypatch, tmp_path):
    rows = read_raw(Partition("parcels", parcels))
    package = tmp_path / "guessed_parcels"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "schema.py").write_text(schema_source(rows, guessed(parcels)))
    monkeypatch.syspath_prepend(tmp_path)
    names = {
        "schema": "guessed_parcels.schema:Rows",
        "target": "lost",
        "positive": "yes",
        "id": "parcel_id",
        "time": "sent at",
    }
    schema = load_schema(DataParams.model_validate(names))
    assert isinstance(schema, TeamSchema)
    frame = read_partition(Partition("parcels", parcels), schema)
    assert list(frame["zip"]) == ["01067", "50667", "50667", "01067"]
    assert frame["weight"].isna().sum() == 1


def test_of_a_file_sorted_by_class_a_fifth_of_each_class_judges(tmp_path):
    (tmp_path / "params.yaml").write_text("name: x\ndata: {schema: a:b}\nmodel: {factory: a:b}\ngate: {}\n")
    path = tmp_path / "sorted.csv"
    pd.DataFrame({"x": range(100), "y": ["a"] * 50 + ["b"] * 50}).to_csv(path, index=False)
    notes = fill_blank(tmp_path, "mine", "mine", path, "y")
    assert any("a fifth of each class judges" in note for note in notes)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    assert (params["split"]["kind"], params["data"]["target"]) == ("stratified", "y")
    assert (tmp_path / "data" / "sorted.csv").read_bytes() == path.read_bytes()
    ast.parse((tmp_path / "src" / "mine" / "model.py").read_text())


def test_a_second_time_free_texts_and_empty_columns_are_kept_from_the_model_and_that_is_said():
    rows = pd.DataFrame(
        {
            "placed": pd.date_range("2024-01-01", periods=40).astype(str),
            "shipped": pd.date_range("2024-02-01", periods=40).astype(str),
            "comment": [f"please ring {n}, thanks" for n in range(40)],
            "born": [f"03/{1 + n % 28}/19{n + 50}" for n in range(40)],
            "empty": None,
            "x": range(40),
            "y": [n % 3 / 7 for n in range(40)],
        }
    )
    guess = guess_columns(rows, "y", "rows")
    assert (guess.id, guess.time, guess.features) == (None, "placed", ("x",))
    assert guess.metadata == ("comment", "born", "empty", "shipped")
    assert any("a date, as `03/1/1950`? Write it as 2024-03-31" in note for note in guess.notes)


def test_a_number_behind_a_month_names_a_row_and_is_no_date():
    rows = pd.DataFrame({"order": [f"2024-01-{n}" for n in range(100, 140)], "x": range(40), "y": [0, 1] * 20})
    guess = guess_columns(rows, "y", "rows")
    assert guess.id == "order"
    assert not any("a date" in note for note in guess.notes)


def test_words_for_missing_make_no_text_of_a_number():
    rows = pd.DataFrame({"a": ["1.5", "NA", "2", "n/a"] * 10, "b": ["x", "N/A"] * 20, "y": range(40)})
    guess = guess_columns(rows, "y", "rows")
    assert (guess.types["a"], guess.types["b"]) == ("float", "str")
    assert guess.nullable == {"a"}


def test_a_saved_index_and_an_id_in_other_spellings_name_the_rows():
    for name in ("Unnamed: 0", "Order ID", "orderId", "order-no"):
        rows = pd.DataFrame({"x": [1.5, 2.5] * 20, name: range(40), "y": [0, 1] * 20})
        assert guess_columns(rows, "y", "rows").id == name


def test_of_few_positives_the_gate_asks_for_average_precision():
    rows = pd.DataFrame({"x": range(2000), "y": [1.0, *[0.0] * 99] * 20})
    guess = guess_columns(rows, "y", "rows")
    gate = yaml.safe_load(params_source(rows, guess))["gate"]
    assert (gate["metric"], gate["floors"]) == ("average_precision", {"average_precision": 0.01})
    assert any("about 4 of them" in note for note in guess.notes)


@pytest.mark.parametrize("words", [("true", "false"), ("True", "False"), ("YES", "no"), ("1", "0")])
def test_positives_are_counted_as_the_schema_reads_them(tmp_path, words):
    file = tmp_path / "rows.csv"
    lines = [f"{row},{words[row % 50 != 0]}" for row in range(4000)]
    file.write_text("\n".join(["x,churned", *lines]) + "\n")
    guess = guessed(file)
    gate = yaml.safe_load(params_source(read_raw(Partition("rows", file)), guess))["gate"]
    assert (gate["metric"], gate["floors"]) == ("average_precision", {"average_precision": 0.02})
    assert any("about 16 of them" in note for note in guess.notes)


@pytest.mark.parametrize(("rare", "metric"), [("a", "average_precision"), ("b", "roc_auc")])
def test_of_a_rare_class_margins_are_shares_of_the_champions_loss(rare, metric):
    rows = pd.DataFrame({"x": range(2000), "y": [rare, *["c"] * 99] * 20})
    guess = guess_columns(rows, "y", "rows")
    chosen = yaml.safe_load(params_source(rows, dataclasses.replace(guess, positive="a" if rare == "a" else "c")))
    assert (chosen["gate"]["metric"], chosen["gate"]["slice_margin_relative"]) == (metric, True)
    assert (chosen["retrain"]["min_gain"], chosen["retrain"]["min_gain_relative"]) == (0.02, True)


def test_of_a_wide_table_three_columns_break_at_once_and_a_regression_is_stressed_beside_its_champion():
    rows = pd.DataFrame({f"x{n}": [n * row % 7 / 3 for row in range(40)] for n in range(1, 14)})
    rows["y"] = [row / 7 for row in range(40)]
    chosen = yaml.safe_load(params_source(rows, guess_columns(rows, "y", "rows")))
    assert chosen["evaluation"]["stress_columns"] == 3
    assert (chosen["gate"]["stress_margin"], chosen["split"]["kind"]) == (0.3, "random")
    narrow = rows.drop(columns="x13")
    assert (
        "stress_columns" not in yaml.safe_load(params_source(narrow, guess_columns(narrow, "y", "rows")))["evaluation"]
    )


@pytest.mark.parametrize("recipe", ["iris", "digits", "diabetes", "fraud"])
def test_what_a_recipe_chooses_is_valid_and_its_reason_stands_where_the_templates_comment_stood(tmp_path, recipe):
    (tmp_path / "params.yaml").write_text((TEMPLATE / "params.yaml").read_text())
    chosen = resources.files("mergeline.recipes").joinpath(recipe, "params.yaml").read_text()
    write_params(tmp_path, "orders", "orders", chosen)
    read_params(tmp_path / "params.yaml")
    written = (tmp_path / "params.yaml").read_text()
    for reason in re.findall(r"\n  \w+: .* (# .*)", chosen):
        assert reason in written
    assert re.findall(r"\n\n  \w", written) == []  # no key behind its section's empty line
    assert canonical_lock("schema:\n") == "schema:\n"  # how null is written here is nobody else's way


def test_a_handful_of_rows_gets_no_floors_and_that_is_said():
    rows = pd.DataFrame({"x": range(40), "y": [n / 7 for n in range(40)]})
    guess = guess_columns(rows, "y", "rows")
    assert yaml.safe_load(params_source(rows, guess))["gate"]["floors"] == {}
    assert any("only 8 rows judge a model" in note for note in guess.notes)


@pytest.mark.parametrize(("count", "margin"), [(400, 0.11), (20_000, 0.02)])
def test_a_margin_is_no_smaller_than_what_the_holdouts_rows_can_show(count, margin):
    rows = pd.DataFrame({"x": range(count), "y": [n / 7 for n in range(count)]})
    written = params_source(rows, guess_columns(rows, "y", "rows"))
    assert yaml.safe_load(written)["gate"]["margin"] == margin
    assert ("80 rows: the report says which difference" in written) == (count == 400)


def test_a_file_without_a_column_for_the_model_is_refused():
    with pytest.raises(DataError, match="no column is left"):
        guess_columns(pd.DataFrame({"id": range(40), "y": ["u", "v"] * 20}), "y", "rows")


def test_names_of_any_kind_become_a_schema_that_python_reads():
    rows = pd.DataFrame({'it\'s "quoted" \\ name': range(9), "line\nbreak": ["a\nb", "c", "d"] * 3, "y": range(9)})
    tree = ast.parse(schema_source(rows, guess_columns(rows, "y", "rows")))
    assert {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} >= set(rows.columns)


def test_rows_without_a_label_are_left_out_and_counted(tmp_path):
    (tmp_path / "params.yaml").write_text("name: x\ndata: {schema: a:b}\nmodel: {factory: a:b}\ngate: {}\n")
    pd.DataFrame({"x": range(40), "y": ["a", "b", None, "a"] * 10}).to_csv(tmp_path / "2024-03.csv", index=False)
    notes = fill_blank(tmp_path, "mine", "mine", tmp_path / "2024-03.csv", "y")
    assert any("10 rows without `y` were left out" in note for note in notes)
    assert len(pd.read_parquet(tmp_path / "data" / "2024-03.parquet")) == 30
