"""The data gate on files: CSV, types of Parquet, and files or schemas that are broken."""

import datetime as dt
import decimal
import re

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from toy.schema import Orders
from validate_samples import change, findings_of, only

from mergeline.dataset.partitions import list_partitions, read_partition
from mergeline.dataset.schema import load_schema
from mergeline.errors import CodeError, DataError
from toy_data import orders, toy_params


class TestCsv:
    def write(self, tmp_path, change):
        (tmp_path / "data").mkdir()
        frame = orders("2024-01", 300).astype({"placed": "str", "amount": "str"})
        (tmp_path / "data" / "2024-01.csv").write_text(change(frame).to_csv(index=False))
        return tmp_path / "data" / "2024-01.csv"

    def test_na_is_a_text_in_a_text_column_and_missing_in_a_number(self, tmp_path):
        self.write(
            tmp_path, lambda frame: frame.assign(channel="NA", amount=frame["amount"].where(frame.index > 9, "NA"))
        )
        assert findings_of(tmp_path) == ()

    def test_a_row_with_more_cells_than_the_header_is_refused(self, tmp_path):
        path = self.write(tmp_path, lambda frame: frame)
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(f"{row}," for row in rows)]))
        assert findings_of(tmp_path) == ()  # an empty last cell shifts nothing
        path.write_text("\n".join([head, *(f"{row},9" for row in rows)]))
        with pytest.raises(DataError, match="more cells than the header"):
            findings_of(tmp_path)

    @pytest.mark.parametrize("decimal", [".", ","])
    def test_another_separator_is_refused_and_the_conversion_works(self, tmp_path, decimal):
        path = self.write(tmp_path, lambda frame: frame)
        rows = pd.read_csv(path)
        rows.to_csv(path, index=False, sep=";", decimal=decimal)
        with pytest.raises(DataError, match="separated by `;`, not by commas") as caught:
            findings_of(tmp_path)
        assert ("decimal comma" in caught.value.what) == (decimal == ",")
        separator, shown = re.search(r"sep='(.)'(, decimal=\",\")?\)\.to_parquet\('2024-01", caught.value.hint).groups()
        assert (shown is not None) == (decimal == ",")
        pd.read_csv(path, sep=separator, decimal=decimal).to_parquet(path.with_suffix(".parquet"))
        path.unlink()
        assert findings_of(tmp_path) == ()

    def test_decimal_commas_between_quotes_are_told_as_such(self, tmp_path):
        self.write(tmp_path, lambda frame: frame.assign(amount=frame["amount"].str.replace(".", ",")))
        assert only(findings_of(tmp_path)).meaning == "a decimal comma: write 1.5, not 1,5"

    def test_rows_with_too_few_cells_are_refused_not_shifted(self, tmp_path):
        path = self.write(tmp_path, lambda frame: frame)
        head, *rows = path.read_text().splitlines()
        cut = [row.rpartition(",")[0] if number % 10 == 0 else row for number, row in enumerate(rows)]
        path.write_text("\n".join([head, *cut]))
        with pytest.raises(DataError, match=r"30 of 300 rows have fewer cells .* names 8 \(row 1: 7, row 11: 7"):
            findings_of(tmp_path)

    @pytest.mark.parametrize(
        ("cells", "refusal"),
        [
            ({3: '"fragile', 7: '"fragile'}, "row 4 has a quote that does not enclose its cell"),
            ({3: '"fragile'}, "row 4 has a quote that does not enclose its cell"),
            ({3: '"5', 7: '5"'}, "row 4 swallows the lines after it: .* ends 4 lines below"),
        ],
    )
    def test_a_quote_that_swallows_rows_is_refused_with_the_row(self, tmp_path, cells, refusal):
        path = self.write(tmp_path, lambda frame: frame)
        head, *rows = path.read_text().splitlines()
        for row, cell in cells.items():
            before, channel, after = rows[row].split(",")[:3], cell, rows[row].split(",")[4:]
            rows[row] = ",".join([*before, channel, *after])
        path.write_text("\n".join([head, *rows]))
        with pytest.raises(DataError, match=refusal):
            findings_of(tmp_path)

    def test_well_quoted_text_of_several_lines_is_text(self, tmp_path):
        text = 'two lines,\nwith a comma, and "quotes"'
        self.write(tmp_path, lambda frame: frame.assign(channel=text))
        assert findings_of(tmp_path) == ()

    def test_a_name_that_stands_twice_in_the_header_is_refused_with_both_places(self, tmp_path):
        path = self.write(tmp_path, lambda frame: frame)
        path.write_text(path.read_text().replace("region", "items", 1))
        with pytest.raises(DataError, match=r"2 columns are called 'items': 3 and 6"):
            findings_of(tmp_path)

    def test_times_with_several_zones_are_read_as_utc(self, tmp_path):
        zones = lambda frame: frame["placed"] + ["+01:00" if row % 2 else "+02:00" for row in frame.index]  # noqa: E731
        self.write(tmp_path, lambda frame: frame.assign(placed=zones(frame)))
        assert {finding.rule for finding in findings_of(tmp_path)} <= {"outside the partition"}

    def test_dates_and_times_may_be_mixed_but_not_the_american_way(self, tmp_path):
        mixed = lambda frame: frame["placed"].where(frame.index > 0, "2024-01-01")  # noqa: E731
        self.write(tmp_path, lambda frame: frame.assign(placed=mixed(frame)))
        assert findings_of(tmp_path) == ()
        (tmp_path / "data" / "2024-01.csv").write_text(
            (tmp_path / "data" / "2024-01.csv").read_text().replace("2024-01-01,", "01/02/2024,")
        )
        assert "ISO 8601" in only(findings_of(tmp_path)).meaning

    def test_a_byte_order_mark_does_not_matter(self, tmp_path):
        path = self.write(tmp_path, lambda frame: frame)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert findings_of(tmp_path) == ()


