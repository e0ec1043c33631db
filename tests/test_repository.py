"""What must hold for every pull request. These tests are yours: add those of your features. They take seconds."""

import numpy as np
import pytest
from mergeline.testing import failed_checks, fit_sample, read_sample


@pytest.fixture(scope="module")
def sample():
    """Rows of the newest partition."""
    return read_sample()


@pytest.fixture(scope="module")
def model(sample):
    """Your pipeline, fitted on them."""
    return fit_sample(sample)


def test_the_newest_rows_keep_the_schema(sample):
    assert sample.broken_rules() == []


def test_the_pipeline_fits_and_gives_finite_scores(model):
    assert np.isfinite(model.scores()).all()


def test_the_server_gives_the_scores_of_scikit_learn(model):
    assert model.largest_difference() <= 1e-9


def test_what_the_manifest_names_is_in_the_store_and_signed_as_asked():
    assert failed_checks() == []
