"""The Open Inference Protocol over HTTP, against the application that the server runs."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest
from prometheus_client import CollectorRegistry
from rollout_samples import make_served, make_serving
from serve_process import journalled
from serve_samples import RECORD, Production, make_signature

from mergeline.params import Task
from mergeline.serve.application import make_routes
from mergeline.serve.asgi import PredictApp
from mergeline.serve.engine import Engine
from mergeline.serve.inference_protocol import Inference, InferenceRequest, output_types, write_inference
from mergeline.serve.metrics import Metrics
from mergeline.serve.settings import Settings
from mergeline.serve.state import State

TYPES = {"temp": "FP64", "hour": "INT64", "holiday": "BOOL", "origin": "BYTES", "carrier": "BYTES"}


def tensors(*records: dict) -> dict:
    """The records as a request: a tensor for each field."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": [len(records)],
                "datatype": TYPES.get(name, "BYTES"),
                "data": [record[name] for record in records],
            }
            for name in records[0]
        ]
    }


class Server:
    """The application of a server with a model, asked without a socket."""

    def __init__(self, folder, served=None, **settings) -> None:
        places = {"root": str(folder), "manifest": "", "store": "", "cache": ""}
        self.production = Production(folder)
        self.engine = Engine(Settings(**places, **settings), Metrics(CollectorRegistry()), folder / "shared")
        self.app = PredictApp(make_routes(lambda: self.app.engine))
        self.app.use(self.engine)
        if served is not None:
            self.engine._current.state = State(make_serving(served, None))
            self.engine.controller.update()

    def ask(self, method: str, path: str, **request) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, **request)

        return asyncio.run(go())

    def stop(self) -> None:
        self.engine._executors.stop()
        self.engine.controller.stop()
        self.engine.journal.close()

    def infer(self, body: dict, name: str = "flights") -> httpx.Response:
        return self.ask("POST", f"/v2/models/{name}/infer", json=body)


@pytest.fixture
def start(tmp_path):
    made = []

    def make(served=..., **settings) -> Server:
        model = make_served(tmp_path) if served is ... else served
        made.append(Server(tmp_path, model, **settings))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def outputs(response: httpx.Response) -> dict[str, list]:
    assert response.status_code == 200, response.text
    return {tensor["name"]: tensor["data"] for tensor in response.json()["outputs"]}


def test_tensors_get_the_answers_that_predict_gives(start):
    server = start()
    records = [{**RECORD, "flight_id": f"F{hour}", "hour": hour} for hour in (3, 20)]
    plain = server.ask("POST", "/predict", json=records).json()
    response = server.infer({**tensors(*records), "id": "request-7"})
    assert outputs(response) == {
        "id": ["F3", "F20"],
        "score": [answer["score"] for answer in plain],
        "label": [str(answer["label"]).lower() for answer in plain],
        "version": [answer["version"] for answer in plain],
        "digest": [answer["digest"] for answer in plain],
    }
    told = response.json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("flights", "1", "request-7")
    assert {tuple(tensor["shape"]) for tensor in told["outputs"]} == {(2,)}


def test_columns_of_one_nested_value_each_are_read_alike(start):
    body = tensors({**RECORD, "flight_id": "F1"})
    for tensor in body["inputs"]:
        tensor["shape"], tensor["data"] = [1, 1], [tensor["data"]]
    assert outputs(start().infer(body))["id"] == ["F1"]


def test_only_the_outputs_that_were_asked_for_come(start):
    body = {**tensors(RECORD), "outputs": [{"name": "score"}]}
    assert list(outputs(start().infer(body))) == ["score"]


def test_every_answer_is_in_the_journal(start, tmp_path):
    server = start()
    server.infer(tensors({**RECORD, "flight_id": "A"}, {**RECORD, "flight_id": "B"}))
    server.engine.journal.close()
    assert journalled(server.production) == ["A", "B"]


def test_a_value_that_predict_refuses_is_refused_with_the_same_words(start):
    server = start()
    wrong = {**RECORD, "hour": 24, "tmp": 1.0}
    plain, response = server.ask("POST", "/predict", json=[wrong]), server.infer(tensors(wrong))
    assert (response.status_code, response.json()) == (422, plain.json())


def nested(levels, data=(8,)):
    for _ in range(levels):
        data = [list(data)]
    return data


