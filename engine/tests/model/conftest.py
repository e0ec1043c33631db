"""A trained toy model."""

import pytest

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import make_split
from mergeline.model.train import train
from toy_data import toy_params, write_months


@pytest.fixture
def trained(tmp_path):
    """Train the toy problem in `tmp_path`; returns a function of changed params."""
    write_months(tmp_path / "data")

    def run(**sections):
        params = toy_params(**sections)
        split = make_split(tmp_path, params.data, params.split, load_schema(params.data))
        train(tmp_path, params, split, tmp_path / "model")
        return tmp_path / "model"

    return run
