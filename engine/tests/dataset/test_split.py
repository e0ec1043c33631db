"""The split goes by time, or by a draw that growing data keep, and keeps every row once."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import Part, divide, make_split, read_parts, require_judgeable
from mergeline.errors import DataError
from mergeline.params import SplitParams
from toy_data import orders, toy_params, write_months


def part(number, rows):
    return Part(partition=f"2024-{number:02d}", file=f"{number}.parquet", sha256="0" * 64, first=0, last=rows)


def make(root, **split):
    params = toy_params(split=split)
    return make_split(root, params.data, params.split, load_schema(params.data)), params


class TestDivide:
    @given(
        sizes=st.lists(st.integers(2, 50), min_size=2, max_size=12),
        holdout=st.integers(1, 11),
        train=st.integers(1, 12),
    )
    def test_older_partitions_train_and_newer_ones_judge(self, sizes, holdout, train):
        parts = [part(index + 1, rows) for index, rows in enumerate(sizes)]
        if holdout >= len(parts):
            with pytest.raises(DataError, match="none is left to train on"):
                divide(parts, SplitParams(holdout=holdout))
            return
        split = divide(parts, SplitParams(holdout=holdout, train=train))
        assert list(split.holdout) == parts[-holdout:]
        assert list(split.train) == parts[:-holdout][-train:]

    @given(rows=st.integers(2, 10_000), share=st.floats(0, 1))
    def test_one_partition_is_cut_once(self, rows, share):
        try:
            split = divide([part(1, rows)], SplitParams(holdout_share=share))
        except DataError:
            assert round(rows * share) >= rows
            return
        assert split.train[0].first == 0
        assert split.train[0].last == split.holdout[0].first
        assert split.holdout[0].last == rows
        assert split.holdout[0].last > split.holdout[0].first


class TestReading:
    def test_rows_come_in_the_order_of_time_though_the_file_is_shuffled(self, tmp_path):
        (tmp_path / "data").mkdir()
        orders(rows=300).sample(frac=1, random_state=1).to_csv(tmp_path / "data" / "all.csv", index=False)
        split, params = make(tmp_path)
        schema = load_schema(params.data)
        train = read_parts(split.train, tmp_path, schema, params.data)
        holdout = read_parts(split.holdout, tmp_path, schema, params.data)
        assert (len(train), len(holdout)) == (240, 60)
        assert train["placed"].max() <= holdout["placed"].min()

    def test_data_changed_after_the_split_are_refused(self, tmp_path):
        months = write_months(tmp_path / "data")
        split, params = make(tmp_path)
        orders("2024-03", seed=9).to_parquet(months[2], index=False)
        with pytest.raises(DataError, match="not the one that was split"):
            read_parts(split.holdout, tmp_path, load_schema(params.data), params.data)

    def test_the_holdout_has_one_identity(self, tmp_path):
        months = write_months(tmp_path / "data")
        before = make(tmp_path)[0].holdout_digest
        assert make(tmp_path, train=1)[0].holdout_digest == before
        frame = pd.read_parquet(months[2])
        frame.assign(items=frame["items"] + 1).to_parquet(months[2], index=False)
        assert make(tmp_path)[0].holdout_digest != before


class TestDraws:
    def sides(self, root, **split):
        made, params = make(root, **split)
        schema = load_schema(params.data)
        return [read_parts(parts, root, schema, params.data) for parts in (made.train, made.holdout)]

    @pytest.mark.parametrize(
        "split", [{"kind": "random"}, {"kind": "stratified"}, {"kind": "groups", "groups": "channel"}]
    )
    def test_every_row_is_on_one_side_and_the_split_is_the_same_again(self, tmp_path, split):
        months = write_months(tmp_path / "data")
        train, holdout = self.sides(tmp_path, **split)
        every = pd.concat([pd.read_parquet(month) for month in months])["order"]
        assert sorted([*train["order"], *holdout["order"]]) == sorted(every)
        assert 0 < len(holdout) < len(train)
        again = self.sides(tmp_path, **split)
        pd.testing.assert_frame_equal(holdout, again[1])

    def test_a_stratified_split_keeps_the_share_of_each_class_in_a_file_sorted_by_class(self, tmp_path):
        (tmp_path / "data").mkdir()
        rows = orders(rows=500).sort_values("returned").assign(returned=[False] * 480 + [True] * 20)
        rows.to_parquet(tmp_path / "data" / "all.parquet")
        _, holdout = self.sides(tmp_path, kind="stratified")
        assert (len(holdout), int(holdout["returned"].sum())) == (100, 4)

    def test_a_group_is_never_on_both_sides(self, tmp_path):
        write_months(tmp_path / "data")
        train, holdout = self.sides(tmp_path, kind="groups", groups="items", holdout_share=0.4)
        assert set(train["items"]).isdisjoint(holdout["items"])
        assert len(holdout) / 1200 == pytest.approx(0.4, abs=0.11)

    def test_a_row_stays_on_its_side_when_data_are_added(self, tmp_path):
        write_months(tmp_path / "data", months=2, rows=1000)
        before = set(self.sides(tmp_path, kind="random")[1]["order"])
        write_months(tmp_path / "data", months=3, rows=1000)
        after = set(self.sides(tmp_path, kind="random")[1]["order"])
        assert len(before - after) < 0.1 * len(before)

    def test_without_an_id_equal_rows_come_to_one_side(self, tmp_path):
        (tmp_path / "data").mkdir()
        row = orders(rows=200)
        pd.concat([row, row]).to_parquet(tmp_path / "data" / "all.parquet")
        params = toy_params(data={"id": None}, split={"kind": "random"})
        schema = load_schema(params.data)
        made = make_split(tmp_path, params.data, params.split, schema)
        train, holdout = (read_parts(part, tmp_path, schema, params.data) for part in (made.train, made.holdout))
        assert set(train["order"]).isdisjoint(holdout["order"])

    def test_a_misspelt_column_of_groups_is_guessed(self, tmp_path):
        write_months(tmp_path / "data")
        with pytest.raises(DataError, match="did you mean 'channel'"):
            make(tmp_path, kind="groups", groups="chanel")

    @pytest.mark.parametrize(
        ("split", "task", "message"),
        [
            ({"kind": "groups"}, "binary", "name the column"),
            ({"kind": "random", "groups": "channel"}, "binary", "with kind: groups and no other"),
            ({"kind": "random", "train": 2}, "binary", "go with kind: time"),
            ({"kind": "stratified"}, "regression", "needs classes"),
        ],
    )
    def test_keys_that_do_not_go_together_are_refused(self, split, task, message):
        with pytest.raises(ValueError, match=message):
            toy_params(split=split, task=task, gate={"metric": "rmse" if task == "regression" else "roc_auc"})

    def test_the_default_is_written_as_it_always_was(self, tmp_path):
        write_months(tmp_path / "data")
        split, params = make(tmp_path)
        assert set(split.model_dump()["train"][0]) == {"partition", "file", "sha256", "first", "last"}
        assert params.training()["split"] == {"holdout": 1, "holdout_share": 0.2, "train": None}


class TestJudgeable:
    def test_a_handful_of_rows_is_refused(self):
        with pytest.raises(DataError, match="the holdout has 9 rows, too few") as refusal:
            require_judgeable(orders(rows=9), toy_params())
        assert "split.holdout" in refusal.value.hint

    def test_no_positives_are_told_as_such(self):
        rows = orders(rows=50).assign(returned=False)
        with pytest.raises(DataError, match="of one class: False, none is True") as refusal:
            require_judgeable(rows, toy_params())
        assert "split.kind: stratified" in refusal.value.hint