class TestTypesOfParquet:
    """What a Parquet file says of a column, against what the schema says."""

    @pytest.mark.parametrize(
        ("column", "value", "meaning"),
        [
            ("amount", pd.Timedelta("5s"), "a duration"),
            ("amount", pd.Timestamp("2024-01-01"), "a time, not a number"),
            ("items", pd.Timestamp("2024-01-01", tz="Europe/Berlin"), "a time, not a whole number"),
            ("items", np.timedelta64(5, "ms"), "a duration"),
            ("amount", dt.date(2024, 1, 1), "not a number"),
            ("amount", b"5", "not a number"),
            ("placed", 1704067200, "not a time"),
            ("placed", pd.Timedelta("5s"), "not a time"),
            ("channel", 1.5, "not a text"),
            ("channel", True, "not a text"),
            ("channel", [1, 2], "not a text"),
            ("channel", {"a": 1}, "not a text"),
            ("channel", b"\xfb", "not a text"),
            ("channel", pd.Timestamp("2024-01-01"), "a time, not a text"),
            ("channel", float(2**60), "not a text"),
        ],
    )
    def test_a_column_of_another_type_is_a_finding(self, tmp_path, months, column, value, meaning):
        frame = pd.read_parquet(months[0])
        change(months[0], **{column: pd.Series([value] * len(frame))})
        finding = only([found for found in findings_of(tmp_path) if found.partition == "2024-01"])
        assert (finding.column, finding.rule, finding.rows) == (column, "type", 400)
        assert finding.meaning.startswith(meaning)

    def test_missing_durations_are_no_numbers_either(self, tmp_path, months):
        waited = pd.to_timedelta(pd.read_parquet(months[0])["amount"], unit="s")
        change(months[0], amount=waited)
        assert only(findings_of(tmp_path)).rows == int(waited.notna().sum())

    def test_times_may_differ_in_their_unit(self, tmp_path, months):
        for path, unit in zip(months, ("s", "ms", "ns"), strict=True):
            change(path, placed=pd.read_parquet(path)["placed"].astype(f"datetime64[{unit}]"))
        assert findings_of(tmp_path) == ()

    @pytest.mark.parametrize("kind", ["int64", "float64", "object"])
    def test_a_whole_number_in_a_text_column_is_written_as_one(self, tmp_path, months, kind):
        change(months[0], channel=pd.Series([10115] * 400, dtype=kind))
        schema = load_schema(toy_params().data)
        frame = read_partition(list_partitions(tmp_path / "data")[0], schema)
        assert set(frame["channel"]) == {"10115"}

    def test_ids_are_told_to_be_equal_whatever_their_type(self, tmp_path, months):
        for place, (path, kind) in enumerate(zip(months, ("int64", "float64", "str"), strict=True)):
            change(path, order=pd.Series(range(place, 1200 + place, 3), dtype="int64").astype(kind))
        assert findings_of(tmp_path) == ()
        change(months[1], order=pd.Series([*range(1, 1198, 3), 0], dtype="float64"))
        assert only(findings_of(tmp_path)).meaning == "it stands in an earlier partition too"

    def test_uuids_are_read_as_text(self, tmp_path, months):
        written = months[0].with_name("written.parquet")
        frame = duckdb.read_parquet(str(months[0])).project('uuid() AS "order", * EXCLUDE ("order")')
        frame.write_parquet(str(written))
        ids = duckdb.read_parquet(str(written)).project('"order"').fetchall()
        written.replace(months[0])
        frame = read_partition(list_partitions(tmp_path / "data")[0], load_schema(toy_params().data))
        assert list(frame["order"]) == [str(row[0]) for row in ids]
        assert findings_of(tmp_path) == ()

    def test_a_name_that_two_columns_have_is_refused(self, tmp_path, months):
        table = pq.read_table(months[0])
        pq.write_table(table.append_column("items", table["items"]), months[0])
        with pytest.raises(DataError, match="2 columns are called 'items': 6 and 9"):
            findings_of(tmp_path)

    def test_categories_and_decimals_are_read_as_what_they_hold(self, tmp_path, months):
        frame = pd.read_parquet(months[0])
        amount = [None if np.isnan(cell) else decimal.Decimal(f"{cell:.2f}") for cell in frame["amount"]]
        change(months[0], channel=frame["channel"].astype("category"), amount=amount)
        assert findings_of(tmp_path) == ()


