"""KServe's own Python client against the real server."""

import json

import pytest
from isolated import ran
from serve_process import journalled, serving
from serve_samples import RECORD

pytestmark = pytest.mark.slow
RECORDS = [{**RECORD, "flight_id": f"F{hour}", "hour": hour} for hour in (3, 20)]
CLIENT = """
import asyncio, json, sys
import httpx
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

url, records = sys.argv[1], json.loads(sys.argv[2])
types = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP64"}


def tensor(name):
    values = [record[name] for record in records]
    return InferInput(name, [len(values)], types[type(values[0])], values)


async def ask():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    told = {"live": await client.is_server_live(url), "ready": await client.is_server_ready(url)}
    told["model"] = await client.is_model_ready(url, "flights")
    request = InferRequest("flights", [tensor(name) for name in records[0]], request_id="request-7")
    answer = await client.infer(url, request, model_name="flights")
    told["answer"] = {output.name: output.data for output in answer.outputs}
    told["id"] = answer.id
    try:
        await client.infer(url, InferRequest("flights", [tensor("hour")]), model_name="flights")
    except httpx.HTTPStatusError as error:
        told["refused"] = str(error)
    await client.close()
    return told


print(json.dumps(asyncio.run(ask())))
"""


def test_it_finds_the_model_ready_and_gets_the_answers_that_predict_gives(production, tmp_path):
    production.release(production.push(compiled=True))
    with serving(production) as server:
        server.wait(server.ready)
        command = ("python", "-c", CLIENT, server.url, json.dumps(RECORDS))
        told = json.loads(ran(*command, packages=("kserve==0.21.0",), cwd=tmp_path))
        plain = server.client.post("/predict", json=RECORDS).json()
    assert (told["live"], told["ready"], told["model"]) == (True, True, True)
    assert told["answer"]["id"] == ["F3", "F20"]
    assert told["answer"]["score"] == [answer["score"] for answer in plain]
    assert (told["id"], told["answer"]["version"]) == ("request-7", [1, 1])
    assert "2 problems in 2 records" in told["refused"]
    assert sorted(journalled(production)) == ["F20", "F20", "F3", "F3"]
