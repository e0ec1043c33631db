"""What a rollout comes to, from the words of servers whose step machine is the real one."""

import hashlib
import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from release_examples import release

from loopback import answering
from mergeline.documents import parse
from mergeline.errors import WatchError
from mergeline.evaluate.results import GateOutcome, LabelComparison
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import Manifest
from mergeline.release_params import Rollout
from mergeline.rollout.end import Ending, decide
from mergeline.rollout.status import fetch, read_prometheus, read_status, status_address
from mergeline.serve.rollout import step
from mergeline.serve.rollout.controller import describe
from mergeline.serve.rollout.measure import Reading
from mergeline.serve.state import Serving

START = datetime(2026, 1, 1, tzinfo=UTC)
ERRORS = {"name": "errors", "metric": "error_rate", "interval": "1m", "success": "<= 0.01", "failure": "> 0.05"}
CANARY = Rollout.model_validate(
    {
        "strategy": "canary",
        "steps": [{"weight": 5, "hold": "10m"}, {"weight": 50, "hold": "10m"}],
        "analysis": [ERRORS | {"minSamples": 100}],
    }
)
GOOD, BETWEEN, BAD = Reading(0.0, 500), Reading(0.03, 500), Reading(0.2, 500)
TEXT = promote(promote(empty_manifest("flights"), release(1)), release(2), CANARY)


def manifest(text=TEXT):
    return parse(text, Manifest, "manifest")


def status(minutes, reading=GOOD, *, rollout=CANARY, candidate=None):
    """What a server says at /status after so many minutes of rolling out."""
    digest = candidate or release(2).digest
    state, now = step.start(rollout, digest, START), START
    for _ in range(minutes * 4):
        now += timedelta(seconds=15)
        readings = {analysis.name: reading for analysis in step.due(rollout, state, now)}
        state = step.advance(rollout, state, readings, now)
    serving = Serving(name="flights", manifest="sha256:0", stable=None, rollout=rollout, rolling_out=digest)
    return json.loads(json.dumps(describe(serving, state, None, now)))


def seen(*documents, text=TEXT):
    return tuple(read_status(document, manifest(text), f"server {n}") for n, document in enumerate(documents))


def comparison(outcome, *, paired=True):
    return LabelComparison(paired=paired, labelled=500, outcome=outcome, gain=None, reading="as the labels say")


class TestDecide:
    def test_without_a_candidate_there_is_nothing(self):
        assert decide(manifest(promote(empty_manifest("flights"), release(1))), (), None).ending is Ending.NOTHING

    def test_steps_that_are_still_to_come_are_waited_for(self):
        found = decide(manifest(), seen(status(5)), None)
        assert (found.ending, found.reason) == (Ending.WAIT, "progressing, step 1 of 2, weight 5 %")

    def test_all_steps_passed_make_it_stable(self):
        assert decide(manifest(), seen(status(30)), None).ending is Ending.FINISH

    def test_a_failed_analysis_takes_it_off_with_the_servers_reason(self):
        found = decide(manifest(), seen(status(5, BAD)), None)
        assert found.ending is Ending.ABORT
        assert "errors" in found.reason

    def test_one_server_that_failed_it_is_enough_and_one_that_passed_is_not(self):
        assert decide(manifest(), seen(status(30), status(5, BAD)), None).ending is Ending.ABORT
        assert decide(manifest(), seen(status(30), status(5)), None).ending is Ending.WAIT

    def test_what_nobody_can_tell_needs_a_person(self):
        found = decide(manifest(), seen(status(5, BETWEEN)), None)
        assert found.ending is Ending.ATTENTION
        assert found.reason.startswith("paused: ")

    def test_a_server_that_still_has_another_candidate_or_section_is_waited_for(self):
        other = status(30, candidate=release(9).digest)
        slower = status(30, rollout=CANARY.model_copy(update={"sticky": "tailnum"}))
        for document in (other, slower, {"rollout": None}):
            assert decide(manifest(), seen(document), None).ending is Ending.WAIT

    def test_a_failure_of_another_rollout_is_not_this_ones(self):
        assert decide(manifest(), seen(status(5, BAD, candidate=release(9).digest)), None).ending is Ending.WAIT

    def test_no_server_at_all_is_no_good_news(self):
        assert decide(manifest(), (), None).ending is Ending.ATTENTION

    def test_a_candidate_that_passed_is_taken_off_where_its_labels_say_it_is_worse(self):
        for paired in (True, False):
            found = decide(manifest(), seen(status(30)), comparison(GateOutcome.WORSE, paired=paired))
            assert (found.ending, found.reason) == (Ending.ABORT, "worse by its labels: as the labels say")

    @pytest.mark.parametrize("outcome", [GateOutcome.BETTER, GateOutcome.EQUIVALENT, None])
    def test_labels_that_say_nothing_against_it_let_it_pass(self, outcome):
        assert decide(manifest(), seen(status(30)), comparison(outcome)).ending is Ending.FINISH

    def test_labels_of_the_same_requests_that_cannot_tell_do_what_the_manifest_says(self):
        rollback = CANARY.model_copy(update={"onInconclusive": "rollback"})
        for rollout, ending in ((CANARY, Ending.ATTENTION), (rollback, Ending.ABORT)):
            text = promote(promote(empty_manifest("flights"), release(1)), release(2), rollout)
            told = seen(status(30, rollout=rollout), text=text)
            assert decide(manifest(text), told, comparison(GateOutcome.INCONCLUSIVE)).ending is ending

    def test_labels_do_not_end_a_rollout_before_its_steps_are_passed(self):
        assert decide(manifest(), seen(status(5)), comparison(GateOutcome.WORSE)).ending is Ending.WAIT


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.server.answer(self.path, self.headers)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/status")
        else:
            self.send_response(200 if found is not None else 401)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode() if not isinstance(found, bytes) else found)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A server on this machine whose answer a test sets."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    server.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        yield server