def shape_of(size):
    def change(body):
        body["inputs"][0]["shape"] = size

    return change


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        (shape_of([2]), 422, "its shape says 2"),
        (shape_of([1, 3]), 422, "expected [n] or [n, 1]"),
        (shape_of([]), 422, "expected [n] or [n, 1]"),
        (shape_of("one"), 422, "no inference request"),
        (lambda body: body["inputs"].append(body["inputs"][0]), 422, "'temp' is given twice"),
        (lambda body: body["inputs"].extend([body["inputs"][0]] * 10_000), 422, "'temp' is given twice"),
        (lambda body: body["inputs"][1].update(data=nested(900)), 422, "1 problem in the record"),
        (lambda body: body["inputs"][1].update(data=nested(5, [1] * 50_000)), 422, "'hour' has 50000 values"),
        (lambda body: body.update(inputs=[]), 422, "there are no inputs"),
        (lambda body: body.update(outputs=[{"name": "scor"}]), 422, "there is no output 'scor'"),
        (lambda body: body["inputs"][1].update(shape=[2], data=[1, 2]), 422, "'hour' has 2 values, 'temp' has 1"),
    ],
)
def test_what_is_no_inference_request_is_refused_with_the_reason(start, change, status, word):
    body = tensors(RECORD)
    change(body)
    server = start()
    begun = time.process_time()
    response = server.infer(body)
    assert time.process_time() - begun < 5
    assert response.status_code == status
    assert word in response.json()["error"]


def test_broken_json_another_model_and_another_method_are_refused(start):
    server = start()
    headers = {"content-type": "application/json"}
    path = "/v2/models/flights/infer"
    assert server.ask("POST", path, content=b"{", headers=headers).status_code == 400
    assert server.ask("GET", path).status_code == 405
    assert (
        server.ask("POST", path, content=b"x", headers={"content-type": "application/octet-stream"}).status_code == 415
    )
    other = server.infer(tensors(RECORD), "orders")
    assert (other.status_code, other.json()["hint"]) == (404, "ask for 'flights'")
    assert server.ask("GET", "/v2/models/orders").status_code == 404


def test_the_metadata_names_the_tensors_and_an_example_of_the_description_is_answered(start):
    server = start()
    told = server.ask("GET", "/v2/models/flights").json()
    assert (told["name"], told["versions"], told["platform"]) == ("flights", ["1"], "mergeline")
    assert {tensor["name"]: tensor["datatype"] for tensor in told["inputs"]} == TYPES
    described = server.ask("GET", "/openapi.json").json()
    assert {path for path in described["paths"] if path.startswith("/v2")} == {
        "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/flights", "/v2/models/flights/ready",
        "/v2/models/flights/infer",
    }  # fmt: skip
    assert outputs(server.infer(described["components"]["schemas"]["InferenceRequest"]["examples"][0]))


def test_health_says_live_before_a_model_is_there_and_ready_after(start):
    server = start(None)
    assert server.ask("GET", "/v2/health/live").json() == {"live": True}
    assert server.ask("GET", "/v2/health/ready").status_code == 503
    assert server.infer(tensors(RECORD)).status_code == 503
    ready = start()
    assert ready.ask("GET", "/v2/health/ready").json() == {"ready": True}
    assert ready.ask("GET", "/v2/models/flights/ready").json() == {"name": "flights", "ready": True}


def test_with_an_api_key_all_but_health_asks_for_it(start):
    server = start(api_key="secret")
    assert server.ask("GET", "/v2/health/ready").status_code == 200
    assert server.ask("GET", "/v2/models/flights").status_code == 401
    assert server.infer(tensors(RECORD)).status_code == 401
    headers = {"authorization": "Bearer secret"}
    assert server.ask("POST", "/v2/models/flights/infer", json=tensors(RECORD), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [
        (
            Task.MULTICLASS,
            {"id": 7, "score": 0.5, "label": "b", "scores": {"a": 0.2, "b": 0.5, "c": 0.3}},
            {"id": ["7"], "score": [0.5], "label": ["b"], "scores": [0.2, 0.5, 0.3]},
        ),
        (Task.REGRESSION, {"id": "x", "score": 12.5, "label": None}, {"id": ["x"], "score": [12.5]}),
    ],
)
def test_every_task_has_its_outputs(task, answer, expected):
    output = make_signature(task).output
    answers = json.dumps([{**answer, "version": 3, "digest": "sha256:1"}]).encode()
    told = json.loads(write_inference(answers, Inference(b"", InferenceRequest([])), "flights", output))
    found = {tensor["name"]: tensor["data"] for tensor in told["outputs"]}
    assert found == {**expected, "version": [3], "digest": ["sha256:1"]}
    assert list(found) == [name for name, _ in output_types(output)]
