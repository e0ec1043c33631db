"""Labelled rows of production become partitions: good, bad, known and late ones are told apart."""

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from mergeline.dataset import Kind
from mergeline.dataset.partitions import MEANINGS, data_digest, list_partitions
from mergeline.dataset.quarantine import (
    ARRIVAL,
    REASON,
    divide_fresh,
    read_known,
    sort_out,
    summarise,
    write_parts,
    write_quarantine,
)
from mergeline.dataset.schema import load_schema
from mergeline.dataset.validate import validate
from mergeline.errors import DataError
from toy_data import orders, toy_params, write_months

PARAMS = toy_params(validation={"min_rows": 50}, retrain={"judge_days": 10})
NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def known(tmp_path):
    write_months(tmp_path / "data", months=2)
    return read_known(tmp_path, PARAMS, load_schema(PARAMS.data))


def fresh(month="2024-03", rows=300):
    """Rows as a journal has them: numbers are doubles, the label is a text."""
    frame = orders(month, rows)
    frame["items"] = frame["items"].astype("float64")
    frame["returned"] = frame["returned"].map({True: "true", False: "false"})
    return frame.assign(**{ARRIVAL: frame["placed"] + pd.Timedelta("1h")})


def sorted_out(rows, known, params=PARAMS, now=NOW):
    return sort_out(rows, known, load_schema(params.data), params, now)


class TestSortOut:
    def test_good_rows_have_the_types_of_the_data(self, known):
        found = sorted_out(fresh(), known)
        assert len(found.good) == 300
        assert found.good.dtypes.to_dict() == known.partitions[0][1].dtypes.to_dict()
        assert (found.known, found.late, len(found.bad)) == (0, 0, 0)
        pd.testing.assert_frame_equal(
            found.good, orders("2024-03", 300).astype(found.good.dtypes.to_dict()), check_like=True
        )

    def test_rows_that_are_in_the_data_are_left_out(self, known):
        rows = pd.concat([fresh("2024-02", 400), fresh()], ignore_index=True)
        found = sorted_out(rows, known)
        assert (found.known, len(found.good)) == (400, 300)

    def test_rows_older_than_the_newest_data_are_late(self, known):
        late = fresh().assign(placed=pd.Timestamp("2024-02-03"))
        found = sorted_out(pd.concat([late, fresh("2024-04")], ignore_index=True), known)
        assert (found.late, len(found.good)) == (300, 300)
        assert found.bad.empty

    def test_each_bad_row_has_its_reasons_and_a_good_one_none(self, known):
        rows = fresh()
        rows.loc[3, "amount"] = -1.0
        rows.loc[4, "items"] = 2.5
        rows.loc[5, "channel"] = None
        rows.loc[6, "returned"] = "maybe"
        rows.loc[7, "placed"] = pd.NaT
        found = sorted_out(rows, known)
        assert len(found.good) == 295
        told = dict(zip(found.bad["order"], found.bad[REASON], strict=True))
        expected = {3: "amount: breaks", 4: "items: not a whole number", 5: "channel: missing",
                    6: "returned: neither true nor false", 7: "placed: missing"}  # fmt: skip
        assert set(told) == {rows.loc[row, "order"] for row in expected}
        for row, words in expected.items():
            assert told[rows.loc[row, "order"]].startswith(words)

    def test_a_class_that_the_data_have_not_is_bad(self, tmp_path):
        params = toy_params(task="multiclass", data={"target": "channel"}, gate={"metric": "log_loss"})
        write_months(tmp_path / "data", months=2)
        rows = fresh()
        rows["returned"] = rows["returned"] == "true"
        schema = load_schema(params.data)
        known = read_known(tmp_path, params, schema)
        rows.loc[9, "channel"] = "fax"
        found = sort_out(rows, known, schema, params, NOW)
        assert len(found.bad) == 1
        assert "fax" in found.bad[REASON][0]

    def test_without_ids_time_tells_what_is_new(self, tmp_path):
        params = toy_params(data={"id": None, "metadata": ["order"]})
        write_months(tmp_path / "data", months=2)
        schema = load_schema(params.data)
        known = read_known(tmp_path, params, schema)
        found = sort_out(pd.concat([fresh("2024-02", 400), fresh()], ignore_index=True), known, schema, params, NOW)
        assert len(found.good) == 300

    def test_a_time_that_is_still_to_come_is_bad_and_makes_no_newest_days(self, known):
        rows = fresh()
        rows.loc[:4, "placed"] = pd.Timestamp("2099-01-01")
        rows.loc[5, "placed"] = pd.Timestamp("2024-06-01 20:00")  # a clock that is ahead
        found = sorted_out(rows, known)
        assert found.bad[REASON].tolist() == ["placed: its time is still to come: Timestamp('2099-01-01 00:00:00')"] * 5
        assert divide_fresh(found, known, PARAMS)[-1].name.endswith("_2024-06-01")

    def test_of_rows_whose_ids_are_one_in_the_data_the_last_good_one_is_taken(self, tmp_path):
        params = toy_params(data={"id": "items", "metadata": ["order"]})
        write_months(tmp_path / "data", months=2)
        schema = load_schema(params.data)
        rows = fresh().assign(items=[str(1000 + row) for row in range(300)])
        rows.loc[7, "items"], rows.loc[8, "items"], rows.loc[9, "amount"] = "01009", "001009", -1.0
        found = sort_out(rows, read_known(tmp_path, params, schema), schema, params, NOW)
        assert found.bad["order"].tolist() == [rows.loc[7, "order"], rows.loc[9, "order"]]
        assert found.bad[REASON][0].startswith("items: a later row has the same id")
        assert found.good["items"].is_unique

    @pytest.mark.parametrize("id_", ["order", None])
    def test_without_times_rows_that_came_by_the_newest_day_of_the_data_are_in_them(self, tmp_path, id_):
        params = toy_params(
            data={"time": None, "id": id_, "metadata": ["placed"] if id_ else ["placed", "order"]},
            validation={"min_rows": 50},
        )
        write_months(tmp_path / "data", months=2)
        schema = load_schema(params.data)
        for rows, expected in ((fresh(), 300), (fresh("2024-04"), 300), (fresh("2024-04"), 0)):
            known = read_known(tmp_path, params, schema)
            found = sort_out(pd.concat([fresh(), rows], ignore_index=True).drop_duplicates("order"), known, schema,
                             params, NOW)  # fmt: skip
            assert len(found.good) == expected
            write_parts(divide_fresh(found, known, params), tmp_path / "data", PARAMS.data)

    def test_no_rows_are_no_error(self, known):
        found = sorted_out(fresh().iloc[:0], known)
        assert found.good.empty
        assert divide_fresh(found, known, PARAMS) == ()


