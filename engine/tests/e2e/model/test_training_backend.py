"""A model that was fitted on a Dask cluster of two workers is the one that is fitted here."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from local_github.processes import free_port
from local_github.tools import find_uv

pytestmark = pytest.mark.slow

ENGINE = Path(__file__).parents[3]


def test_a_cluster_of_two_workers_makes_the_same_models_and_says_why_it_cannot(tmp_path):
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is not installed")
    tests = ENGINE / "tests"
    done = subprocess.run(
        [uv, "run", "--quiet", "--locked", "--with", "distributed==2026.8.0", "python",
         str(Path(__file__).with_name("trained_on_dask.py")), str(tmp_path), f"dask://127.0.0.1:{free_port()}"],
        cwd=ENGINE, env={**os.environ, "PYTHONPATH": f"{tests}:{tests / 'packages'}"}, capture_output=True, text=True,
        check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for factory, (here, there) in found["made"].items():
        assert here == there, factory
    assert len({digest for digest, _ in found["made"].values()}) == 3
    assert found["tasks"] > 10
    unreachable, shared, strangers, empty = found["errors"]
    assert unreachable == "the scheduler does not answer within 10 s"
    assert "differs in step 'calibratedclassifiercv' (CalibratedClassifierCV)" in shared
    assert "has other libraries or other code than are here" in strangers
    assert empty == "the scheduler has no workers after 10 s"
