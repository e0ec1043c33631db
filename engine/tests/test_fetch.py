"""Servers that were written to hurt whoever asks them: each is left in time, and gets no key that is not its own."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from mergeline.fetch import AddressError, FetchError, fetch

OK = b"HTTP/1.1 200 OK\r\n"
FOUND = b"HTTP/1.1 302 Found\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def server(*parts: bytes | bytearray, pause: float = 0.0, endless: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends these parts whoever asks, the last one for ever if `endless`; yields its address and heads.

    `ME` in a part is its own address.
    """
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            heads.append(connection.recv(65_536))
            chosen = parts if heads[-1].startswith((b"GET / ", b"POST / ")) else (OK + b"\r\nthere",)
            for part in chosen:
                connection.sendall(part.replace(b"ME", url.encode()))
                time.sleep(pause)
            while endless and chosen is parts:
                connection.sendall(parts[-1])
                time.sleep(pause)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield url, heads
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("parts", "pause", "why"),
    [
        pytest.param((OK + b"\r\n", b"x"), 0.05, "not whole after 0.4 seconds", id="a body that drips"),
        pytest.param((OK, b"a: b\r\n"), 0.05, "not whole after 0.4 seconds", id="a head that drips"),
        pytest.param((OK, b"a"), 0.05, "not whole after 0.4 seconds", id="a line that drips"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n",), 0.05, "not whole after 0.4 s", id="promises that drip"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n" * 999,), 0.0, "more than 0.001 MB", id="endless promises"),
        pytest.param((OK + b"\r\n", b"x" * 4096), 0.0, "more than 0.001 MB", id="an endless body"),
        pytest.param((OK, b"a: b\r\n" * 90), 0.0, "more than|headers", id="an endless head"),
        pytest.param((OK + b"content-length: 999999999999999\r\n\r\n", b"x" * 99), 0.0, "more than", id="a huge size"),
        pytest.param((FOUND + b"location: ME/\r\n\r\n", b"x" * 4096), 0.0, ".", id="a redirection without end"),
        pytest.param((OK + CHUNKED + b"0\r\n", b"a: b\r\n" * 90), 0.0, "more than", id="endless trailers"),
        pytest.param((OK + CHUNKED, b"1;" + b"a" * 999 + b"\r\n1\r\n"), 0.0, "more than", id="endless extensions"),
        pytest.param((OK + CHUNKED, b"1\r\nx\r\n"), 0.05, "not whole after 0.4 seconds", id="chunks that drip"),
        pytest.param((OK + CHUNKED, b"f" * 999), 0.0, ".", id="a chunk of endless size"),
        pytest.param((OK + b"content-length: -1\r\n\r\n", b"x" * 4096), 0.0, "more than", id="a size below nothing"),
        pytest.param((b"x" * 4096,), 0.0, ".", id="no answer at all"),
    ],
)
def test_an_answer_without_end_ends(parts, pause, why):
    with server(*parts, pause=pause, endless=True) as (url, _):
        start = time.monotonic()
        with pytest.raises(FetchError, match=why):
            fetch(f"{url}/", seconds=0.4, max_bytes=1000)
        assert time.monotonic() - start < 2


def test_a_key_goes_to_no_other_server():
    with server() as (other, overheard), server(FOUND + f"location: {other}/there\r\n\r\n".encode()) as (url, heads):
        secret = url.replace("http://", "http://me:word@")
        found = fetch(f"{secret}/", seconds=5, max_bytes=1000, secrets={"x-api-key": "secret"})

    assert found.body == b"there"
    assert b"secret" in heads[0]
    assert b"Basic" in heads[0]
    assert b"secret" not in overheard[0]
    assert b"Basic" not in overheard[0]


def test_a_key_does_not_come_back_from_another_server():
    """Else that server chooses what is asked with the key."""
    there = bytearray(FOUND)
    with server(there) as (other, _), server(FOUND + f"location: {other}/\r\n\r\n".encode()) as (url, heads):
        there += f"location: {url}/there\r\n\r\n".encode()
        assert fetch(f"{url}/", seconds=5, max_bytes=1000, secrets={"x-api-key": "secret"}).body == b"there"

    assert [b"secret" in head for head in heads] == [True, False]


def test_a_key_goes_along_on_the_same_server():
    with server(FOUND + b"location: ME/there\r\n\r\n") as (url, heads):
        fetch(f"{url}/", seconds=5, max_bytes=1000, secrets={"x-api-key": "secret"})

    assert [b"secret" in head for head in heads] == [True, True]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirection_leads_to_http_alone(target):
    with (
        server(FOUND + f"location: {target}\r\n\r\n".encode()) as (url, _),
        pytest.raises(FetchError),
    ):
        fetch(f"{url}/", seconds=5, max_bytes=1000)


@pytest.mark.parametrize(
    ("url", "key"), [("file:///etc/passwd", "k"), ("http://[::1", "k"), ("http://127.0.0.1:1/", "secret\nmore")]
)
def test_what_is_no_address_is_told_without_the_key(url, key):
    with pytest.raises(AddressError) as caught:
        fetch(url, seconds=1, max_bytes=1000, secrets={"x-api-key": key})

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "place", ["http://me:word@{}/there", "http://{}@127.0.0.1:1/", "//{}/there", "/\\{}/there", "{}"]
)
def test_a_redirection_of_another_shape_takes_the_key_nowhere_else(place):
    with server() as (other, overheard):
        target = place.format(other.removeprefix("http://"))
        with server(FOUND + f"location: {target}\r\n\r\n".encode()) as (url, heads), contextlib.suppress(FetchError):
            fetch(f"{url}/", seconds=2, max_bytes=1000, secrets={"x-api-key": "secret"})

    assert b"secret" in heads[0]
    assert not any(b"secret" in head for head in overheard)


def test_a_bomb_is_bytes_like_others():
    bomb = gzip.compress(b"0" * 1_000_000)
    with server(OK + b"content-encoding: gzip\r\n\r\n" + bomb) as (url, _):
        assert fetch(f"{url}/", seconds=5, max_bytes=2000).body == bomb


def test_an_answer_that_is_shorter_than_it_says_is_none():
    with server(OK + b"content-length: 9\r\n\r\nshort") as (url, _), pytest.raises(FetchError, match="IncompleteRead"):
        fetch(f"{url}/", seconds=5, max_bytes=1000)


def test_a_refusal_is_an_answer():
    with server(b"HTTP/1.1 404 Not Found\r\n\r\nno") as (url, _):
        assert fetch(f"{url}/", seconds=5, max_bytes=1000)[::2] == (404, b"no")
