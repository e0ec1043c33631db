"""Callers that send without an end: the server's memory and the other callers do not notice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serve_clients import growth_under_attack
from serve_process import Running, serving
from serve_samples import Production

from mergeline.serve.protocol import MAX_UNREAD_BYTES

pytestmark = pytest.mark.slow

ATTACKERS = 4
SECONDS = 4.0
BUFFERS = [Path(f"/proc/sys/net/ipv4/tcp_{side}mem") for side in "rw"]
MOST_BYTES = sum(int(file.read_text().split()[2]) for file in BUFFERS if file.exists()) + 2_000_000 + MAX_UNREAD_BYTES
"""That one connection gets rid of before it is closed: what the kernel buffers on both sides, and the rest of a body
whose answer is sent."""

CHUNKED = b"host: x\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n"
PREDICT, LIVE = b"POST /predict HTTP/1.1\r\n" + CHUNKED, b"GET /livez HTTP/1.1\r\n" + CHUNKED
UPGRADE = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
ONE_CHUNK = b"1\r\n1\r\n"
LENGTH = b"host: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
ONE_PREDICTION = b"POST /predict HTTP/1.1\r\n" + LENGTH + b"\r\n{}"

ATTACKS: dict[str, tuple[bytes, bytes]] = {
    "trailers": (PREDICT + ONE_CHUNK + b"0\r\n", b"a:\r\n" * 5_000),
    "trailers of a probe": (LIVE + ONE_CHUNK + b"0\r\n", b"a:\r\n" * 5_000),
    "one trailer": (LIVE + ONE_CHUNK + b"0\r\na: ", b"x" * 50_000),
    "the name of a trailer": (LIVE + ONE_CHUNK + b"0\r\n", b"x" * 50_000),
    "chunk extensions": (PREDICT, b"1;" + b"e" * 1_000 + b"\r\n1\r\n"),
    "one chunk extension": (PREDICT + b"1;e=", b"x" * 50_000),
    "zeros before a chunk's size": (PREDICT, b"0" * 50_000),
    "empty lines": (b"", b"\r\n" * 20_000),
    "a header": (b"GET /livez HTTP/1.1\r\nx: ", b"y" * 50_000),
    "headers": (b"GET /livez HTTP/1.1\r\n", b"x: y\r\n" * 10_000),
    "a URL": (b"GET /", b"y" * 50_000),
    "a body that nobody reads": (LIVE, b"c350\r\n" + b"x" * 50_000 + b"\r\n"),
    "what follows an upgrade": (UPGRADE, b"x" * 50_000),
    "requests without a wait": (b"", b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" * 2_000),
    "predictions without a wait": (b"", ONE_PREDICTION * 500),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    production = Production(tmp_path_factory.mktemp("hostile"))
    production.release(production.push(compiled=True))
    with serving(production) as server:
        server.wait(server.ready)
        yield server


def flood(server: Running, head: bytes, more: bytes, end: float) -> int:
    """Send until the server closes the connection or the time is over; the bytes that went."""
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=5) as connection:
        sent = 0
        try:
            connection.sendall(head)
            while time.monotonic() < end and sent <= 10 * MOST_BYTES:
                connection.sendall(more)
                sent += len(more)
        except OSError:
            pass
        return sent


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_sent_without_an_end_is_cut_off(server, attack):
    head, more = ATTACKS[attack]
    sent: list[int] = []

    def attacker(end: float) -> None:
        while time.monotonic() < end:
            sent.append(flood(server, head, more, end))

    grown = growth_under_attack(server, attacker, ATTACKERS, SECONDS)
    assert max(sent) < MOST_BYTES
    assert grown < 60_000_000


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (PREDICT + ONE_CHUNK + b"0\r\n", b"a"),
        (LIVE + ONE_CHUNK + b"0\r\n", b"a"),
        (LIVE, b"1\r\n1\r\n"),
        (b"POST /predict HTTP/1.1\r\n" + LENGTH + b"\r\n", b""),
        (b"POST /feedback HTTP/1.1\r\n" + LENGTH + b"expect: 100-continue\r\n\r\n", b""),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"),
    ],
)
def test_what_drips_without_progress_is_cut_off(server, head, drop):
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port), timeout=0.5) as connection:
        connection.sendall(head)
        end = time.monotonic() + 25
        while time.monotonic() < end:
            try:
                connection.sendall(drop)
                if not connection.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("the connection is still open")


def test_a_trailer_adds_no_header(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production, key="secret") as server:
        server.wait(server.ready)
        request = PREDICT + b"2\r\n{}\r\n0\r\nx-api-key: secret\r\n\r\n"
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port), timeout=5) as connection:
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 401")
