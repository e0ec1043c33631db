"""The server under attack: hundreds of releases and many restarts under load, and no caller notices.

`MERGELINE_RELOADS` sets the number of releases: 30 if it is not given, 1,000 for the long attack.
"""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from serve_clients import Clients
from serve_process import Running, group_is_empty, journalled, serving
from serve_samples import Production

pytestmark = pytest.mark.slow

RELOADS = int(os.environ.get("MERGELINE_RELOADS", "30"))
RESTARTS = int(os.environ.get("MERGELINE_RESTARTS", "5"))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_fails_over_many_reloads(tmp_path, workers):
    production = Production(tmp_path)
    models = [production.push(seed=seed, compiled=seed != 1) for seed in range(3)]
    production.release(models[0])
    with serving(production, workers=workers, max_seconds=3) as server:
        server.wait(server.ready)
        with Clients(server.url, count=6) as clients:
            clients.wait_for(50)
            for number in range(1, RELOADS + 1):
                if number == 10:
                    before = held_by(server)
                model = models[number % 3]
                production.release(model, number=number + 1)
                server.wait(lambda number=number: server.status["stable"]["version"] == number + 1)
                clients.wait_for(10)
        time.sleep(4)  # a model's process ends when no request can need it any more
        processes, descriptors, megabytes = after = held_by(server)
        print(f"{RELOADS} reloads, {len(clients.told):,} answers; processes, descriptors, MB: {before} -> {after}")  # noqa: T201 - shown by pytest -s
        assert processes <= before[0]
        assert descriptors <= before[1] + 10
        assert megabytes <= before[2] + 60
        assert clients.cut == []
        assert {told.status for told in clients.told} == {200}
        assert {told.body["digest"] for told in clients.told} == {model.digest for model in models}


def held_by(server: Running) -> tuple[int, int, int]:
    """How many processes, descriptors and MB the server and its children hold."""
    parent = psutil.Process(server.process.pid)
    every = [parent, *parent.children(recursive=True)]
    found = [(one.num_fds(), one.memory_full_info().pss) for one in every if alive(one)]
    return len(found), sum(fds for fds, _ in found), sum(size for _, size in found) // 1_000_000


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("workers", [1, 2])
def test_no_accepted_request_is_lost_over_restarts_under_load(tmp_path, workers):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    answered: list[str] = []
    for _ in range(RESTARTS):
        with serving(production, workers=workers, drain_seconds=0.3) as server:
            server.wait(server.ready)
            with Clients(server.url, count=16) as clients:
                clients.wait_for(300)
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(timeout=30) == 0
            assert clients.cut == []
            assert {told.status for told in clients.told} == {200}
            assert group_is_empty(server.process.pid)
            answered += [f"{told.id} {told.body['score']!r}" for told in clients.told]
    keys = journalled(production)
    assert len(keys) == len(answered), "every answer once, and nothing that was not answered"


def test_no_new_connection_is_cut_while_the_server_ends(tmp_path):
    """Every request comes on a connection of its own: the moment in which the socket closes is met many times."""
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    for _ in range(RESTARTS):
        with serving(production, drain_seconds=0.1) as server:
            server.wait(server.ready)
            with Clients(server.url, count=16, keep_alive=False) as clients:
                clients.wait_for(300)
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(timeout=30) == 0
            assert clients.cut == []
            assert {told.status for told in clients.told} == {200}
