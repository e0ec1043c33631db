"""The data gate: what it finds, and that it names column, rule, rows and the first offending ones."""

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.datasets import load_iris
from validate_samples import change, findings_of, only

from mergeline.dataset.leakage import lone_score
from mergeline.dataset.partitions import convert, list_partitions, read_partition
from mergeline.dataset.schema import load_schema
from mergeline.dataset.validate import require_valid, validate
from mergeline.errors import DataError
from mergeline.params import Task
from toy_data import orders, toy_params, write_months


def yaml_of(text):
    return YAML(typ="safe").load(text)


class TestGoodData:
    def test_good_data_have_no_findings(self, tmp_path, months):
        report = validate(tmp_path, toy_params())
        assert [str(finding) for finding in report.findings] == []
        assert [(p.name, p.rows) for p in report.partitions] == [("2024-01", 400), ("2024-02", 400), ("2024-03", 400)]

    def test_csv_is_read_like_parquet(self, tmp_path, months):
        for path in months:
            pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=False)
            path.unlink()
        assert findings_of(tmp_path) == ()

    def test_a_file_without_a_period_in_its_name_is_taken_as_it_is(self, tmp_path):
        (tmp_path / "data").mkdir()
        orders(rows=300).to_parquet(tmp_path / "data" / "everything.parquet")
        assert findings_of(tmp_path) == ()