class TestParts:
    def test_the_newest_days_are_a_part_of_their_own(self, known):
        older, judged = divide_fresh(sorted_out(fresh(), known), known, PARAMS)
        assert (older.name, judged.name) == ("2024-03-01_2024-03-18", "2024-03-19_2024-03-28")
        assert judged.rows["placed"].min() >= pd.Timestamp("2024-03-19")
        assert len(older.rows) + len(judged.rows) == 300

    def test_days_before_that_are_too_few_for_a_partition_go_along(self, known):
        rows = fresh()
        rows = rows[rows["placed"] >= "2024-03-17"]
        (only,) = divide_fresh(sorted_out(rows, known), known, PARAMS)
        assert only.name == "2024-03-17_2024-03-28"

    def test_they_pass_the_gate_of_all_data(self, tmp_path, known):
        parts = divide_fresh(sorted_out(fresh(), known), known, PARAMS)
        write_parts(parts, tmp_path / "data", PARAMS.data)
        report = validate(tmp_path, PARAMS)
        assert [str(finding) for finding in report.findings] == []
        assert [part.name for part in report.partitions][2:] == [part.name for part in parts]

    def test_with_a_timezone_they_are_of_its_days_and_read_back_the_same(self, tmp_path):
        params = toy_params(validation={"min_rows": 50}, data={"timezone": "America/New_York"})
        write_months(tmp_path / "data", months=2)
        known = read_known(tmp_path, params, load_schema(params.data))
        rows = fresh()
        rows["placed"] = (rows["placed"] + pd.Timedelta("5h")).dt.tz_localize("UTC")  # New York is behind by five hours
        parts = divide_fresh(sorted_out(rows, known, params), known, params)
        assert [part.name for part in parts] == ["2024-03-01_2024-03-18", "2024-03-19_2024-03-28"]
        write_parts(parts, tmp_path / "data", params.data)
        assert [str(finding) for finding in validate(tmp_path, params).findings] == []
        again = read_known(tmp_path, params, load_schema(params.data))
        for (_, read), part in zip(again.partitions[2:], parts, strict=True):
            assert read["placed"].tolist() == part.rows["placed"].tolist()

    def test_a_span_with_few_labels_is_compared_with_other_spans_by_the_day(self, tmp_path, known):
        days = divide_fresh(sorted_out(fresh(rows=2000), known), known, PARAMS)
        write_parts(days, tmp_path / "data", PARAMS.data)
        again = read_known(tmp_path, PARAMS, load_schema(PARAMS.data))
        few = divide_fresh(sorted_out(fresh("2024-04", 200), again), again, PARAMS)
        write_parts(few, tmp_path / "data", PARAMS.data)
        assert {finding.rule for finding in validate(tmp_path, PARAMS).findings} == {"row count"}

    def test_a_row_outside_its_span_is_found(self, tmp_path, known):
        parts = divide_fresh(sorted_out(fresh(), known), known, PARAMS)
        write_parts(parts, tmp_path / "data", PARAMS.data)
        moved = tmp_path / "data" / f"{parts[-1].name}.parquet"
        moved.rename(moved.with_name("2024-03-21_2024-03-28.parquet"))
        assert "outside the partition" in {finding.rule for finding in validate(tmp_path, PARAMS).findings}

    def test_the_same_rows_are_the_same_bytes(self, tmp_path, known):
        for place in ("one", "two"):
            write_parts(divide_fresh(sorted_out(fresh(), known), known, PARAMS), tmp_path / place, PARAMS.data)
        assert data_digest(tmp_path / "one") == data_digest(tmp_path / "two")

    def test_names_that_would_not_come_last_are_refused(self, tmp_path):
        write_months(tmp_path / "data", months=1)
        (tmp_path / "data" / "2024-01.parquet").rename(tmp_path / "data" / "2030-01.parquet")
        known = read_known(tmp_path, PARAMS, load_schema(PARAMS.data))
        with pytest.raises(DataError, match="would not come after 2030-01"):
            divide_fresh(sorted_out(fresh(), known), known, PARAMS)

    @pytest.mark.parametrize("name", ["batch-1", "subscriptions"])
    def test_periods_come_after_a_first_file_of_any_name(self, tmp_path, name):
        write_months(tmp_path / "data", months=1)
        (tmp_path / "data" / "2024-01.parquet").rename(tmp_path / "data" / f"{name}.parquet")
        known = read_known(tmp_path, PARAMS, load_schema(PARAMS.data))
        parts = divide_fresh(sorted_out(fresh(rows=2000), known), known, PARAMS)
        write_parts(parts, tmp_path / "data", PARAMS.data)
        assert [one.name for one in list_partitions(tmp_path / "data")] == [name, *(part.name for part in parts)]
        orders("2024-04", 20).to_parquet(tmp_path / "data" / "2024-04.parquet", index=False)  # not a twentieth of it
        assert {finding.rule for finding in validate(tmp_path, PARAMS).findings} == {"too few rows"}

    def test_a_partition_that_is_there_is_not_written_over(self, tmp_path, known):
        parts = divide_fresh(sorted_out(fresh(), known), known, PARAMS)
        write_parts(parts, tmp_path / "data", PARAMS.data)
        before = data_digest(tmp_path / "data")
        with pytest.raises(DataError, match="there already"):
            write_parts(parts, tmp_path / "data", PARAMS.data)
        assert data_digest(tmp_path / "data") == before


def test_a_cell_cannot_make_up_reasons(known):
    rows = fresh().astype({"items": object})
    rows.loc[3, "items"] = "x; price: fine; channel: forged: y"
    found = sorted_out(rows, known)
    assert summarise((), found).reasons == {f"items: {MEANINGS[Kind.INTEGER]}": 1}


def test_the_quarantine_is_a_file_that_people_can_read_and_goes_when_it_is_empty(tmp_path, known):
    rows = fresh()
    rows.loc[3, "amount"] = -1.0
    found = sorted_out(rows, known)
    path = write_quarantine(found.bad, tmp_path / "quarantine")
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (line["order"], line["amount"]) == (rows.loc[3, "order"], -1.0)
    told = summarise(divide_fresh(found, known, PARAMS), found)
    assert (told.quarantined, told.rows) == (1, 299)
    assert next(iter(told.reasons)).startswith("amount: breaks")
    assert write_quarantine(found.bad.iloc[:0], tmp_path / "quarantine") is None
    assert not path.exists()
