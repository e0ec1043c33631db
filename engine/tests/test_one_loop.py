"""The loop once, with nothing left out: propose, merge, serve, predict. Its variations are in tests/e2e/loop."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from loop_project import DEAD_SERVER, make_project

from forge_with_buttons import ForgeWithButtons
from local_github.processes import free_port
from mergeline.documents import parse
from mergeline.github.git import Git
from mergeline.manifest.schema import Manifest
from toy_data import orders, toy_params, write_months

TOY = Path(__file__).parent / "packages" / "toy"


@contextmanager
def server(project, folder, *options):
    """`mergeline serve` in a clone of main: its address once it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "mergeline.cli", "serve", "--port", str(port), *options]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=project.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while not ready(url):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def ready(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:  # noqa: S310 - our own server
            return response.status == 200
    except OSError:
        return False


def ask(url, record):
    body = json.dumps(record).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own server
        return json.load(response)


@pytest.mark.slow
def test_a_model_is_proposed_merged_served_and_answers(tmp_path):
    write_months(tmp_path / "work" / "data", rows=600)
    params = toy_params(tracking={"uri": DEAD_SERVER}, evaluation={"resamples": 100}, gate={"margin": 0.1})
    project = make_project(tmp_path / "work", TOY, params.model_dump(mode="json", by_alias=True))

    project.mergeline("propose", "--pull-request")
    forge = ForgeWithButtons(tmp_path / "forge")
    [pull] = forge.list_open()
    forge.merge(pull.number)

    production = Git.clone(forge.url, tmp_path / "production").folder
    stable = parse((production / "deploy" / "manifest.yaml").read_text(), Manifest, "manifest.yaml").spec.stable
    assert stable.version == 1
    with server(project, production) as url:
        rows = orders("2024-05", 1).drop(columns=["returned"])
        answer = ask(url, json.loads(rows.to_json(orient="records", date_format="iso"))[0])
    assert answer["digest"] == stable.digest
    assert 0 <= answer["score"] <= 1
