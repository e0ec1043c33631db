"""Fetches over HTTP within a time and a size for all of it, and gives credentials to the named server alone."""

from __future__ import annotations

import base64
import http.client
import io
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from mergeline.errors import MergelineError

_HEAD_BYTES = 65_536
"""Of all heads, redirections' too."""


class FetchError(MergelineError):
    """No whole answer came."""


class AddressError(FetchError):
    """The address is none, or a header cannot be sent."""


class Response(NamedTuple):
    """An answer of any status, with its whole body."""

    status: int
    headers: Message
    body: bytes


def fetch(
    url: str,
    *,
    seconds: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Response:
    """Ask an address, and follow where it redirects to.

    Args:
        url: an http(s) address; a user and a password in it are sent as basic authorisation.
        seconds: for all of it, however slowly the answer drips.
        max_bytes: that the answer may have.
        headers: of the request.
        secrets: further headers, which go to the server in `url` and to no other that it redirects to.
        body: sent by POST where it is given.

    Raises:
        AddressError: the address is none.
        FetchError: nobody answers, or the answer is too slow, too large or not whole.
    """
    budget = _Budget(time.monotonic() + seconds, max_bytes + _HEAD_BYTES)
    where, hint = without_secrets(url), "check the address, and that the server runs"
    try:
        place, user = _without_user(url)
        request = urllib.request.Request(place, data=body, headers=dict(headers or {}))  # noqa: S310 - see _without_user
        for name, value in {**(secrets or {}), **user}.items():
            request.add_unredirected_header(name.capitalize(), value)
        opener = urllib.request.build_opener(_Redirects, _Handler(budget))
        answer: Any
        try:
            answer = opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as refusal:
            if refusal.code in {301, 302, 303, 307, 308}:
                raise  # in circles, or to something else than HTTP
            answer = refusal  # an answer like any other
        with answer:
            return Response(answer.status, answer.headers, _read(answer, max_bytes))
    except (http.client.InvalidURL, ValueError, TypeError) as cause:  # its words may hold a secret
        hint = "write it as http://host:port/path, and a key in one line"
        raise AddressError("not an http address", where=where, hint=hint) from cause
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        late = time.monotonic() >= budget.end
        what = f"not whole after {seconds:g} seconds" if late else str(reason) or type(reason).__name__
        if isinstance(reason, _TooLargeError):
            what = f"more than {max_bytes / 1e6:g} MB"
        raise FetchError(what, where=where, hint=hint) from (reason if isinstance(reason, Exception) else error)


def without_secrets(url: str) -> str:
    """The address without user, password and query, to be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not an address)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class _TooLargeError(OSError):
    """More bytes came than may."""


class _Budget:
    """What is left of the time, until `end` of the monotonic clock, and of the bytes."""

    def __init__(self, end: float, most: int) -> None:
        self.end, self.left = end, most

    def seconds(self) -> float:
        """What is left.

        Raises:
            TimeoutError: nothing is.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def take(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise _TooLargeError
        return count


class _Stream(io.RawIOBase):
    """What a socket receives, charged to a budget."""

    def __init__(self, socket: Any, budget: _Budget) -> None:
        self._socket, self._budget = socket, budget
        self._stream = socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._budget.seconds())
        return self._budget.take(self._stream.readinto(buffer) or 0)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Socket:
    """A connected socket whose answers are charged to a budget."""

    def __init__(self, socket: Any, budget: _Budget) -> None:
        self._socket, self._budget = socket, budget

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self._socket, self._budget))


def _connection(kind: type[http.client.HTTPConnection], budget: _Budget) -> type[http.client.HTTPConnection]:
    class Connection(kind):  # type: ignore[valid-type, misc]
        def connect(self) -> None:
            self.timeout = budget.seconds()
            super().connect()
            self.sock: Any = _Socket(self.sock, budget)

    return Connection


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens http(s) addresses by connections that are charged to a budget."""

    def __init__(self, budget: _Budget) -> None:
        super().__init__()
        self._budget = budget

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connection(http.client.HTTPConnection, self._budget), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connection(http.client.HTTPSConnection, self._budget), req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http(s) addresses; secrets go along on the first server, and are left behind when that is left."""

    def redirect_request(  # noqa: PLR0917 - as urllib has it
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # its body is of no use, and may have no end
        if not newurl.startswith(("http://", "https://")):
            raise urllib.error.URLError("it redirects to something else than an http address")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and _origin(newurl) == _origin(req.full_url):
            for name, value in req.unredirected_hdrs.items():
                if name not in {"Host", "Content-length", "Content-type"}:
                    request.add_unredirected_header(name, value)
        return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """An address without user and password, and the header that says them; urllib knows none in addresses."""
    found = re.fullmatch(r"(https?://)(?:([^/?#]*)@)?(.*)", url, re.DOTALL)
    if found is None:
        raise http.client.InvalidURL
    scheme, user, rest = found.groups()
    if user is None:
        return url, {}
    name, _, password = user.partition(":")
    secret = base64.b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password))
    return scheme + rest, {"Authorization": f"Basic {secret.decode()}"}


def _read(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    content = bytearray()
    while part := answer.read1(65_536):
        content += part
        if len(content) > max_bytes:
            raise _TooLargeError
    if answer.length:  # read1 does not say that the rest is missing
        raise http.client.IncompleteRead(bytes(content), answer.length)
    return bytes(content)
