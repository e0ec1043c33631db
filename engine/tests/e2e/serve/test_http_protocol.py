"""HTTP on the whole server: the short way and the long way, limits, the key, the queue."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serve_clients import Clients
from serve_process import START, Running, serving
from serve_samples import RECORD, Production

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    return Production(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def server(production) -> Iterator[Running]:
    """A server of a compiled model."""
    production.release(production.push(seed=1, compiled=True))
    with serving(production, max_seconds=2, max_records=500) as server:
        server.wait(server.ready)
        yield server


def post(body: bytes, *headers: str, path: str = "/predict", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: x", "content-type: application/json", *headers]
    if not any(header.startswith("transfer-encoding") for header in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def record(key: str, **changes) -> bytes:
    return json.dumps({**RECORD, "flight_id": key, **changes}).encode()


class Wire:
    """A connection that sends bytes as it is told."""

    def __init__(self, server: Running) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=15)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, *pieces: bytes, pause: float = 0.05) -> Wire:
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause if len(pieces) > 1 else 0)
        return self

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer on this connection; status 0 where it was closed instead."""
        line = self._stream.readline()
        if not line:
            return 0, {}, b""
        headers = {}
        while (header := self._stream.readline().strip()) != b"":
            name, value = header.decode().split(":", 1)
            headers[name] = value.strip()
        return int(line.split()[1]), headers, self._stream.read(int(headers.get("content-length", 0)))


class TestBothWays:
    def test_the_long_way_gives_the_same_answer(self, server):
        with Wire(server) as wire:
            _, short_headers, short = wire.send(post(record("a"))).answer()
            _, long_headers, long = wire.send(post(record("a"), "expect: 100-continue")).answer()
            if not long:  # that was the interim answer
                _, long_headers, long = wire.answer()
        assert json.loads(short)["id"] == "a"
        assert short == long
        assert short_headers.keys() == long_headers.keys()
        assert "server" not in short_headers

    def test_a_body_in_pieces_is_read(self, server):
        whole = post(record("pieces"))
        with Wire(server) as wire:
            assert json.loads(wire.send(whole[:30], whole[30:-20], whole[-20:]).answer()[2])["id"] == "pieces"
            assert json.loads(wire.send(post(record("next"))).answer()[2])["id"] == "next"

    def test_a_chunked_body_is_read(self, server):
        body = record("chunks")
        chunked = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
        with Wire(server) as wire:
            status, _, answer = wire.send(post(chunked, "transfer-encoding: chunked")).answer()
        assert (status, json.loads(answer)["id"]) == (200, "chunks")

    def test_answers_come_in_the_order_of_the_questions_when_those_do_not_wait(self, server):
        asked = [post(record("1")), b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n", post(record("2")), post(b"{"),
                 post(record("3")), post(record("4", temp="warm")), post(record("5"))]  # fmt: skip
        with Wire(server) as wire:
            wire.send(b"".join(asked))
            answers = [wire.answer() for _ in asked]
        assert [status for status, _, _ in answers] == [200, 200, 200, 400, 200, 422, 200]
        told = [json.loads(body) for _, _, body in answers]
        assert [answer.get("id") for answer in told] == ["1", None, "2", None, "3", None, "5"]

    def test_a_connection_is_closed_when_the_caller_wants_it(self, server):
        for request in (post(record("a"), "connection: close"), post(record("a"), version="1.0")):
            with Wire(server) as wire:
                assert wire.send(request).answer()[0] == 200
                assert wire.answer()[0] == 0

    @pytest.mark.parametrize("path", ["/metrics", "/status", "/v2/models/flights"])
    def test_who_ends_its_side_first_gets_the_answer(self, server, path):
        with Wire(server) as wire:
            wire.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 2).socket.shutdown(socket.SHUT_WR)
            assert [wire.answer()[0] for _ in range(3)] == [200, 200, 0]

    def test_many_records_take_the_thread_and_keep_their_order(self, server):
        keys = [str(number) for number in range(200)]
        body = b"[" + b",".join(record(key, temp=number / 5) for number, key in enumerate(keys)) + b"]"
        with Wire(server) as wire:
            answers = json.loads(wire.send(post(body)).answer()[2])
        assert [answer["id"] for answer in answers] == keys
        with Wire(server) as wire:
            alone = [json.loads(wire.send(post(record(key, temp=number / 5))).answer()[2]) for number, key in
                     enumerate(keys)]  # fmt: skip
        assert [answer["score"] for answer in answers] == pytest.approx([one["score"] for one in alone], abs=1e-12)


