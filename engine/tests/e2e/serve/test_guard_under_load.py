"""A healthy scikit-learn candidate next to a compiled stable, under all the load that the machine takes."""

from __future__ import annotations

import os
import time

import pytest
import yaml
from serve_clients import Clients
from serve_process import serving
from serve_samples import RECORD, Production

pytestmark = pytest.mark.slow

TRIALS = int(os.environ.get("MERGELINE_GUARD_TRIALS", "2"))
SECONDS = 8


@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("weight", [5, 50])
def test_the_default_guard_leaves_it_in_service(tmp_path, weight, trial):
    production = Production(tmp_path)
    stable, candidate = production.push(seed=1, compiled=True), production.push(seed=1)
    rollout = {"strategy": "canary", "steps": [{"weight": weight, "hold": "1h"}]}
    spec = {"stable": stable.release(1), "candidate": candidate.release(2), "rollout": rollout}
    document = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}, "spec": spec}
    production.write(yaml.safe_dump(document))
    with serving(production) as server:
        server.wait(lambda: (server.status["rollout"] or {}).get("phase") == "progressing")
        with Clients(server.url, count=8) as clients:
            time.sleep(SECONDS)
            for _ in range(20):
                assert server.predict([RECORD] * 50).status_code == 200
        status = server.status
    assert {told.status for told in clients.told} == {200}
    assert status["rollout"]["phase"] == "progressing", status["rollout"]["reason"]
    assert status["counts"]["candidate"]["requests"] > 20
