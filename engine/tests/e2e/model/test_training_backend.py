"""A model that was fitted on a Dask or Ray cluster of two workers is the one that is fitted here."""

import json
from pathlib import Path

import pytest
from isolated import beside_engine

from local_github.processes import free_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("host", "package", "models", "least"),  # work: tasks of Dask; actors of Ray, two for each model
    # Ray takes 127.0.0.1 for a mistake, and replaces it with an address that other machines reach.
    [("dask://127.0.0.1", "distributed==2026.8.0", 3, 10), ("ray://127.0.0.2", "ray[client]==2.60.0", 2, 4)],
    ids=["dask", "ray"],
)
def test_a_cluster_of_two_workers_makes_the_same_models_and_says_why_it_cannot(host, package, models, least, tmp_path):
    backend, nobody = (f"{host}:{free_port()}" for _ in range(2))
    told = beside_engine(
        Path(__file__).with_name("trained_on_cluster.py"), tmp_path, backend, nobody,
        packages=(package,), tests=("packages", "../dev/github"),
        RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    )  # fmt: skip
    found = json.loads(told.splitlines()[-1])
    assert found["there"] == found["here"]
    assert len(set(found["here"])) == models
    assert found["worked"] >= least
    unreachable, empty, shared, strangers = found["errors"]
    assert unreachable == "the cluster does not answer within 10 s"
    assert empty == "the cluster has no workers after 10 s"
    assert "differs in step 'calibratedclassifiercv' (CalibratedClassifierCV)" in shared
    assert "has other libraries or other code than are here" in strangers


@pytest.mark.slow(minutes=3)
@pytest.mark.parametrize(
    ("host", "package"),
    [("dask://127.0.0.1", "distributed==2026.8.0"), ("ray://127.0.0.2", "ray[client]==2.60.0")],
    ids=["dask", "ray"],
)
def test_a_lost_node_changes_no_model_and_a_head_that_hangs_ends_training_in_time(host, package, tmp_path):
    backend = f"{host}:{free_port()}"
    told = beside_engine(
        Path(__file__).with_name("cluster_breaks.py"), tmp_path, backend,
        packages=(package,), tests=("packages", "../dev/github"),
        RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    )  # fmt: skip
    found = json.loads(told.splitlines()[-1])
    lost = f"params.yaml: model.backend: {backend}: the cluster lost 1 of 2 workers"
    assert found["killed"] == found["here"] or found["killed"].startswith(lost), found
    assert found["hung"].startswith(f"params.yaml: model.backend: {backend}: the cluster gave no answer"), found
    assert "start them anew and train again, or set `backend: threads`" in found["hung"]
    assert found["seconds"] < 120  # until the process has ended, for which Ray's client takes a minute more
    assert found["kept"] == found["here"]
    assert found["again"] == found["here"]
    assert {name for name in found["left"] if name.startswith(".")} == set()
