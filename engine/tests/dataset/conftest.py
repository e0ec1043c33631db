"""The months of data that the data gate is tried on."""

import pytest

from toy_data import write_months


@pytest.fixture
def months(tmp_path):
    return write_months(tmp_path / "data")
