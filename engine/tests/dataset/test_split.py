"""The split goes by time and keeps every row once."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import Part, divide, make_split, read_parts
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
