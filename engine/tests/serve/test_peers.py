from __future__ import annotations

import http.server
import json
from contextlib import contextmanager

import pytest
from rollout_samples import START, make_served, make_serving

from loopback import answering
from mergeline.params import GuardParams
from mergeline.serve.rollout.controller import RolloutController
from mergeline.serve.rollout.peers import MOST_CHARACTERS, Peers, failure_of
from mergeline.serve.rollout.state import Phase, identity_of
from mergeline.serve.state import CurrentState, State

FAILED = {"rollout": {"identity": "sha256:1", "phase": "failed", "reason": "guard errors: 9 of 9 requests failed"}}


@contextmanager
def peer(content: bytes, moved_to: str = ""):
    """A server that gives `content` to whoever asks; yields its `host:port` and the paths and keys that were asked.

    Where it moved, it sends them there first.
    """
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["x-api-key"]))
            self.send_response(302 if moved_to else 200)
            if moved_to:
                self.send_header("Location", moved_to)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    with answering(server):
        yield f"127.0.0.1:{server.server_address[1]}", asked


def test_the_reason_of_the_same_rollout_comes_with_the_server_that_gave_it():
    with peer(json.dumps(FAILED).encode()) as (place, asked):
        peers = Peers(["127.0.0.1:1", place], "secret")
        assert peers.failure("sha256:1") == ""
        peers.ask()
        assert peers.failure("sha256:1") == f"guard fleet: {place}: guard errors: 9 of 9 requests failed"
        assert asked == [("/status", "secret")]
        assert peers.failure("sha256:2") == ""


def test_the_key_goes_to_nobody_that_a_server_sends_it_to():
    with peer(b"{}") as (other, overheard), peer(b"", moved_to=f"http://{other}/theirs") as (place, asked):
        peers = Peers([place], "secret")
        peers.failure("sha256:1")
        peers.ask()
    assert asked == [("/status", "secret")]
    assert overheard == [("/theirs", None)]


def test_a_reason_that_travelled_names_the_first_server_alone():
    told = {"rollout": {**FAILED["rollout"], "reason": "guard fleet: 10.0.0.1:3000: guard errors: 9 of 9"}}
    with peer(json.dumps(told).encode()) as (place, _):
        peers = Peers([place])
        peers.failure("sha256:1")
        peers.ask()
        assert peers.failure("sha256:1") == "guard fleet: 10.0.0.1:3000: guard errors: 9 of 9"


@pytest.mark.parametrize("content", [b"", b"[" * 5000, b"null", b'{"rollout": null}', b'{"rollout": [1]}', b"\xff"])
def test_what_is_no_status_changes_nothing(content):
    with peer(content) as (place, _):
        peers = Peers([place, "no-such-host.invalid:3000"])
        peers.failure("sha256:1")
        peers.ask()
        assert peers.failure("sha256:1") == ""


def test_only_a_failure_of_this_very_rollout_counts():
    assert failure_of(FAILED, "sha256:1")
    assert not failure_of(FAILED, "sha256:2")
    assert not failure_of({"rollout": {**FAILED["rollout"], "phase": "passed"}}, "sha256:1")
    wild = failure_of({"rollout": {**FAILED["rollout"], "reason": "\n::error::" + "x" * 9999}}, "sha256:1")
    assert "\n" not in wild
    assert len(wild) == MOST_CHARACTERS


def test_a_candidate_that_another_server_aborted_answers_nobody_here_either(tmp_path):
    serving = make_serving(make_served(tmp_path), make_served(tmp_path, version=2), analysis=[])
    identity = identity_of(serving.rolling_out, serving.rollout)
    with peer(json.dumps({"rollout": {**FAILED["rollout"], "identity": identity}}).encode()) as (place, _):
        peers, current = Peers([place]), CurrentState(State(serving))
        controller = RolloutController(
            current, tmp_path / "state", tmp_path / "run", GuardParams(), peers, clock=lambda: START
        )
        controller.update()
        assert controller.plan.weight == 5
        peers.ask()
        controller.update()
    assert controller.state.phase is Phase.FAILED
    assert controller.state.reason.startswith("guard fleet: ")
    assert controller.plan.candidate is None
    controller.stop()
