"""Requests that are answered without the parser: as the parser would have, or not at all."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime

import httptools
import pytest
import uvicorn
from serve_samples import RECORD, make_model
from test_inference_protocol import Server
from uvicorn.server import ServerState

from mergeline.model.artifact import folder_digest, load_model
from mergeline.serve import protocol
from mergeline.serve.protocol import plain_headers
from mergeline.serve.state import ServedModel

LINE = b"POST /predict HTTP/1.1"
JSON, LENGTH = b"content-type: application/json", b"content-length: 2"
LINES = [
    JSON, b"Content-Type: application/json", LENGTH, b"Content-Length:2", b"host: x", b"x-api-key: Key = 5:6",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", b"connection: keep-alive",
]  # fmt: skip
ODD_LINES = [
    b"content-length: 3", b"content-length: +2", b"content-length: 2, 2", b"transfer-encoding: chunked",
    b"connection: close", b"connection: keep-alive, close", b"connection: upgrade", b"upgrade: h2c", b"x-empty:",
    b"expect: 100-continue", b" folded", b"name : x", b"x: y\rz: w", b"x: y\nz: w", b"x: \x00", b"x: \xff", b"x:\ty",
    b"x:  two", b"x: end ", b"proxy-connection: close", b"content-encoding: gzip", b"trailer: x", b": x", b"",
]  # fmt: skip
ODD_REQUESTS = [
    b"POST /predict HTTP/1.0", b"POST /predict HTTP/1.1 ", b"POST  /predict HTTP/1.1", b"POST /predict?x HTTP/1.1",
    b"PUT /predict HTTP/1.1", b"\r\nPOST /predict HTTP/1.1",
]  # fmt: skip


class Parsed:
    """What the parser that answers everything else makes of the same bytes."""

    def __init__(self, content: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""
        self.complete = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(content)
        self.goes_on, self.method = parser.should_keep_alive(), parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def test_what_is_taken_for_plain_is_what_the_parser_reads():
    chance, plain = random.Random(5), 0
    for _ in range(20_000):
        lines = chance.sample(LINES, chance.randint(2, len(LINES)))
        if chance.random() < 0.3:
            lines.insert(chance.randint(0, len(lines)), chance.choice(ODD_LINES))
        head = bytearray(b"\r\n".join([LINE if chance.random() < 0.95 else chance.choice(ODD_REQUESTS), *lines]))
        if chance.random() < 0.3:
            head[chance.randrange(len(head))] = chance.randrange(256)
        headers = plain_headers(bytes(head))
        if headers is None:
            continue
        plain += 1
        parsed = Parsed(bytes(head) + b"\r\n\r\n{}" + b"x" * (int(headers[b"content-length"]) - 2))
        assert (parsed.method, parsed.url, parsed.goes_on, parsed.complete) == (b"POST", b"/predict", True, 1)
        assert headers == dict(parsed.headers)
        assert len(headers) == len(parsed.headers)
    assert plain > 1000


@pytest.mark.parametrize("line", ODD_LINES)
def test_an_odd_line_is_left_to_the_parser(line):
    assert plain_headers(b"\r\n".join([LINE, JSON, LENGTH]))
    assert plain_headers(b"\r\n".join([LINE, JSON, line, LENGTH])) is None
    assert plain_headers(b"\r\n".join([LINE, JSON, LENGTH, line])) is None


@pytest.mark.parametrize("line", ODD_REQUESTS)
def test_an_odd_request_is_left_to_the_parser(line):
    assert plain_headers(b"\r\n".join([line, JSON, LENGTH])) is None


def post(record: dict, *more: str) -> bytes:
    body = json.dumps(record).encode()
    head = ["POST /predict HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*head, *more]).encode() + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled") / "model"
    make_model(folder, compiled=True)
    return ServedModel(1, load_model(folder, digest=folder_digest(folder), defer=True), datetime.now(UTC))


@pytest.fixture
def talk(tmp_path, compiled):
    """Sends to a server on a socket, each piece when the answer to the one before is there.

    Gives the answers, how many of them uvicorn gave, and the seconds until the server closed the connection.
    """
    server = Server(tmp_path, compiled)

    async def ask(pieces, pause, keep_alive):
        config = uvicorn.Config(server.app, lifespan="off", ws="none", timeout_keep_alive=keep_alive)
        state, loop = ServerState(), asyncio.get_running_loop()
        listening = await loop.create_server(lambda: protocol.BoundedProtocol(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
        answers = []
        for piece in pieces:
            writer.write(piece)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(next(line for line in head.splitlines() if line.startswith(b"content-length")).split()[1])
            answers.append((int(head.split()[1]), await reader.readexactly(length)))
            await asyncio.sleep(pause)
        since = loop.time() - pause
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        listening.close()
        writer.close()
        return answers, state.total_requests, loop.time() - since

    yield lambda *pieces, pause=0.0, keep_alive=0.2: asyncio.run(ask(pieces, pause, keep_alive))
    server.stop()


def test_both_ways_give_one_answer(talk):
    plain, odd = post({**RECORD, "flight_id": "a"}), post({**RECORD, "flight_id": "a"}, "expect: nothing")
    answers, by_uvicorn, _ = talk(plain, odd, plain, odd)
    assert answers == [answers[0]] * 4
    assert answers[0][0] == 200
    assert by_uvicorn == 2


def test_what_fails_the_short_way_is_refused_the_long_way_and_counted_once(talk):
    (refused, answered), by_uvicorn, _ = talk(post({**RECORD, "temp": "warm"}), post(RECORD))
    assert (refused[0], answered[0], by_uvicorn) == (422, 200, 1)
    assert b"must be a number" in refused[1]


def test_a_connection_stays_open_for_as_long_after_each_answer(talk):
    plain, odd = post(RECORD), post(RECORD, "expect: nothing")
    answers, _, seconds = talk(plain, odd, plain, plain, pause=0.2, keep_alive=0.5)
    assert [status for status, _ in answers] == [200] * 4
    assert 0.45 <= seconds < 3
