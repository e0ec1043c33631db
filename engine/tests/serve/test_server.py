"""The whole server as its own process, asked over HTTP on the loopback."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from serve_process import Running, serving
from serve_samples import RECORD, Production, flip_a_bit

from mergeline.model.artifact import MODEL_FILE, load_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server")]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    return Production(tmp_path_factory.mktemp("production"))


@pytest.fixture(scope="module")
def stable(production):
    return production.push(seed=1)


@pytest.fixture(scope="module")
def server(production, stable) -> Iterator[Running]:
    """One server for every test that leaves it as it was."""
    production.release(stable)
    with serving(production) as server:
        server.wait(server.ready)
        yield server


@pytest.fixture
def as_released(production, stable, server) -> Iterator[None]:
    """Puts the first release back after a test that changes what is served."""
    yield
    production.release(stable)
    server.wait(lambda: server.status["error"] is None and server.status["stable"]["digest"] == stable.digest)


class TestAnswers:
    def test_one_record_gets_one_answer_with_its_id_and_the_models_score(self, production, stable, server):
        import pandas as pd

        answer = server.predict({**RECORD, "flight_id": "UA-1"}).json()
        folder = next(production.root.joinpath("build", "models").glob("*/")).parent / stable.digest.replace(":", "-")
        expected = float(load_model(folder).predict(pd.DataFrame([RECORD]))[0])
        assert answer == {
            "id": "UA-1", "score": pytest.approx(expected, rel=1e-12), "label": expected >= 0.5,
            "version": 1, "digest": stable.digest,
        }  # fmt: skip

    def test_many_records_get_as_many_answers_in_order(self, server):
        records = [{**RECORD, "hour": hour, "flight_id": hour} for hour in (3, 20, 11)]
        answers = server.predict(records).json()
        assert [answer["id"] for answer in answers] == [3, 20, 11]
        one_by_one = [server.predict(record).json()["score"] for record in records]
        assert [answer["score"] for answer in answers] == pytest.approx(one_by_one)

    def test_missing_values_are_scored_where_the_signature_allows_them(self, server):
        answer = server.predict({"hour": 8, "origin": "EWR", "temp": None})
        assert answer.status_code == 200
        assert 0 < answer.json()["score"] < 1

    def test_the_description_names_the_models_fields(self, server):
        document = server.client.get("/openapi.json").json()
        assert set(RECORD) < set(document["components"]["schemas"]["Record"]["properties"])


class TestRefusals:
    def test_every_problem_is_listed(self, server):
        response = server.predict([{**RECORD, "temp": "12", "hour": 24}, {**RECORD, "tmp": 1}])
        assert response.status_code == 422
        body = response.json()
        assert body["error"] == "3 problems in 2 records"
        assert body["problems"][0] == {
            "record": 0, "field": "temp", "reason": "must be a number, without quotes", "found": "12",
        }  # fmt: skip
        assert [(problem["record"], problem["field"]) for problem in body["problems"][1:]] == [(0, "hour"), (1, "tmp")]

    def test_an_empty_array_is_refused(self, server):
        assert server.predict([]).status_code == 422

    def test_half_of_a_surrogate_pair_can_be_complained_about(self, server):
        response = server.post(b'{"\\ud800": "\\ud800"}', content_type="application/json")
        assert response.status_code == 422

    def test_broken_json_is_a_bad_request_with_its_position(self, server):
        response = server.post(b'{"hour": 8,,}', content_type="application/json")
        assert response.status_code == 400
        assert "line 1, column 12" in response.json()["error"]

    def test_a_key_given_twice_is_a_bad_request(self, server):
        response = server.post(b'{"hour": 8, "hour": 9}', content_type="application/json")
        assert response.status_code == 400

    def test_too_many_records_are_too_large(self, server):
        assert server.predict([RECORD] * 50).status_code == 200
        assert server.predict([RECORD] * 51).status_code == 413

    def test_a_body_that_announces_too_much_is_too_large(self, server):
        assert server.post(b" " * 100_001, content_type="application/json").status_code == 413

    def test_a_body_that_turns_out_too_large_is_too_large(self, server):
        pieces = (b" " * 1000 for _ in range(200))
        response = server.client.post("/predict", content=pieces, headers={"content-type": "application/json"})
        assert response.status_code == 413

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_client_that_sends_everything_first_sees_the_answer_too(self, server, announced):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        body = b" " * 12_000_000
        for _ in range(2):
            given = body if announced else (body[:1_000_000] for _ in range(12))
            connection.request("POST", "/predict", given, {"content-type": "application/json"})
            response = connection.getresponse()
            assert (response.status, b"larger than 0.1 MB" in response.read()) == (413, True)
        connection.close()

    def test_one_that_waits_for_leave_to_send_too_much_is_told_and_let_go(self, server):
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as caller:
            caller.sendall(
                b"POST /predict HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
                b"content-length: 20000000\r\nexpect: 100-continue\r\n\r\n"
            )
            answer = b"".join(iter(lambda: caller.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"content_type": "text/csv"},
            {"content_type": "application/json", "content_encoding": "gzip"},
        ],
    )
    def test_another_content_type_is_refused(self, server, headers):
        response = server.post(json.dumps(RECORD).encode(), **headers)
        assert response.status_code == 415
        assert "application/json" in response.json()["hint"]

    def test_a_charset_may_be_named(self, server):
        body = json.dumps(RECORD).encode()
        assert server.post(body, content_type="application/json; charset=utf-8").status_code == 200

    def test_another_method_is_refused_in_json(self, server):
        response = server.client.get("/predict")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert "error" in response.json()

    @pytest.mark.parametrize("path", ["/predictions", "/docs.json", "/static_content/index.css"])
    def test_another_route_is_refused_in_json(self, server, path):
        response = server.client.get(path)
        assert response.status_code == 404
        assert "POST /predict" in response.json()["hint"]

    def test_the_bare_address_lists_the_routes(self, server):
        response = server.client.get("/")
        assert (response.status_code, response.json()["routes"][0]) == (200, "POST /predict")

    def test_a_caller_that_leaves_early_harms_nobody(self, server):
        import socket

        with socket.create_connection(httpx.URL(server.url).netloc.decode().split(":")) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
            connection.sendall(b"content-length: 500\r\n\r\n{")
        assert server.predict(RECORD).status_code == 200
        assert "Traceback" not in server.log.read_text()


class TestHealth:
    def test_it_says_what_it_serves(self, stable, server):
        status = server.status
        assert status["name"] == "flights"
        assert status["stable"]["version"] == 1
        assert status["stable"]["digest"] == stable.digest
        assert status["models"] == [stable.digest]
        assert status["error"] is None

    def test_it_is_alive_and_ready_and_names_no_server(self, server):
        for path in ("/livez", "/readyz"):
            response = server.client.get(path)
            assert response.status_code == 200
            assert "server" not in response.headers

    def test_it_counts_requests_by_outcome_and_records(self, stable, server):
        def counted() -> list[float]:
            text = server.client.get("/metrics").text
            names = ('requests_total{outcome="answered"}', 'requests_total{outcome="refused"}', "records_total")
            found = [re.search(rf"^mergeline_{re.escape(name)} (\S+)$", text, re.MULTILINE) for name in names]
            return [float(match[1]) if match else 0.0 for match in found]

        before = counted()
        server.predict([RECORD] * 3)
        server.predict([])
        assert [after - earlier for earlier, after in zip(before, counted(), strict=True)] == [1, 1, 3]
        text = server.client.get("/metrics").text
        assert f'mergeline_model_info{{digest="{stable.digest}"' in text

    def test_it_says_at_start_what_it_serves_where_and_how_to_ask(self, stable, server):
        log = server.log.read_text()
        assert f"serving flights version 1 ({stable.digest}) at {server.url}" in log
        (command,) = re.findall(r"try: (curl .*)", log)
        # As a shell and curl take it; not every machine has curl.
        _, _, url, _, header, _, body = shlex.split(command)
        name, _, value = header.partition(": ")
        answer = httpx.post(url, content=body, headers={name: value})
        assert answer.json()["digest"] == stable.digest

    def test_it_logs_no_requests(self, server):
        server.predict(RECORD)
        server.predict([])
        assert "/predict HTTP" not in server.log.read_text()


@pytest.mark.usefixtures("as_released")
class TestReload:
    def test_a_new_release_takes_over_and_no_request_fails_meanwhile(self, production, stable, server):
        new = production.push(seed=2)
        production.release(new, number=2)
        digests = []
        end = time.monotonic() + 30
        while time.monotonic() < end and new.digest not in digests:
            response = server.predict(RECORD)
            assert response.status_code == 200
            digests.append(response.json()["digest"])
        assert digests[-1] == new.digest
        assert set(digests) <= {stable.digest, new.digest}

    def test_a_broken_manifest_leaves_the_old_model_serving_and_is_said(self, production, stable, server):
        text = production.manifest.read_text()
        production.write(text.replace("kind:", "kin:"))
        server.wait(lambda: server.status["error"] is not None)
        assert "unknown key `kin`" in server.status["error"]["what"]
        assert server.predict(RECORD).json()["digest"] == stable.digest
        assert server.ready()
        assert "mergeline_last_reload_successful 0.0" in server.client.get("/metrics").text
        production.write(text)
        server.wait(lambda: server.status["error"] is None)
        assert "mergeline_last_reload_successful 1.0" in server.client.get("/metrics").text

    def test_a_flipped_bit_in_the_store_is_refused_until_it_is_fixed(self, production, stable, server):
        new = production.push(seed=3)
        good = flip_a_bit(production.object_of(new, MODEL_FILE))
        production.release(new, number=3)
        server.wait(lambda: server.status["error"] is not None)
        assert "md5" in server.status["error"]["what"]
        assert server.predict(RECORD).json()["digest"] == stable.digest
        production.object_of(new, MODEL_FILE).write_bytes(good)
        server.wait(lambda: server.predict(RECORD).json()["digest"] == new.digest)