class TestLimits:
    def test_a_long_url_is_refused(self, server):
        with Wire(server) as wire:
            status, headers, _ = wire.send(post(b"{}", path="/" + "x" * 9000)).answer()
        assert (status, headers["connection"]) == (414, "close")

    @pytest.mark.parametrize("count", [1, 400])
    def test_large_headers_are_refused(self, server, count):
        headers = [f"x-{number}: {'y' * (40_000 // count)}" for number in range(count)]
        with Wire(server) as wire:
            status, _, body = wire.send(post(b"{}", *headers)).answer()
        assert (status, json.loads(body)["error"]) == (431, "the headers are too large")

    def test_a_header_without_an_end_is_refused(self, server):
        with Wire(server) as wire:
            wire.send(b"POST /predict HTTP/1.1\r\nx: ")
            sent = 0
            try:
                while sent < 20_000_000:
                    wire.send(b"y" * 20_000)
                    sent += 20_000
            except OSError:
                pass
        assert sent < 5_000_000

    def test_a_head_that_does_not_end_is_given_up(self, server):
        with Wire(server) as wire:
            start = time.monotonic()
            status, _, _ = wire.send(b"POST /predict HTTP/1.1\r\n", b"host: x\r\n", pause=1).answer()
            assert (status, 8 < time.monotonic() - start < 14) == (408, True)

    def test_a_body_that_does_not_come_is_given_up(self, server):
        with Wire(server) as wire:
            status, headers, body = wire.send(post(record("a"))[:-5]).answer()
            assert (status, headers["connection"]) == (408, "close")
            assert "2 seconds" in json.loads(body)["error"]
            assert wire.answer()[0] == 0

    def test_nonsense_is_refused_in_json(self, server):
        with Wire(server) as wire:
            status, headers, body = wire.send(b"HELLO\r\n\r\n").answer()
        assert (status, headers["content-type"]) == (400, "application/json")
        assert "error" in json.loads(body)

    def test_no_other_origin_is_invited(self, server):
        headers = {"origin": "http://elsewhere", "access-control-request-method": "POST"}
        response = server.client.options("/predict", headers=headers)
        assert response.status_code == 405
        answered = server.client.post("/predict", json=RECORD, headers={"origin": "http://elsewhere"})
        assert not [name for name in {**response.headers, **answered.headers} if name.startswith("access-control")]

    @pytest.mark.parametrize("target", ["/status%0d%0ax:y", "/%00", "*", "/%e2%80%a8"])
    def test_a_path_that_nobody_has_is_refused_in_json(self, server, target):
        with Wire(server) as wire:
            status, headers, _ = wire.send(f"OPTIONS {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()).answer()
        assert (status, headers["content-type"]) == (404, "application/json")


class TestProcess:
    def test_it_speaks_through_httptools_and_uvloop(self, server):
        assert "uvloop/loop" in maps(server)
        assert "httptools/parser" in maps(server)

    def test_a_compiled_model_needs_neither_scikit_learn_nor_pandas(self, server):
        server.predict([RECORD] * 40)
        assert server.status["stable"]["scoring"] == "compiled"
        loaded = re.findall(r"site-packages/(sklearn|pandas|scipy|pyarrow|duckdb)/", maps(server))
        assert not loaded

    def test_the_whole_server_takes_less_than_250_megabytes(self, server):
        rollup = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
        (kilobytes,) = re.findall(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)
        assert int(kilobytes) < 250_000


def maps(server: Running) -> str:
    return Path(f"/proc/{server.process.pid}/maps").read_text()


class TestFeedback:
    def test_a_label_finds_its_answer_once(self, server):
        server.predict({**RECORD, "flight_id": "labelled"})
        label = {"id": "labelled", "label": True}
        told = [server.client.post("/feedback", json=label).json() for _ in range(2)]
        assert told == [{"id": "labelled", "outcome": "recorded"}, {"id": "labelled", "outcome": "repeated"}]
        many = server.client.post("/feedback", json=[{"id": "never asked", "label": False}]).json()
        assert many == [{"id": "never asked", "outcome": "unknown"}]

    def test_a_class_that_is_none_is_refused_with_record_and_field(self, server):
        response = server.client.post("/feedback", json=[{"id": 1, "label": True}, {"id": 1, "label": "late"}])
        assert response.status_code == 422
        assert [(each["record"], each["field"]) for each in response.json()["problems"]] == [(1, "label")]


def test_callers_who_hold_connections_take_no_descriptor_that_the_server_needs(tmp_path, monkeypatch):
    production = Production(tmp_path)
    production.release(production.push(seed=1, compiled=True))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); "
    monkeypatch.setattr("serve_process.START", limit + START)
    held: list[socket.socket] = []
    with serving(production, journal={"seal_seconds": 0.5}) as server:
        server.wait(server.ready)
        with Clients(server.url, count=2) as clients:
            end = time.monotonic() + 5
            while time.monotonic() < end:
                held.append(Wire(server).send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").socket)
                if len(held) == 400:
                    held.pop(0).close()
            production.release(production.push(seed=2, compiled=True), number=2)
            server.wait(lambda: server.status["stable"]["version"] == 2)
        status = server.status
    for connection in held:
        connection.close()
    assert clients.cut == []
    assert {told.status for told in clients.told} == {200}
    assert status["journal"]["predictions"] == {"written": len(clients.told), "lost": 0}
    assert (status["journal"]["writing"], status["journal"]["keeper"]["error"]) == (True, None)
    assert "Too many open files" not in server.log.read_text()


def test_without_the_key_only_the_probes_are_answered(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, key="secret ü") as server:
        server.wait(server.ready)
        key = "secret ü".encode()
        good = [{"authorization": b"Bearer " + key}, {"x-api-key": key}]
        for headers in ({}, {"x-api-key": b"secret"}, {"authorization": b"Basic " + key}, {"x-api-key": b""}):
            for method, path in (("POST", "/predict"), ("POST", "/feedback"), ("GET", "/status"), ("GET", "/metrics")):
                response = server.client.request(method, path, headers=headers, json=RECORD)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        for headers in good:
            assert server.client.post("/predict", json=RECORD, headers=headers).status_code == 200
            assert server.client.get("/status", headers=headers).status_code == 200
        assert server.client.get("/livez").status_code == 200
        assert "secret" not in server.client.get("/status", headers=good[0]).text


def test_a_full_queue_sends_callers_away_and_serves_the_others(tmp_path):
    production = Production(tmp_path)
    production.release(production.push())
    with serving(production, max_waiting=2) as server:
        server.wait(server.ready)
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(server.url + "/predict", json=[RECORD] * 50, timeout=30))

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
        assert server.predict(RECORD).status_code == 200
        assert server.status["waiting"] == 0
