"""Reads the manifest, and the signatures beside it, from a file or from an HTTP(S) address."""

from __future__ import annotations

import base64
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote_to_bytes, urljoin, urlsplit, urlunsplit

from mergeline.errors import ManifestError, SignatureError
from mergeline.files import write_bytes

MAX_BYTES = 1_000_000
SECONDS = 5.0
"""How long an address may keep the server waiting, for each part of its answer; meanwhile the old model serves."""
ALL_SECONDS = 20.0
"""How long its whole answer may take: one that drips would be waited for for ever."""


class ManifestSource(Protocol):
    """Where the manifest comes from."""

    def read(self) -> bytes:
        """The manifest as it stands now.

        Raises:
            ManifestError: it is missing, or cannot be read.
        """

    def signature(self, name: str) -> Path:
        """The file of a model's signature that the manifest calls `name` (`deploy/signatures/….json`).

        Raises:
            SignatureError: it cannot be fetched.
        """


class FileSource:
    """A manifest on disk, read anew each time, so that a link that is turned (a ConfigMap) is followed."""

    def __init__(self, path: str, root: Path) -> None:
        self._path, self._root = Path(path), root

    def read(self) -> bytes:
        """The file's bytes."""
        try:
            return self._path.read_bytes()
        except OSError as cause:
            raise ManifestError(
                f"the manifest cannot be read: {cause.strerror}",
                where=str(self._path),
                hint="put it back (git checkout), or give its path with --manifest",
            ) from None

    def signature(self, name: str) -> Path:
        """The file under the root."""
        return self._root / name


class UrlSource:
    """A manifest behind an address, fetched again only when its ETag or its date has changed.

    Its signatures are fetched from where they lie in git: beside it, in `signatures/`. A user and a password in the
    address are sent as HTTP's basic authorisation, and its query goes with the signatures' addresses too.
    """

    def __init__(self, url: str, folder: Path) -> None:
        (self._url, self._authorization), self._folder = _without_user(url), folder
        self._content: bytes | None = None
        self._validators: dict[str, str] = {}

    def read(self) -> bytes:
        """The newest bytes."""
        try:
            with self._open(self._url, self._validators) as response:
                content = _bounded(response)
                tags = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
                self._validators = {ask: told for ask, name in tags.items() if (told := response.headers[name])}
        except urllib.error.HTTPError as cause:
            cause.close()
            if cause.code == http.HTTPStatus.NOT_MODIFIED and self._content is not None:
                return self._content
            raise self._unreadable(f"{cause.code} {cause.reason}") from None
        except (OSError, http.client.HTTPException, ValueError) as cause:
            raise self._unreadable(str(getattr(cause, "reason", "") or cause or type(cause).__name__)) from None
        self._content = content
        return content

    def signature(self, name: str) -> Path:
        """A copy in the local folder; a signature's name holds the digest that it signs, so one that is there stays."""
        path = self._folder / Path(name).name
        if not path.exists():
            query = urlsplit(self._url).query
            # The manifest of an environment before production has a folder of its own in deploy/.
            above = "../" if re.search(r"/deploy/[a-z][a-z0-9-]*/manifest\.yaml$", urlsplit(self._url).path) else ""
            url = urljoin(self._url, above + name.removeprefix("deploy/")) + (f"?{query}" if query else "")
            try:
                with self._open(url, {}) as response:
                    write_bytes(path, _bounded(response))
            except (OSError, http.client.HTTPException, ValueError) as cause:
                raise SignatureError(
                    f"the signature cannot be fetched: {cause}",
                    where=without_secrets(url),
                    hint="put the folder deploy/signatures beside the manifest",
                ) from None
        return path

    def _open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - make_source saw http(s)
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)  # it is meant for this server alone
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=SECONDS)  # noqa: S310
        return response

    def _unreadable(self, reason: str) -> ManifestError:
        return ManifestError(
            f"the manifest cannot be fetched: {reason}",
            where=without_secrets(self._url),
            hint="check the address and the server behind it, or give another with --manifest",
        )


def make_source(place: str, *, root: Path, folder: Path) -> ManifestSource:
    """The source behind a path or an address; `folder` takes the signatures that must be fetched."""
    return UrlSource(place, folder) if is_url(place) else FileSource(place, root)


def is_url(place: str) -> bool:
    """Whether the manifest is fetched over HTTP(S)."""
    return place.startswith(("http://", "https://"))


def _without_user(url: str) -> tuple[str, str]:
    """An address without user and password, and the header that says them; urllib knows none in addresses."""
    scheme, user, rest = re.fullmatch(r"(https?://)(?:([^/?#]*)@)?(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]
    if user is None:
        return url, ""
    name, _, password = user.partition(":")
    secret = base64.b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password))
    return scheme + rest, f"Basic {secret.decode()}"


def _bounded(response: http.client.HTTPResponse) -> bytes:
    content, end = b"", time.monotonic() + ALL_SECONDS
    while part := response.read1(MAX_BYTES + 1):
        content += part
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES / 1e6:g} MB")
        if time.monotonic() > end:
            raise ValueError(f"not whole after {ALL_SECONDS:g} seconds")
    if response.length:  # read1 does not say that the rest is missing
        raise http.client.IncompleteRead(content, response.length)
    return content


def without_secrets(url: str) -> str:
    """The address without user, password and query: it is shown in /status."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
