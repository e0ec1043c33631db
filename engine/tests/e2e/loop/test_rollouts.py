"""A model comes as a candidate, rolls out, and becomes stable or is taken off: real pipeline, real git, local forge."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from forge_with_buttons import ForgeWithButtons
from loopback import answering
from mergeline.manifest.schema import read_manifest
from mergeline.serve.rollout.state import identity_of

pytestmark = pytest.mark.slow

CANARY = {"strategy": "canary", "steps": [{"weight": 5, "hold": "15m"}]}


def spec(project):
    return read_manifest(project.root / "deploy" / "manifest.yaml").spec


def status(project, phase, reason=""):
    found = spec(project)
    rollout = {
        "candidate": found.candidate.digest,
        "identity": identity_of(found.candidate.digest, found.rollout),
        "phase": phase,
        "reason": reason,
        "started": "2026-01-01T00:00:00+00:00",
    }
    return {"name": "orders", "rollout": rollout}


@pytest.fixture
def server():
    """Answers GET with what a test says the server's status is."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(self.server.document).encode())

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    with answering(server):
        yield server


def pull_main(project):
    project.git.run("pull", "--quiet", "origin", "main")


def test_a_candidate_is_proposed_merged_concluded_and_its_successor_taken_off(released, server):
    forge, url = ForgeWithButtons(released.root.parent / "forge"), f"http://127.0.0.1:{server.server_port}/status"
    released.set_params(model={"arguments": {"C": 0.9}}, release=CANARY, gate={"margin": 0.1})
    first = spec(released).stable
    released.mergeline("propose")
    assert (spec(released).stable, spec(released).candidate.version) == (first, 2)
    assert spec(released).rollout.steps[0].weight == 5
    released.mergeline("verify")
    assert "unchanged" not in released.mergeline("propose").stdout
    released.commit_all("A candidate")
    assert "unchanged" in released.mergeline("propose").stdout
    assert released.git.changed() == ()

    server.document = status(released, "progressing")
    assert "wait: progressing" in released.mergeline("rollout", "status", "--url", url, "--pull-request").stdout
    assert forge.list_open() == ()
    server.document = status(released, "passed")
    done = released.mergeline("rollout", "status", "--url", url, "--pull-request")
    (pull,) = forge.list_open()
    assert f"pull request #{pull.number}" in done.stdout
    forge.merge(pull.number)
    before = released.git.run("rev-parse", "HEAD")
    pull_main(released)
    assert (spec(released).stable.version, spec(released).previous, spec(released).candidate) == (2, first, None)
    released.mergeline("verify", "--before", before)
    assert "nothing rolls out" in released.mergeline("rollout", "status", "--pull-request").stdout

    released.set_params(model={"arguments": {"C": 0.8}})
    released.mergeline("propose")
    released.commit_all("Another candidate")
    server.document = status(released, "failed", "guard errors: 12 of 12 failed")
    released.mergeline("rollout", "status", "--url", url, "--pull-request")
    (pull,) = forge.list_open()
    forge.merge(pull.number)
    pull_main(released)
    (hold,) = spec(released).holds
    assert (hold.version, hold.reason) == (3, "guard errors: 12 of 12 failed")
    assert spec(released).stable.version == 2
    released.mergeline("verify")
    assert "is under a hold" in released.mergeline("propose", code=1).stderr


def test_from_shadow_to_canary_to_stable_is_one_param(released):
    shadow = {**CANARY, "strategy": "shadow"}
    released.set_params(model={"arguments": {"C": 0.9}}, release=shadow, gate={"margin": 0.1})
    released.mergeline("propose")
    released.commit_all("As a shadow")
    digest = spec(released).candidate.digest
    for strategy, role in (("canary", "candidate"), ("replace", "stable")):
        released.set_params(release={"strategy": strategy})
        released.mergeline("propose")
        found = spec(released)
        assert (getattr(found, role).digest, getattr(found, role).version) == (digest, 2)
        assert found.rollout.strategy == strategy
        released.commit_all(f"To {strategy}")
    assert spec(released).candidate is None
    released.mergeline("verify")
