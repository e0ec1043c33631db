"""Requests whose framing two readers may take differently: one meaning, or a refusal, and never a second request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from serve_process import Running, journalled, serving
from serve_samples import RECORD, Production

pytestmark = pytest.mark.slow

HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
SMUGGLED = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


def record(key: str) -> bytes:
    return json.dumps({**RECORD, "flight_id": key}).encode()


BODY, HIDDEN = record("seen"), record("hidden")
INNER = SMUGGLED % (len(HIDDEN), HIDDEN)
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"


def chunk(content: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(content), extension, content)


REFUSED = {
    "two lengths": HEAD + LENGTH + b"content-length: 5\r\n\r\n" + BODY,
    "two lengths in one": HEAD + b"content-length: %d, 5\r\n\r\n" % len(BODY) + BODY,
    "a length and chunks": HEAD + LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + INNER,
    "chunks and a length": HEAD + CHUNKED + b"content-length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "a length with a sign": HEAD + b"content-length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a length below nothing": HEAD + b"content-length: -1\r\n\r\n" + BODY,
    "a length in hex": HEAD + b"content-length: 0x10\r\n\r\n" + BODY,
    "a length beyond all numbers": HEAD + b"content-length: " + b"9" * 60 + b"\r\n\r\n" + BODY,
    "chunked, then something": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + chunk(BODY) + b"0\r\n\r\n",
    "chunked with a tab": HEAD + b"transfer-encoding:\tchunked\x0b\r\n\r\n" + chunk(BODY) + b"0\r\n\r\n",
    "an extension beyond ASCII": HEAD + CHUNKED + b"\r\n" + chunk(BODY, b";a=\xff") + b"0\r\n\r\n",
    "a chunk's size that is none": HEAD + CHUNKED + b"\r\nxyz\r\n" + BODY,
    "a chunk's size below nothing": HEAD + CHUNKED + b"\r\n-1\r\n" + BODY,
    "a chunk's size beyond all numbers": HEAD + CHUNKED + b"\r\n" + b"f" * 17 + b"\r\n" + BODY,
    "a chunk longer than its size": HEAD + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n" + INNER,
    "a folded header": HEAD + b"x-a: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded length": HEAD + b"content-length: 1\r\n 5\r\n\r\n" + BODY,
    "a space before the colon": HEAD + b"content-length : %d\r\n\r\n" % len(BODY) + BODY,
    "a name with a space": HEAD + b"content length: 5\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a value": HEAD + b"x-a: b\0c\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a name": HEAD + b"x\0a: b\r\n" + LENGTH + b"\r\n" + BODY,
    "a return alone": HEAD + b"x-a: b\rc: d\r\n" + LENGTH + b"\r\n" + BODY,
    "no version": b"POST /predict\r\n" + LENGTH + b"\r\n" + BODY,
    "another version": HEAD.replace(b"1.1", b"3.7") + LENGTH + b"\r\n" + BODY,
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another method": HEAD.replace(b"POST", b"POST\x00") + LENGTH + b"\r\n" + BODY,
}
ANSWERED = {
    "absurd extensions": HEAD + CHUNKED + b"\r\n" + chunk(BODY, b';a="b";c;d=0') + b"0;end=yes\r\n\r\n",
    "many small chunks with extensions": HEAD
    + CHUNKED
    + b"\r\n"
    + b"".join(chunk(BODY[place : place + 1], b";e") for place in range(len(BODY)))
    + b"0\r\n\r\n",
    "zeros before a size": HEAD + CHUNKED + b"\r\n000" + chunk(BODY) + b"0\r\n\r\n",
    "text beyond ASCII in a header": HEAD + b"x-a: \xff\xfe\r\nuser-agent: Z\xfcrich\r\n" + LENGTH + b"\r\n" + BODY,
    "a whole address": HEAD.replace(b"/predict", b"http://elsewhere/predict") + LENGTH + b"\r\n" + BODY,
    "lines before the request": b"\r\n\r\n" + HEAD + LENGTH + b"\r\n" + BODY,
}


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    return Production(tmp_path_factory.mktemp("framing"))


@pytest.fixture(scope="module")
def server(production) -> Iterator[Running]:
    production.release(production.push(compiled=True))
    with serving(production, max_seconds=2) as server:
        server.wait(server.ready)
        yield server


def told(server: Running, content: bytes) -> list[int]:
    """The status of every answer to these bytes, until the connection closes or nothing more comes."""
    address = httpx.URL(server.url)
    received = b""
    with socket.create_connection((address.host, address.port), timeout=3) as connection:
        connection.sendall(content)
        try:
            while more := connection.recv(65_536):
                received += more
        except (TimeoutError, ConnectionResetError):
            pass
    return [int(line[:3]) for line in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("shape", REFUSED)
def test_what_has_two_meanings_is_refused_whole(server, shape):
    (status,) = told(server, REFUSED[shape])
    assert status in {400, 415}  # 415: a request line without a version takes no headers
    assert server.predict(RECORD).status_code == 200


@pytest.mark.parametrize("shape", ANSWERED)
def test_what_has_one_meaning_is_answered_once(server, shape):
    assert told(server, ANSWERED[shape]) == [200]


def test_who_waits_for_leave_gets_it_once_and_keeps_nobody_waiting(server):
    waiting = HEAD + LENGTH + b"expect: 100-continue\r\n\r\n"
    assert told(server, waiting) == [100, 408]
    assert told(server, waiting + BODY) in ([100, 200], [200])
    unknown = HEAD + LENGTH + b"expect: the-unexpected\r\n\r\n" + BODY
    assert told(server, unknown) in ([200], [417])


def test_pipelined_requests_of_every_framing_are_each_answered(server):
    assert told(server, b"".join(ANSWERED.values())) == [200] * len(ANSWERED)


@pytest.mark.parametrize("shape", ["two lengths", "a chunk's size that is none", "NUL in a name", "another protocol"])
def test_no_refusal_is_taken_for_the_answer_to_a_request_before_it(server, shape):
    asked = [*ANSWERED.values(), REFUSED[shape], ANSWERED["absurd extensions"]]
    answers = told(server, b"".join(asked))
    known, more = answers[: len(ANSWERED)], answers[len(ANSWERED) :]
    assert known == [200] * len(known)
    assert more in ([], [400])


def test_nothing_hidden_in_a_body_is_ever_scored(tmp_path):
    production = Production(tmp_path)
    production.release(production.push(compiled=True))
    with serving(production) as server:
        server.wait(server.ready)
        for content in REFUSED.values():
            told(server, content)
        assert told(server, ANSWERED["absurd extensions"]) == [200]
        server.process.terminate()
        server.process.wait(30)
    assert set(journalled(production)) == {"seen"}
