"""Many connections that each take what one may: together they take little, and the others do not notice."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from serve_clients import growth_under_attack
from serve_process import Running, serving
from serve_samples import RECORD, Production

pytestmark = pytest.mark.slow

SECONDS = 5.0
POST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
LARGE = json.dumps({**RECORD, "origin": "x" * 9_800_000}).encode()

ATTACKS = {
    "headers without an end": (1000, b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 5_000),
    "requests ahead": (500, (b"GET /status HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n") * 99),
    "large bodies without an end": (128, POST % 9_900_000 + b"x" * 9_000_000),
    "large bodies": (128, POST % len(LARGE) + LARGE),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    production = Production(tmp_path_factory.mktemp("many"))
    production.release(production.push(compiled=True))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with serving(production, max_body_mb=10, max_records=1000) as server:
        server.wait(server.ready)
        yield server
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("attack", ATTACKS)
def test_together_they_take_little(server, attack):
    count, content = ATTACKS[attack]
    address = httpx.URL(server.url)

    def attacker(end: float) -> None:
        held = []
        while time.monotonic() < end and len(held) < count // 4:
            held.append(connection := socket.socket())
            connection.settimeout(1)
            with suppress(OSError):
                connection.connect((address.host, address.port))
                connection.sendall(content)
        time.sleep(max(0.0, end - time.monotonic()))
        for connection in held:
            connection.close()

    grown = growth_under_attack(server, attacker, 4, SECONDS)
    assert grown < 400_000_000  # it was 1.4 GB of bodies
    server.wait(lambda: server.predict([RECORD] * 400).status_code == 200, seconds=15)
    server.wait(lambda: answers(address, b"GET /status HTTP/1.1\r\n\r\n" * 9) == 9, seconds=30)


def answers(address: httpx.URL, content: bytes) -> int:
    """How many requests are answered that are sent at once."""
    received = b""
    with socket.create_connection((address.host, address.port), timeout=5) as connection, suppress(OSError):
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65_536):
            received += more
    return received.count(b"HTTP/1.1 200 OK")


def test_what_was_held_is_given_back(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(40):
            answer = client.post("/predict", content=LARGE, headers={"content-type": "application/json"})
            assert answer.status_code == 422
