"""Finds the store's objects that a `dvc.lock` names, checks them, and carries them from place to place."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mergeline.errors import DigestError, MergelineError, StoreError
from mergeline.store.dvc_lock import LockedOutput
from mergeline.store.reader import Store, configured_store, object_md5, object_path

Read = Callable[[str], bytes | None]
"""Gives the bytes of an object by its name in the store, or None where it is not there."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_BLOCK = 2**20
MAX_BYTES = 1024 * 2**20  # of a folder: twenty times the gate's bound on a model, and quick to copy
_ENTRY_BYTES = 4096  # what a disk takes for the smallest file, and for a folder
_NAME_BYTES, _PATH_CHARACTERS = 255, 1024  # what file systems take
_LISTING_BYTES = 16 * 2**20  # 100,000 files; no model folder is near it


def configured_cache(root: Path) -> Path:
    """The folder of DVC's cache, as `.dvc/config` names it."""
    config = configparser.ConfigParser(interpolation=None)
    for name in ("config", "config.local"):
        file = root / ".dvc" / name
        if file.exists():
            config.read_string("\n".join(line.strip() for line in file.read_text().splitlines()))
    return Path(os.path.normpath(root / ".dvc" / config.get("cache", "dir", fallback="cache")))


def embedded_store(root: Path) -> str | None:
    """The folder of the store from the root, where the repository holds it itself."""
    try:
        url = configured_store(root).url
    except MergelineError:
        return None
    path = Path(url)
    if "://" in url or not path.resolve().is_relative_to(root.resolve()):
        return None
    return path.resolve().relative_to(root.resolve()).as_posix()


def objects_of(outputs: Iterable[LockedOutput], read: Read) -> tuple[str, ...]:
    """The names of all objects behind these outputs: files, listings of folders, and the files that they list.

    Raises:
        StoreError: a listing is not there, or is not one.
    """
    names: dict[str, None] = {}
    for output in outputs:
        names[output.object] = None
        if output.object.endswith(".dir"):
            names |= dict.fromkeys(object_path(md5) for _, md5 in listing(output.object, read))
    return tuple(names)


def listing(name: str, read: Read) -> tuple[tuple[str, str], ...]:
    """The files of a stored folder: their paths in it, and their md5.

    Raises:
        StoreError: the listing is not there, is not one, or names what cannot be files of one folder.
    """
    content = read(name)
    if content is None:
        raise _missing(name)
    try:
        found = json.loads(content[:_LISTING_BYTES])  # a longer one is cut, and then no list
        entries = [(str(entry["relpath"]), str(entry["md5"])) for entry in found]
    except (ValueError, TypeError, KeyError, RecursionError) as cause:
        raise StoreError("the object is not a list of files", where=name, hint="train the model again") from cause
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for path, md5 in entries:
        parts = PurePosixPath(path).parts
        if not _is_plain(path, parts) or not _MD5.fullmatch(md5) or parts in files:
            raise StoreError(f"the listing names {path[:200]!r}", where=name, hint="train the model again")
        files.add(parts)
        folders |= {parts[:depth] for depth in range(1, len(parts))}
    if both := sorted(files & folders):
        raise StoreError(
            f"the listing names {'/'.join(both[0])[:200]!r} as a file and as a folder",
            where=name,
            hint="train the model again",
        )
    return tuple(entries)


def _is_plain(path: str, parts: tuple[str, ...]) -> bool:
    """Whether every file system that we know takes such a path, below the folder that it is in."""
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return False
    inside = parts and ".." not in parts and not path.startswith("/") and "\0" not in path
    return bool(inside) and len(path) <= _PATH_CHARACTERS and max(sizes) <= _NAME_BYTES


def fetch_folder(source: str, read: Read, into: Path) -> None:
    """Write the folder that the listing `source` names into `into`.

    Raises:
        StoreError: an object is nowhere, or the folder is larger than a proposal may be.
        DigestError: an object's bytes are not those that its name promises.
    """
    total = 0
    for path, md5 in listing(source, read):
        content = read(object_path(md5))
        if content is None:
            raise _missing(object_path(md5))
        total += len(content) + _ENTRY_BYTES * len(PurePosixPath(path).parts)  # many names may share one object
        if total > MAX_BYTES:
            raise StoreError(
                f"the folder takes more than {MAX_BYTES:,} bytes", where=source, hint="make the model smaller"
            )
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        require_md5(object_path(md5), target)


def require_md5(name: str, file: Path) -> None:
    """Check that the bytes of an object are those that its name promises.

    Raises:
        DigestError: they are others.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != object_md5(name):
        raise DigestError(
            f"the object's bytes have md5 {digest.hexdigest()}, its name promises {object_md5(name)}",
            where=name,
            hint="make the proposal anew",
        )


def new_objects(root: Path, outputs: Iterable[LockedOutput], place: Place) -> dict[str, Path]:
    """The objects of these outputs that are in DVC's cache and that the store has not got.

    Returns:
        Their names in the store, and the file of each in the cache.

    Raises:
        StoreError: one is neither in the cache nor in the store.
    """
    cache = configured_cache(root)

    def read(name: str) -> bytes | None:
        return (cache / name).read_bytes() if (cache / name).is_file() else place.read(name)

    found = {}
    for name in objects_of(outputs, read):
        if place.has(name):
            continue
        if not (cache / name).is_file():
            raise _missing(name)
        found[name] = cache / name
    return found


class Place:
    """A store to look into and to put objects into; names are as in the store."""

    def __init__(self, store: Store) -> None:
        import fsspec

        self._url = store.url
        with self._answering():
            self._files, self._folder = fsspec.url_to_fs(store.url)

    def has(self, name: str) -> bool:
        """Whether the object is there.

        Raises:
            StoreError: the store does not answer.
        """
        with self._answering():
            return bool(self._files.exists(f"{self._folder}/{name}"))

    def read(self, name: str) -> bytes | None:
        """The bytes of an object, or None where it is not there.

        Raises:
            StoreError: the store does not answer.
        """
        with self._answering():
            try:
                return bytes(self._files.cat_file(f"{self._folder}/{name}"))
            except FileNotFoundError:
                return None

    def put(self, name: str, file: Path) -> None:
        """Copy a file into the store; what is there already stays as it is.

        Raises:
            StoreError: the store is full, does not answer, or is not writable.
        """
        if self.has(name):
            return
        target = f"{self._folder}/{name}"
        with self._answering():
            self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            draft = f"{target}.{os.getpid()}.part" if "file" in _protocols(self._files) else target
            self._files.put_file(str(file), draft)  # object stores show a new object only when it is whole
            if draft != target:
                self._files.mv(draft, target)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as cause:  # every store's client has errors of its own, not all of them OSErrors
            raise StoreError(
                f"the store does not answer: {cause}",
                where=self._url,
                hint="check the address and the credentials: dvc remote list",
            ) from cause


def _protocols(files: Any) -> Iterator[str]:
    protocol = files.protocol
    yield from (protocol,) if isinstance(protocol, str) else protocol


def _missing(name: str) -> StoreError:
    return StoreError(
        "dvc.lock names an object that is nowhere",
        where=name,
        hint="push it from the clone that has it (dvc push), or train the model again: mergeline propose",
    )
