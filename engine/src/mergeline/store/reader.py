"""Reads the model store: a DVC remote's folder of content-addressed objects, wherever fsspec reaches."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mergeline.errors import DigestError, StoreError


class StoredFile(NamedTuple):
    """One file of a stored folder: its path there, and the object that holds it."""

    path: str
    object: str
    md5: str


class Store:
    """The objects under `url`: a local folder, `s3://…`, or any other place that fsspec knows."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or url

    def fetch_folder(self, source: str, into: Path) -> None:
        """Copy the folder that the object `source` lists to `into`, whole or not at all.

        Args:
            source: the object's path in the store, as `files/md5/ab/cdef….dir`.
            into: the folder to make; one that is there already is replaced.

        Raises:
            StoreError: an object is missing, or the store does not answer.
            DigestError: an object's bytes are not those that its name promises.
        """
        into.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
        try:
            for file in self._listing(source):
                target = draft / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self._checked(file.object, file.md5))
            if into.exists():
                shutil.rmtree(into)
            draft.chmod(0o755)
            draft.replace(into)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def objects(self, source: str) -> Iterator[tuple[str, bytes]]:
        """The object `source` and those that it lists: the path and the bytes of each, checked.

        Raises:
            StoreError: an object is missing, or the store does not answer.
            DigestError: an object's bytes are not those that its name promises.
        """
        yield source, self._checked(source, object_md5(source))
        for file in self._listing(source):
            yield file.object, self._checked(file.object, file.md5)

    def missing(self, source: str) -> tuple[str, ...]:
        """The objects behind `source` that are not there, or hold other bytes than their names promise."""
        try:
            files = list(self._listing(source))
        except (StoreError, DigestError):
            return (source,)
        return tuple(file.object for file in files if not self._holds(file))

    def _holds(self, file: StoredFile) -> bool:
        try:
            self._checked(file.object, file.md5)
        except (StoreError, DigestError):
            return False
        return True

    def _listing(self, source: str) -> Iterator[StoredFile]:
        content = self._checked(source, object_md5(source))
        try:
            entries = [(str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(content)]
        except (ValueError, TypeError, KeyError) as cause:
            raise StoreError(
                "the object is not a list of files", where=f"{self.url}/{source}", hint="push the model again: dvc push"
            ) from cause
        for path, md5 in entries:
            parts = PurePosixPath(path).parts
            if not parts or ".." in parts or path.startswith("/"):
                raise StoreError(
                    f"the listing names a file outside the folder: {path!r}",
                    where=f"{self.url}/{source}",
                    hint="do not use this store; restore it from a copy that you trust",
                )
            yield StoredFile(path, object_path(md5), md5)

    def _checked(self, path: str, md5: str) -> bytes:
        content = self._read(path)
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DigestError(
                f"the object's bytes have md5 {found}, its name promises {md5}",
                where=f"{self.url}/{path}",
                hint="delete the damaged object and push it again from a clone that has it: dvc push",
            )
        return content

    def _read(self, path: str) -> bytes:
        import fsspec

        try:
            with fsspec.open(f"{self.url}/{path}", "rb") as stream:
                content = stream.read()
        except (OSError, ValueError, ImportError) as cause:
            # Of an HTTP server that is down fsspec says, too, that the file was not found.
            if isinstance(cause, FileNotFoundError) and not isinstance(cause.__cause__, OSError):
                raise StoreError(
                    "the object is not in the store",
                    where=f"{self.url}/{path}",
                    hint="push it from a clone that has it (dvc push), or pull the commit that added it (git pull)",
                ) from None
            raise StoreError(
                f"the store does not answer: {cause}",
                where=f"{self.url}/{path}",
                hint="check the address and the credentials: dvc remote list",
            ) from cause
        return bytes(content)


def object_path(md5: str) -> str:
    """Where a DVC remote keeps the object with this digest (`….dir` for a folder)."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def object_md5(path: str) -> str:
    """The md5 that an object's path promises."""
    folder, name = path.rsplit("/", 2)[-2:]
    return (folder + name).removesuffix(".dir")


def configured_url(root: Path) -> str:
    """The address of the default remote as `.dvc/config` writes it: a relative one starts from that file's folder.

    Raises:
        StoreError: no remote is configured.
    """
    file = root / ".dvc" / "config"
    config = configparser.ConfigParser(interpolation=None)
    for name in (file, file.with_name("config.local")):
        if name.exists():
            config.read_string("\n".join(line.strip() for line in name.read_text().splitlines()))
    remote = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{remote}\"'", "url", fallback="")
    if not url:
        raise StoreError(
            "no default remote is configured", where=str(file), hint="dvc remote add --default store ../store"
        )
    return url


def configured_store(root: Path) -> Store:
    """The store that `.dvc/config` names as its default remote.

    Raises:
        StoreError: no remote is configured.
    """
    url = configured_url(root)
    return Store(url if "://" in url else os.path.normpath(root / ".dvc" / url))