class TestBrokenCells:
    def test_a_value_out_of_range_is_named_with_its_row(self, tmp_path, months):
        amount = pd.read_parquet(months[1])["amount"].copy()
        amount.iloc[[6, 9]] = [-5.0, 2000.0]
        change(months[1], amount=amount)
        finding = only(findings_of(tmp_path))
        assert (finding.partition, finding.column, finding.rule, finding.rows) == ("2024-02", "amount", "range", 2)
        assert [(e.row, e.value) for e in finding.examples] == [(7, "-5.0"), (10, "2000.0")]

    def test_text_in_a_number_column_is_a_type_error_and_told_once(self, tmp_path, months):
        items = pd.read_parquet(months[0])["items"].astype("object").copy()
        items.iloc[2] = "three"
        change(months[0], items=items.astype("str"))
        finding = only(findings_of(tmp_path))
        assert (finding.column, finding.rule, finding.rows) == ("items", "type", 1)
        assert finding.examples[0].value == "'three'"

    @pytest.mark.parametrize("value", [np.inf, -np.inf])
    def test_infinity_is_not_a_number(self, tmp_path, months, value):
        amount = pd.read_parquet(months[0])["amount"].copy()
        amount.iloc[0] = value
        change(months[0], amount=amount)
        assert only(findings_of(tmp_path)).rule == "type"

    def test_a_fraction_is_not_an_integer(self, tmp_path, months):
        items = pd.read_parquet(months[0])["items"].astype("float64").copy()
        items.iloc[0] = 1.5
        change(months[0], items=items)
        assert only(findings_of(tmp_path)).rule == "type"

    def test_an_unknown_category_of_a_closed_list_is_named(self, tmp_path, months):
        region = pd.read_parquet(months[0])["region"].copy()
        region.iloc[4] = "east"
        change(months[0], region=region)
        finding = only(findings_of(tmp_path))
        assert (finding.column, finding.rule, finding.rows) == ("region", "category", 1)
        assert finding.examples[0].row == 5

    def test_a_null_where_none_is_allowed_is_named(self, tmp_path, months):
        channel = pd.read_parquet(months[0])["channel"].copy()
        channel.iloc[:3] = None
        change(months[0], channel=channel)
        finding = only(findings_of(tmp_path))
        assert (finding.column, finding.rule, finding.rows) == ("channel", "null", 3)

    def test_duplicate_ids_within_and_across_partitions_are_named(self, tmp_path, months):
        first = pd.read_parquet(months[0])["order"]
        second = pd.read_parquet(months[1])["order"].copy()
        second.iloc[1] = second.iloc[0]
        second.iloc[5] = first.iloc[0]
        change(months[1], order=second)
        found = [(f.rule, f.rows, f.meaning) for f in findings_of(tmp_path)]
        assert found == [
            ("duplicate id", 1, "it stands twice in this file"),
            ("duplicate id", 1, "it stands in an earlier partition too"),
        ]

    def test_a_time_outside_the_partition_is_named(self, tmp_path, months):
        placed = pd.read_parquet(months[0])["placed"].copy()
        placed.iloc[-1] = pd.Timestamp("2024-02-01")
        change(months[0], placed=placed)
        finding = only(findings_of(tmp_path))
        assert (finding.column, finding.rule, finding.examples[0].row) == ("placed", "outside the partition", 400)

    def test_a_file_that_is_cut_by_local_time_is_told_as_such(self, tmp_path, months):
        local = pd.read_parquet(months[0])["placed"].dt.floor("s")
        local.iloc[0] = pd.Timestamp("2023-12-31 23:30")
        change(months[0], placed=local)
        assert "cut files by UTC, or give data.timezone" in only(findings_of(tmp_path)).meaning
        local.iloc[1] = pd.Timestamp("2023-10-01")
        change(months[0], placed=local)
        assert "cut files by UTC, or give data.timezone" not in only(findings_of(tmp_path)).meaning

    @pytest.mark.parametrize("written", ["2024-01-01 00:30", "2023-12-31 23:30+00:00", "2024-01-01T00:30:00+01"])
    def test_with_a_timezone_files_are_cut_by_its_months(self, tmp_path, written):
        frame = orders("2024-01").assign(placed=lambda rows: rows["placed"].astype("str"))
        frame.loc[0, "placed"] = written
        (tmp_path / "data").mkdir()
        frame.to_csv(tmp_path / "data" / "2024-01.csv", index=False)
        berlin = {"timezone": "Europe/Berlin"}
        assert findings_of(tmp_path, data=berlin) == ()
        (partition,) = list_partitions(tmp_path / "data")
        first = read_partition(partition, load_schema(toy_params(data=berlin).data))["placed"][0]
        assert first == pd.Timestamp("2023-12-31 23:30")  # UTC
        frame.loc[0, "placed"] = "2023-12-31 23:30"
        frame.to_csv(tmp_path / "data" / "2024-01.csv", index=False)
        told = only(findings_of(tmp_path, data=berlin)).meaning
        assert "zone: Europe/Berlin" in told
        assert "in UTC: 2023-12-31 23:00:00" in told

    def test_an_hour_that_the_clocks_leave_out_or_repeat_has_a_time(self, tmp_path):
        clocks = ["2024-03-31 02:30", "2024-10-27 02:30"]  # left out in spring; twice in autumn, where the first counts
        placed = pd.Series(pd.to_datetime([*clocks, None]))
        for raw in (placed, placed.dt.strftime("%Y-%m-%d %H:%M")):
            frame = orders(rows=3).assign(placed=raw)
            schema = load_schema(toy_params(data={"timezone": "Europe/Berlin"}).data)
            found = convert(frame, schema, "2024")[0]["placed"]
            assert found[:2].tolist() == [pd.Timestamp("2024-03-31 01:00"), pd.Timestamp("2024-10-27 00:30")]
            assert pd.isna(found[2])

    def test_a_timezone_that_is_none_is_refused_with_the_nearest(self, tmp_path, months):
        with pytest.raises(DataError) as refused:
            findings_of(tmp_path, data={"timezone": "Europe/Berlim"})
        assert refused.value.hint == "did you mean 'Europe/Berlin'?"
        with pytest.raises(ValueError, match=r"zone of data\.time"):
            toy_params(data={"timezone": "Europe/Berlin", "time": None, "metadata": ["placed"]})

    def test_a_missing_target_is_named(self, tmp_path, months):
        returned = pd.read_parquet(months[0])["returned"].astype("boolean").copy()
        returned.iloc[0] = pd.NA
        change(months[0], returned=returned)
        assert only(findings_of(tmp_path)).rule == "missing target"

    def test_one_class_only_is_named(self, tmp_path, months):
        change(months[2], returned=True)
        assert "needs two classes, found 1" in only(findings_of(tmp_path)).meaning


