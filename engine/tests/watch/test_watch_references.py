"""What production is compared with: training, other months, and several at once."""
# ruff: noqa: S608 - names and values are our own

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from production_journal import END, START, Production, draw, finding

from mergeline.errors import DataError, WatchError
from mergeline.model.bin_counts import connect
from mergeline.watch.drift import Change, Finding, Part, Status, least_drift
from mergeline.watch.reference import data_relation
from mergeline.watch.released_model import read_served


def write_month(production, name, shift=0.0, rows=4000, suffix=".parquet"):
    folder = production.root / "data"
    folder.mkdir(exist_ok=True)
    frame = draw(production.rng, rows, shift)
    frame = frame.assign(gift=frame["gift"].astype(bool), placed=pd.Timestamp(f"{name}-01"), returned=True)
    path = folder / f"{name}{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return frame


def moved(production, shift=0.5):
    production.answer(START, END, 0, frame=draw(production.rng, 4000, shift))


def test_a_month_that_looks_alike_takes_the_drift_away(production):
    write_month(production, "2025-03", shift=0.5)
    moved(production)
    alone = production.look()
    both = production.look(watch={"references": ["training", "2025-03"]})
    assert finding(alone, "amount").status is Status.DRIFT
    assert finding(both, "amount").status is not Status.DRIFT
    assert finding(both, "amount").against == "2025-03"
    assert both.references == ("training", "2025-03")


def test_a_column_that_differs_from_every_reference_drifts(production):
    write_month(production, "2025-03", shift=-0.5)
    write_month(production, "2024-03", shift=-0.3)
    moved(production)
    found = finding(production.look(watch={"references": ["training", "same_months"]}), "amount")
    assert found.status is Status.DRIFT
    assert found.against == "training"  # the nearest of the three


def test_same_months_are_those_of_other_years(production):
    for name in ("2024-03", "2025-02", "2025-03", "2026-02", "2026-03"):
        write_month(production, name, rows=200)
    moved(production)
    found = production.look(watch={"references": ["same_months"]})
    assert found.references == ("2024, same months", "2025, same months")
    # A window over the turn of a month takes both.
    early = production.look(end=END - timedelta(days=5), watch={"references": ["same_months"]})
    assert early.references == ("2024, same months", "2025, same months")


def test_no_other_year_is_an_error(production):
    write_month(production, "2026-03")
    moved(production)
    with pytest.raises(WatchError, match="no other year"):
        production.look(watch={"references": ["same_months"]})


def test_an_unknown_partition_is_an_error(production):
    write_month(production, "2025-03")
    moved(production)
    with pytest.raises(WatchError, match="2025-33"):
        production.look(watch={"references": ["2025-33"]})


def test_a_damaged_partition_is_an_error_and_no_drift(production):
    write_month(production, "2025-03")
    (production.root / "data" / "2025-03.parquet").write_bytes(b"PAR1")
    moved(production)
    with pytest.raises(DataError, match="cannot be counted"):
        production.look(watch={"references": ["2025-03"]})


def test_csv_is_read_as_training_reads_it(production):
    frame = write_month(production, "2025-03", suffix=".csv")
    from mergeline.dataset.partitions import list_partitions

    served = read_served(production.root, production.params, production.manifest.spec.stable)
    with connect() as connection:
        relation = data_relation(connection, list_partitions(production.root / "data"), served.signature)
        rows = connection.execute(f"select count(age), sum(gift::int), avg(amount) from {relation}").fetchone()
        kinds = {name: kind for name, kind, *_ in connection.execute(f"describe select * from {relation}").fetchall()}
    assert rows[:2] == (frame["age"].notna().sum(), frame["gift"].sum())
    assert rows[2] == pytest.approx(frame["amount"].mean())
    assert kinds == {"amount": "DOUBLE", "age": "DOUBLE", "gift": "BOOLEAN", "region": "VARCHAR", "it's odd": "VARCHAR"}


class TestWholeRows:
    def test_are_compared_with_training_rows_where_these_are_at_hand(self, production):
        write_month(production, "2026-01")  # the model's lineage names it
        production.answer(START - timedelta(days=7), END, 8000)
        found = production.look()
        assert [each.against for each in found.whole_rows] == ["training", "the window before"]
        assert not any(each.differs for each in found.whole_rows)
        assert found.outcome == "steady"

    def test_leave_out_what_the_model_does_not_use(self, production):
        write_month(production, "2026-01")
        frame = draw(production.rng, 4000)
        production.answer(START, END, 0, frame=frame.assign(age=frame["age"] + 30))
        (found,) = production.look().whole_rows
        assert not found.differs

    def test_show_a_changed_correlation_that_no_column_shows(self, tmp_path):
        production = Production(tmp_path, evaluated=False)
        write_month(production, "2026-01")
        frame = draw(production.rng, 5000)
        frame["age"] = np.clip(49 + (frame["amount"] - 50) * 1.8, 18, 79).round()
        production.answer(START, END, 0, frame=frame)
        (found,) = production.look(watch={"references": ["training"]}).whole_rows
        assert found.differs
        assert {"amount", "age"} <= set(list(found.features)[:2])

    def test_without_anything_to_compare_with_there_are_none(self, production):
        production.answer(START, END, 3000)
        assert production.look().whole_rows == ()


def made(column, status, effect, against):
    return Finding(
        column=column, part=Part.INPUT, change=Change.VALUES, status=status, against=against, effect=effect,
        bound=0.03, q_value=0.0, before=None, after=None, importance=None, measures={},
    )  # fmt: skip


def test_a_test_that_one_reference_did_not_make_is_left_out():
    found = least_drift([[made("a", Status.DRIFT, 0.3, "x"), made("b", Status.DRIFT, 0.3, "x")],
                         [made("a", Status.DRIFT, 0.2, "y")]])  # fmt: skip
    assert [(each.column, each.against) for each in found] == [("a", "y")]
