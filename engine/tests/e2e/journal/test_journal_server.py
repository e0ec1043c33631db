"""The journal of the whole server, counted against the answers that its clients received."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from journal_samples import ids, rows
from serve_clients import Asking
from serve_process import QUICK, START, running
from serve_samples import RECORD, Production

from mergeline.journal.folders import LIVE
from mergeline.journal.parquet_export import seal_all
from mergeline.serve.run import open_listener

pytestmark = pytest.mark.slow


class Clients(Asking):
    """Some connections that ask all the time, and remember which answers they received."""

    def __init__(self, url: str, count: int = 4) -> None:
        super().__init__(count)
        self._address = url.removeprefix("http://").split(":")
        self.received: list[str] = []

    def _ask(self, number: int) -> None:
        host, port = self._address
        request = 0
        while not self.ended.is_set():
            try:
                with socket.create_connection((host, int(port)), timeout=10) as connection:
                    stream = connection.makefile("rb")
                    while not self.ended.is_set():
                        key = f"{number}-{request}"
                        request += 1
                        if not self._one(connection, stream, key):
                            break
                        self.received.append(key)
            except OSError:
                time.sleep(0.01)  # the server is gone, and comes back

    def wait(self, more: int) -> None:
        """Until so many more answers came."""
        wanted, end = len(self.received) + more, time.monotonic() + 60
        while len(self.received) < wanted:
            assert time.monotonic() < end, f"{len(self.received)} answers of {wanted}"
            time.sleep(0.01)

    @staticmethod
    def _one(connection, stream, key: str) -> bool:
        body = json.dumps({**RECORD, "flight_id": key}).encode()
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        if b" 200 " not in stream.readline():
            return False
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        answer = stream.read(length)
        return len(answer) == length > 0 and json.loads(answer)["id"] == key


@contextmanager
def serving(production: Production, **serve):
    """The server of a repository; several of them one after another share its journal."""
    journal = {"seal_seconds": 0.5}
    params = {**QUICK, "serve": {**QUICK["serve"], "drain_seconds": 0, "journal": journal, **serve}}
    (production.root / "params.yaml").write_text(yaml.safe_dump(params))
    with open_listener("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", START, str(production.root), str(port)]
    with running(command, f"http://127.0.0.1:{port}", production.root / "log", dict(os.environ)) as server:
        server.wait(server.ready)
        yield server


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    production = Production(tmp_path_factory.mktemp("production"))
    production.release(production.push())
    return production


@pytest.fixture
def folder(production):
    folder = production.root / "journal"
    if folder.exists():
        folder.rename(folder.with_name(f"journal-{time.monotonic_ns()}"))
    return folder


def sealed(folder: Path) -> list[str]:
    """The ids in the journal, once nothing is left to be sealed."""
    for _ in range(100):
        seal_all(folder)
        if not list((folder / LIVE).glob("*.log")):
            break
        time.sleep(0.1)  # a keeper that was not killed may be at it
    return ids(folder)


def test_kill_9_under_load_loses_no_answer_that_was_received(production, folder):
    received: list[str] = []
    with serving(production) as server, Clients(server.url) as clients:
        clients.wait(1000)
        os.killpg(server.process.pid, signal.SIGKILL)
        received = clients.received
    journalled = sealed(folder)
    assert len(journalled) == len(set(journalled))
    assert set(received) <= set(journalled)
    assert len(journalled) - len(received) <= 4  # written, and killed before the answer: one for each connection


def test_a_worker_that_is_killed_loses_no_answer_either(production, folder):
    with serving(production, workers=2) as server, Clients(server.url) as clients:
        clients.wait(300)
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        clients.wait(300)
        received = clients.received
        os.killpg(server.process.pid, signal.SIGKILL)
    journalled = sealed(folder)
    assert set(received) <= set(journalled)
    assert len(journalled) == len(set(journalled))


def test_sigterm_under_load_leaves_everything_sealed(production, folder):
    with serving(production) as server, Clients(server.url) as clients:
        clients.wait(300)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        received = clients.received
    assert not list((folder / LIVE).glob("*.log"))
    assert sorted(received) == ids(folder)


def test_labels_join_predictions_over_http_and_status_tells(production, folder):
    with serving(production) as server:
        assert server.predict([{**RECORD, "flight_id": "a"}, {**RECORD, "flight_id": "b"}]).status_code == 200
        answer = server.client.post("/feedback", json=[{"id": "a", "label": True}, {"id": "z", "label": False}])
        assert answer.json() == [{"id": "a", "outcome": "recorded"}, {"id": "z", "outcome": "unknown"}]
        refused = server.client.post("/feedback", json={"id": "a", "label": "late"})
        assert refused.status_code == 422
        assert refused.json()["problems"][0]["field"] == "label"
        server.wait(lambda: server.status["journal"]["keeper"]["sealed_predictions"] == 2)
        journal = server.status["journal"]
        assert (journal["writing"], journal["predictions"]["written"], journal["feedback"]["written"]) == (True, 2, 2)
        assert (
            'mergeline_journal_records_total{kind="prediction",outcome="written"} 2.0'
            in server.client.get("/metrics").text
        )
    sealed(folder)
    found = {row["_id"]: row for row in rows(folder)}
    assert set(found) == {"a", "b"}
    assert found["a"]["temp"] == RECORD["temp"]
    assert [row["_id"] for row in rows(folder, "feedback")] == ["a", "z"]


def test_a_journal_that_cannot_be_written_stops_the_answers_only_where_the_params_say_so(production, folder):
    folder.write_text("a file where the folder should be")
    with serving(production) as server:
        assert server.predict(RECORD).status_code == 200
        assert server.status["journal"]["writing"] is False
    folder.unlink()
    folder.write_text("a file where the folder should be")
    with serving(production, journal={"when_full": "stop_answering"}) as server:
        answer = server.predict(RECORD)
        assert (answer.status_code, "journal cannot be written" in answer.json()["error"]) == (503, True)
        assert answer.headers["retry-after"]
        folder.unlink()
        server.wait(lambda: server.predict(RECORD).status_code == 200)
        assert server.status["journal"]["writing"] is True