class TestTasks:
    def test_a_regression_needs_numbers(self, tmp_path, months):
        found = findings_of(tmp_path, task="regression", data={"target": "channel"}, gate={"metric": "rmse"})
        assert "a regression needs numbers" in found[0].meaning

    def test_fractions_are_no_classes(self, tmp_path, months):
        for path in months:
            pd.read_parquet(path).dropna().to_parquet(path)
        found = findings_of(tmp_path, task="multiclass", data={"target": "amount"})
        assert "fractions are no classes" in found[0].meaning


class TestBrokenColumns:
    def test_a_renamed_column_is_guessed(self, tmp_path, months):
        pd.read_parquet(months[0]).rename(columns={"amount": "ammount"}).to_parquet(months[0])
        found = {f.rule: f for f in findings_of(tmp_path)}
        assert "is it 'ammount' here?" in found["missing column"].meaning
        assert found["unknown column"].column == "ammount"

    def test_a_column_known_only_later_is_a_leak(self, tmp_path, months):
        for path in months:
            change(path, refunded_at=1)
        assert {f.rule for f in findings_of(tmp_path)} == {"leak"}

    def test_a_column_that_predicts_the_target_alone_is_a_leak(self, tmp_path, months):
        for path in months:
            frame = pd.read_parquet(path)
            change(path, amount=frame["returned"] * 100.0 + np.random.default_rng(0).random(len(frame)))
        leaks = [f for f in findings_of(tmp_path) if f.rule == "leak"]
        assert [f.column for f in leaks] == ["amount"]

    def test_a_leak_that_is_not_monotone_is_found_too(self, tmp_path, months):
        for path in months:
            frame = pd.read_parquet(path)
            change(path, amount=np.where(frame["returned"], 50.0, np.where(frame["gift"], 10.0, 90.0)))
        assert "amount" in [f.column for f in findings_of(tmp_path) if f.rule == "leak"]


class TestHistory:
    def test_a_partition_of_half_the_rows_is_odd(self, tmp_path, months):
        pd.read_parquet(months[2]).iloc[:150].to_parquet(months[2])
        assert "-62% against the median 400" in only(findings_of(tmp_path)).meaning

    def test_a_column_in_another_unit_is_odd(self, tmp_path, months):
        change(months[2], amount=pd.read_parquet(months[2])["amount"] / 1000)
        assert (only(findings_of(tmp_path)).column, only(findings_of(tmp_path)).rule) == ("amount", "distribution")

    def test_a_column_that_was_emptied_is_odd(self, tmp_path, months):
        change(months[2], amount=np.nan)
        assert only(findings_of(tmp_path)).rule == "missing share"

    def test_categories_that_were_all_renamed_are_odd(self, tmp_path, months):
        change(months[2], channel=pd.read_parquet(months[2])["channel"].str.upper())
        assert only(findings_of(tmp_path)).rule == "distribution"

    def test_names_that_do_not_sort_by_time_are_told(self, tmp_path, months):
        for old, new in ((1, "2024_9"), (2, "2024_10"), (3, "2024_11")):
            frame = orders(f"2024-{old + 8:02d}", 400)
            months[old - 1].unlink()
            frame.to_parquet(tmp_path / "data" / f"{new}.parquet", index=False)
        assert only(findings_of(tmp_path)).rule == "time order"

    def test_too_few_rows_are_odd(self, tmp_path):
        write_months(tmp_path / "data", months=1, rows=50)
        assert only(findings_of(tmp_path)).rule == "too few rows"


