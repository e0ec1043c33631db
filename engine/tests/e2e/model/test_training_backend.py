"""A model that was fitted on a Dask cluster of two workers is the one that is fitted here."""

import json
from pathlib import Path

import pytest
from isolated import beside_engine

from local_github.processes import free_port

pytestmark = pytest.mark.slow


def test_a_cluster_of_two_workers_makes_the_same_models_and_says_why_it_cannot(tmp_path):
    told = beside_engine(
        Path(__file__).with_name("trained_on_dask.py"), tmp_path, f"dask://127.0.0.1:{free_port()}",
        packages=("distributed==2026.8.0",), tests=("packages",),
    )  # fmt: skip
    found = json.loads(told.splitlines()[-1])
    for factory, (here, there) in found["made"].items():
        assert here == there, factory
    assert len({digest for digest, _ in found["made"].values()}) == 3
    assert found["tasks"] > 10
    unreachable, shared, strangers, empty = found["errors"]
    assert unreachable == "the scheduler does not answer within 10 s"
    assert "differs in step 'calibratedclassifiercv' (CalibratedClassifierCV)" in shared
    assert "has other libraries or other code than are here" in strangers
    assert empty == "the scheduler has no workers after 10 s"
