"""Swaps, shutdown and several workers, each while clients keep asking."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress

import httpx
import psutil
import pytest
from serve_clients import Clients
from serve_process import Running, group_is_empty, journalled, serving
from serve_samples import Production
from test_source import Site

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("compiled", [True, False])
def test_no_request_fails_while_models_are_swapped(tmp_path, compiled):
    production = Production(tmp_path)
    models = [production.push(seed=seed, compiled=compiled) for seed in range(3)]
    production.release(models[0])
    with serving(production) as server:
        server.wait(server.ready)
        with Clients(server.url) as clients:
            clients.wait_for(50)
            for number, model in enumerate([models[1], models[2], models[0]], 2):
                production.release(model, number=number)
                server.wait(lambda model=model: server.status["stable"]["digest"] == model.digest)
                clients.wait_for(50)
        assert clients.cut == []
        assert {told.status for told in clients.told} == {200}
        assert {told.body["digest"] for told in clients.told} == {model.digest for model in models}


def test_at_sigterm_every_accepted_request_is_answered_and_journalled(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, drain_seconds=5) as server:
        server.wait(server.ready)
        with Clients(server.url, count=8) as clients:
            clients.wait_for(200)
            server.process.send_signal(signal.SIGTERM)
            server.wait(lambda: httpx.get(server.url + "/readyz").status_code == 503)
            assert httpx.get(server.url + "/livez").status_code == 200
            clients.wait_for(50)  # while it drains it answers
            assert server.process.wait(timeout=30) == 0
        assert {told.status for told in clients.told} == {200}
        assert clients.cut == []
        assert group_is_empty(server.process.pid)
        assert "Traceback" not in server.log.read_text()
    keys = journalled(production)
    assert len(keys) == len(set(keys))
    assert {told.id for told in clients.told} <= set(keys)


def test_a_request_under_way_at_sigterm_is_answered(tmp_path):
    production = Production(tmp_path)
    production.release(production.push())
    with serving(production, drain_seconds=0, max_records=1000, max_body_mb=1) as server:
        server.wait(server.ready)
        with Clients(server.url, count=4) as clients:
            clients.wait_for(20)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=30) == 0
        assert {told.status for told in clients.told} == {200}
        keys = journalled(production)
        assert {told.id for told in clients.told} <= set(keys)


def test_a_manifest_behind_an_address_is_followed_and_its_server_may_go_away(tmp_path):
    production, site = Production(tmp_path), Site()
    models = [production.push(seed=seed, compiled=True) for seed in range(2)]

    def publish(number: int) -> None:
        site.files["/deploy/manifest.yaml"] = production.release(models[number], number=number + 1).encode()

    publish(0)
    with serving(production, manifest=f"{site.url}/deploy/manifest.yaml") as server:
        server.wait(server.ready)
        with Clients(server.url) as clients:
            publish(1)
            server.wait(lambda: server.status["stable"]["digest"] == models[1].digest)
            site.status = 500
            server.wait(lambda: server.status["error"])
            assert "500" in server.status["error"]["what"]
            assert "mergeline_last_reload_successful 0.0" in server.client.get("/metrics").text
            clients.wait_for(50)
            site.status = 0
            server.wait(lambda: server.status["error"] is None)
        assert clients.cut == []
        assert {told.status for told in clients.told} == {200}
    site.stop()
    assert 304 in site.statuses


def test_workers_count_together(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, workers=2) as server:
        server.wait(lambda: loaded(server) == 2)
        with Clients(server.url, count=8) as clients:
            clients.wait_for(300)
        assert clients.cut == []
        server.wait(lambda: answered(server) == len(clients.told))
        assert server.status["counts"]["stable"]["records"] == len(clients.told)
        server.wait(lambda: "mergeline_journal_writing 1.0" in server.client.get("/metrics").text)


def test_a_worker_that_dies_is_started_again_and_nothing_answered_is_lost(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, workers=2) as server:
        server.wait(lambda: loaded(server) == 2)
        first = workers(server)
        with Clients(server.url, count=6) as clients:
            clients.wait_for(100)
            os.kill(first[0], signal.SIGKILL)
            server.wait(lambda: len(workers(server)) == 2 and set(workers(server)) != set(first))
            server.wait(lambda: loaded(server) == 3)
            clients.wait_for(200)
        assert {told.status for told in clients.told} == {200}
        assert len(clients.cut) <= 6, "no more than the killed worker held"
        assert "a worker ended with code -9" in server.log.read_text()
        server.wait(lambda: "mergeline_journal_writing 1.0" in server.client.get("/metrics").text)

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        assert group_is_empty(server.process.pid)
        assert not list((tmp_path / "tmp").glob("mergeline-*"))
    assert {told.id for told in clients.told} <= set(journalled(production))


def workers(server: Running) -> list[int]:
    found = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.Error):  # it may have ended meanwhile
            if "mergeline.serve.worker" in " ".join(child.cmdline()):
                found.append(child.pid)
    return sorted(found)


def loaded(server: Running) -> int:
    """How many workers have ever loaded the model."""
    return server.log.read_text().count("serving flights")


def answered(server: Running) -> float:
    text = server.client.get("/metrics").text
    found = re.findall(r'^mergeline_requests_total\{outcome="answered"\} (\S+)$', text, re.MULTILINE)
    return float(found[0]) if found else 0.0


def test_the_supervisor_takes_its_workers_along_when_it_is_killed(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, workers=2) as server:
        server.wait(server.ready)
        children = [psutil.Process(pid) for pid in workers(server)]
        server.process.kill()
        server.process.wait()
        gone, alive = psutil.wait_procs(children, timeout=60)  # one that still imports looks for its parent after that
        assert (len(gone), alive) == (2, [])


def test_workers_answer_everything_at_sigterm_too(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, workers=2) as server:
        server.wait(lambda: loaded(server) == 2)
        with Clients(server.url, count=8) as clients:
            clients.wait_for(200)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=30) == 0
        assert {told.status for told in clients.told} == {200}
        assert clients.cut == []


def test_requests_are_spread_over_the_workers(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, workers=2) as server:
        server.wait(server.ready)
        server.wait(lambda: loaded(server) == 2)
        # One after the other, they may all find the same worker first.
        with Clients(server.url, count=8):
            server.wait(lambda: len(list((production.root / "journal" / "live").glob("*.log"))) == 2)
