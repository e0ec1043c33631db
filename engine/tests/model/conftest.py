"""Trained toy models."""

import hashlib
import shutil
from functools import partial

import pytest

from toy_data import toy_params, train_toy


@pytest.fixture
def train_anew(tmp_path):
    """Train the toy problem in `tmp_path`; a function of changed params."""
    return partial(train_toy, tmp_path)


@pytest.fixture(scope="session")
def made_models(tmp_path_factory):
    """The folder of the toy models that tests have asked for, each with its data."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def trained(tmp_path, made_models):
    """The same, except that a model that a test has asked for before is copied."""

    def copied(**sections):
        name = hashlib.sha256(toy_params(**sections).model_dump_json().encode()).hexdigest()
        if not (made_models / name / "model").exists():
            train_toy(made_models / name, **sections)
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        shutil.copytree(made_models / name, tmp_path, dirs_exist_ok=True)
        return tmp_path / "model"

    return copied