class TestExceptions:
    """Columns that need not keep a rule, named in `validation.allow`."""

    def test_a_finding_names_the_exception_that_lets_its_column_pass(self, tmp_path, months):
        change(months[2], amount=pd.read_parquet(months[2])["amount"] + 500)
        finding = only(findings_of(tmp_path))
        advice = finding.meaning.partition("validation.allow: ")[2]
        assert advice == "{amount: [distribution]}"
        assert findings_of(tmp_path, validation={"allow": yaml_of(advice)}) == ()

    @pytest.mark.parametrize("rule", ["leak", "missing share", "empty column"])
    def test_each_rule_of_a_column_has_an_exception(self, tmp_path, months, rule):
        for place, path in enumerate(months):
            returned = pd.read_parquet(path)["returned"]
            empty = rule == "empty column" or (rule == "missing share" and place == 2)
            change(path, amount=np.nan if empty else returned * 10.0 if rule == "leak" else 5.0)
        found = findings_of(tmp_path)
        assert (only(found).column, only(found).rule) == ("amount", rule)
        assert findings_of(tmp_path, validation={"allow": {"amount": [rule]}}) == ()

    def test_an_exception_is_for_its_column_and_rule_alone(self, tmp_path, months):
        change(months[2], amount=pd.read_parquet(months[2])["amount"] + 500, items=100)
        found = findings_of(tmp_path, validation={"allow": {"amount": ["distribution"], "items": ["leak"]}})
        assert only(found).column == "items"

    def test_a_misspelt_column_or_rule_is_refused(self, tmp_path, months):
        with pytest.raises(DataError, match="did you mean 'amount'"):
            findings_of(tmp_path, validation={"allow": {"amont": ["leak"]}})
        with pytest.raises(ValueError, match="empty column"):
            toy_params(validation={"allow": {"amount": ["type"]}})


class TestEmptyColumns:
    def test_a_column_without_a_value_in_all_training_rows_is_named(self, tmp_path, months):
        for path in months[:2]:
            change(path, amount=np.nan)
        finding = only(findings_of(tmp_path))
        assert (finding.partition, finding.column, finding.rule) == ("all training rows", "amount", "empty column")

    def test_partitions_that_are_not_trained_on_do_not_count(self, tmp_path, months):
        change(months[1], amount=np.nan)
        allow = {"amount": ["missing share"]}
        assert findings_of(tmp_path, validation={"allow": allow}) == ()
        found = findings_of(tmp_path, validation={"allow": allow}, split={"train": 1})
        assert only(found).rule == "empty column"


class TestLeaksOfManyClasses:
    def score(self, feature, target):
        return lone_score(pd.Series(feature), pd.Series(target), Task.MULTICLASS)

    def test_a_column_that_tells_one_class_apart_is_honest(self):
        flowers = load_iris(as_frame=True)
        best = max(self.score(flowers.data[name], flowers.target) for name in flowers.data)
        assert 0.85 < best < 0.95

    def test_a_column_that_tells_all_classes_apart_is_a_leak(self):
        rng = np.random.default_rng(0)
        classes = rng.integers(0, 4, 2000)
        assert self.score(classes * 10 + rng.random(2000), classes) > 0.99
        assert self.score(rng.random(2000), classes) == 0.5

    def test_a_column_that_is_filled_in_for_one_class_alone_is_a_leak(self):
        rng = np.random.default_rng(0)
        classes = rng.choice(["kept", "returned", "lost"], 2000, p=[0.6, 0.3, 0.1])
        assert self.score(np.where(classes == "lost", rng.random(2000), np.nan), classes) == 1


class TestTheMessage:
    def test_refusal_lists_each_finding_on_a_line(self, tmp_path, months):
        change(months[2], amount=np.nan)
        with pytest.raises(DataError) as caught:
            require_valid(validate(tmp_path, toy_params()))
        assert str(caught.value).splitlines() == [
            "the data break 1 rule:",
            "  2024-03: amount: missing share: 100% missing, 6% in the partitions before; if that is right: "
            "validation.allow: {amount: [missing share]}",
            "  hint: correct the rows at their source, or, if they are right, the schema or params.yaml: validation",
        ]
