"""Reads the manifest, and the signatures beside it, from a file or from an HTTP(S) address."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from mergeline.errors import ManifestError, SignatureError
from mergeline.fetch import FetchError, fetch, without_secrets
from mergeline.files import read_bounded, write_bytes

MAX_BYTES = 1_000_000
SECONDS = 10.0
"""How long an address may keep the server waiting; meanwhile the old model serves."""


class FileSource:
    """A manifest on disk, read anew each time, so that a link that is turned (a ConfigMap) is followed."""

    def __init__(self, path: str, root: Path) -> None:
        self._path, self._root = Path(path), root

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ManifestError: it is missing, no file, too large, or cannot be read.
        """
        try:
            return read_bounded(self._path, MAX_BYTES)
        except OSError as cause:
            raise ManifestError(
                f"the manifest cannot be read: {cause.strerror}",
                where=str(self._path),
                hint="put it back (git checkout), or give its path with --manifest",
            ) from None

    def signature(self, name: str) -> Path:
        """The file of a model's signature that the manifest calls `name` (`deploy/signatures/….json`)."""
        return self._root / name


class UrlSource:
    """A manifest behind an address, fetched again only when its ETag or its date has changed.

    Its signatures are fetched from where they lie in git: beside it, in `signatures/`. A user and a password in the
    address are sent as HTTP's basic authorisation, and its query goes with the signatures' addresses too.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._content: bytes | None = None
        self._validators: dict[str, str] = {}

    def read(self) -> bytes:
        """The newest bytes.

        Raises:
            ManifestError: they cannot be fetched.
        """
        try:
            answer = fetch(self._url, seconds=SECONDS, max_bytes=MAX_BYTES, headers=self._validators)
        except FetchError as error:
            raise self._unreadable(error.what) from None
        if answer.status == HTTPStatus.NOT_MODIFIED and self._content is not None:
            return self._content
        if answer.status != HTTPStatus.OK:
            raise self._unreadable(f"status {answer.status}")
        tags = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
        self._validators = {ask: told for ask, name in tags.items() if (told := answer.headers[name])}
        self._content = answer.body
        return answer.body

    def signature(self, name: str) -> Path:
        """A copy in the local folder; a signature's name holds the digest that it signs, so one that is there stays.

        Raises:
            SignatureError: it cannot be fetched.
        """
        path = self._folder / Path(name).name
        if not path.exists():
            query = urlsplit(self._url).query
            # The manifest of an environment before production has a folder of its own in deploy/.
            above = "../" if re.search(r"/deploy/[a-z][a-z0-9-]*/manifest\.yaml$", urlsplit(self._url).path) else ""
            url = urljoin(self._url, above + name.removeprefix("deploy/")) + (f"?{query}" if query else "")
            try:
                answer = fetch(url, seconds=SECONDS, max_bytes=MAX_BYTES)
                reason = "" if answer.status == HTTPStatus.OK else f"status {answer.status}"
            except FetchError as error:
                reason = error.what
            if reason:
                raise SignatureError(
                    f"the signature cannot be fetched: {reason}",
                    where=without_secrets(url),
                    hint="put the folder deploy/signatures beside the manifest; what is not signed: mergeline propose",
                )
            write_bytes(path, answer.body)
        return path

    def _unreadable(self, reason: str) -> ManifestError:
        return ManifestError(
            f"the manifest cannot be fetched: {reason}",
            where=without_secrets(self._url),
            hint="check the address and the server behind it, or give another with --manifest",
        )


def make_source(place: str, *, root: Path, folder: Path) -> FileSource | UrlSource:
    """The source behind a path or an address; `folder` takes the signatures that must be fetched."""
    return UrlSource(place, folder) if is_url(place) else FileSource(place, root)


def is_url(place: str) -> bool:
    """Whether the manifest is fetched over HTTP(S)."""
    return place.startswith(("http://", "https://"))