class TestStatus:
    def test_it_is_read_with_the_key_that_the_server_asks_for(self, server):
        server.answer = lambda path, headers: status(30) if headers.get("x-api-key") == "secret" else None
        told = read_status(fetch(f"{server.url}/status", "secret"), manifest(), server.url)
        assert (told.phase, told.current, told.started) == ("passed", True, START)
        assert [(one.name, one.outcome) for one in told.analyses] == [("errors", "successful")]
        assert told.decisions[-1].kind == "passed"
        with pytest.raises(WatchError, match="status 401"):
            fetch(f"{server.url}/status", "wrong")

    def test_the_servers_root_is_as_good_as_the_address_of_its_status(self, server):
        server.answer = lambda path, headers: path
        for url in (server.url, f"{server.url}/", f"{server.url}/status"):
            assert fetch(status_address(url)) == "/status"
        assert fetch(status_address(f"{server.url}/orders/status")) == "/orders/status"

    def test_the_key_goes_along_where_the_server_redirects_to_itself(self, server):
        keys = {}
        server.answer = lambda path, headers: keys.update({path: headers.get("x-api-key")}) or {}
        assert fetch(f"{server.url}/moved", "secret") == {}
        assert keys == {"/moved": "secret", "/status": "secret"}

    def test_nobody_there_and_nonsense_are_errors_and_no_good_news(self, server):
        server.answer = lambda path, headers: b"<html>"
        with pytest.raises(WatchError, match="no JSON"):
            fetch(server.url)
        with pytest.raises(WatchError, match="no answer"):
            fetch("http://127.0.0.1:9/status")
        with pytest.raises(WatchError, match="not an http address"):
            fetch("file:///etc/passwd")
        for document in ([], {"name": "flights"}, {"rollout": {"phase": 3}}):
            with pytest.raises(WatchError):
                read_status(document, manifest(), "here")

    @pytest.mark.parametrize("url", ["http://127.0.0.1:abc/x", "http://[::1", "http://127.0.0.1:9/a b", "http://", "x"])
    def test_what_is_no_address_is_told(self, url):
        with pytest.raises(WatchError, match=r"not an http address|no answer"):
            fetch(url)

    def test_a_key_that_cannot_be_sent_is_not_told(self, server):
        with pytest.raises(WatchError) as error:
            fetch(server.url, "secret\nkey")
        assert "secret" not in str(error.value)

    def test_a_server_that_speaks_no_http_is_told_in_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def speak():
                caller, _ = listener.accept()
                caller.recv(1000)
                caller.sendall(b"NONSENSE \x1b[2J\r\n\r\n")
                caller.close()

            thread = threading.Thread(target=speak)
            thread.start()
            with pytest.raises(WatchError, match="no answer") as error:
                fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            thread.join()
        assert "\x1b" not in str(error.value)

    @pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"a":' * 100_000], ids=["list", "object"])
    def test_an_answer_that_is_nested_too_deep_is_told(self, server, nested):
        server.answer = lambda path, headers: nested
        with pytest.raises(WatchError, match="no JSON"):
            fetch(server.url)

    def test_a_time_without_a_zone_is_told(self):
        document = status(30)
        document["rollout"]["started"] = "2026-01-01T00:00:00"
        with pytest.raises(WatchError, match="timezone"):
            read_status(document, manifest(), "here")
        document = status(30)
        document["rollout"]["decisions"][0]["at"] = "2026-01-01T00:00:00"
        with pytest.raises(WatchError, match="timezone"):
            read_status(document, manifest(), "here")

    @pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\x0b", "\x1b[1E"])
    def test_what_a_server_says_begins_no_line_of_a_log(self, end):
        document = status(5, BAD)
        document["rollout"]["reason"] = f"errors{end}::error::all is well{end}"
        told = decide(manifest(), seen(document), None)
        for text in (told.reason, *told.reasons):
            assert len(text.splitlines()) == 1
            assert text.isprintable()
        assert told.reason.startswith("errors ")


def prometheus(servers):
    """Answers instant queries as Prometheus does, for servers as (phase, candidate, manifest)."""

    def answer(path, headers):
        query = parse_qs(urlsplit(path).query)["query"][0]
        rows = []
        for name, (phase, candidate, revision) in servers.items():
            here = {"instance": name}
            if query.startswith("mergeline_model_info"):
                rows += [(here | {"role": "stable", "digest": release(1).digest}, 1)]
                rows += [(here | {"role": "candidate", "digest": candidate}, 1)] if candidate else []
            if query.startswith("mergeline_manifest_info"):
                rows.append((here | {"digest": revision}, 1))
            if query.startswith("mergeline_rollout_phase"):
                rows.append((here | {"phase": phase}, 1))
            if query.startswith("mergeline_analysis_value"):
                rows.append((here | {"analysis": "errors"}, 0.001))
        result = [{"metric": labels, "value": [0, str(value)]} for labels, value in rows]
        return {"status": "success", "data": {"resultType": "vector", "result": result}}

    return answer


class TestPrometheus:
    REVISION = "sha256:" + hashlib.sha256(TEXT.encode()).hexdigest()

    def read(self, server, **servers):
        server.answer = prometheus(servers)
        return read_prometheus(fetch, server.url, manifest(), TEXT)

    def test_every_server_counts(self, server):
        mine = release(2).digest
        told = self.read(server, a=("passed", mine, self.REVISION), b=("progressing", mine, self.REVISION))
        assert [(one.where, one.phase, one.current) for one in told] == [
            ("a", "passed", True),
            ("b", "progressing", True),
        ]
        assert decide(manifest(), told, None).ending is Ending.WAIT
        assert told[0].analyses[0].value == 0.001

    def test_a_server_with_another_manifest_is_behind_though_it_says_passed(self, server):
        told = self.read(server, a=("passed", release(2).digest, "sha256:" + "0" * 64))
        assert decide(manifest(), told, None).ending is Ending.WAIT
        told = self.read(server, a=("passed", release(9).digest, self.REVISION))
        assert decide(manifest(), told, None).ending is Ending.WAIT

    def test_no_server_of_this_deployment_is_an_error(self, server):
        with pytest.raises(WatchError, match="no server of flights"):
            self.read(server)

    def test_another_answer_is_an_error(self, server):
        server.answer = lambda path, headers: {"status": "error", "error": "too many\n::error::requests"}
        with pytest.raises(WatchError, match="too many ::error::requests"):
            read_prometheus(fetch, server.url, manifest(), TEXT)