class TestBrokenFiles:
    def test_a_truncated_parquet_file_is_told_with_its_path(self, tmp_path, months):
        months[1].write_bytes(months[1].read_bytes()[:2000])
        with pytest.raises(DataError, match=r"2024-02\.parquet: the file is damaged") as caught:
            findings_of(tmp_path)
        assert "`dvc checkout data` brings that back" in str(caught.value)

    def test_an_empty_csv_is_told(self, tmp_path, months):
        months[1].unlink()
        months[1].with_suffix(".csv").write_text("")
        with pytest.raises(DataError, match="the file is damaged"):
            findings_of(tmp_path)

    def test_the_same_period_twice_is_refused(self, tmp_path, months):
        months[1].with_suffix(".csv").write_text("order\n")
        with pytest.raises(DataError, match="there twice"):
            findings_of(tmp_path)

    def test_a_file_of_another_kind_is_refused(self, tmp_path, months):
        (tmp_path / "data" / "notes.xlsx").write_text("")
        with pytest.raises(DataError, match="neither a Parquet nor a CSV"):
            findings_of(tmp_path)

    def test_no_data_says_how_to_fetch_them(self, tmp_path):
        with pytest.raises(DataError, match="dvc pull"):
            findings_of(tmp_path)


class TestBrokenSchema:
    def test_a_missing_module_is_told(self, tmp_path, months):
        with pytest.raises(CodeError, match="cannot import 'toys.schema'"):
            findings_of(tmp_path, data={"schema": "toys.schema:Orders"})

    def test_a_misspelt_schema_is_guessed(self, tmp_path, months):
        with pytest.raises(CodeError, match="did you mean 'Orders'"):
            findings_of(tmp_path, data={"schema": "toy.schema:Order"})

    def test_something_else_than_a_schema_is_refused(self, tmp_path, months):
        with pytest.raises(CodeError, match="is a str"):
            findings_of(tmp_path, data={"schema": "toy.schema:NotASchema"})

    def test_a_misspelt_target_is_guessed(self, tmp_path, months):
        with pytest.raises(DataError, match="did you mean 'returned'"):
            findings_of(tmp_path, data={"target": "return"})

    def test_a_time_that_is_no_time_is_refused(self, tmp_path, months):
        with pytest.raises(DataError, match="not a time"):
            findings_of(tmp_path, data={"time": "items"})

    def test_names_that_differ_by_case_only_are_refused(self, tmp_path, months, monkeypatch):
        schema = Orders.to_schema()
        monkeypatch.setattr("toy.schema.Orders", schema.add_columns({"Amount": schema.columns["amount"]}))
        with pytest.raises(DataError, match="columns 'amount' and 'Amount' differ by case only"):
            findings_of(tmp_path)
