"""A trained toy model."""

from functools import partial

import pytest

from toy_data import train_toy


@pytest.fixture
def trained(tmp_path):
    """Train the toy problem in `tmp_path`; a function of changed params."""
    return partial(train_toy, tmp_path)
