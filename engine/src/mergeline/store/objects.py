"""The objects of DVC's content-addressed store: reads them with their digests checked, and puts new ones in.

A store is a DVC remote's folder, wherever fsspec reaches. An object's name is its path there: `files/md5/ab/cdef…` for
a file, `….dir` for the JSON list of a folder's files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mergeline.documents import parse_json
from mergeline.errors import DigestError, MergelineError, StoreError
from mergeline.files import put_file
from mergeline.home import Home
from mergeline.store.config import configured_cache, resolved_url

if TYPE_CHECKING:
    from mergeline.store.dvc_lock import LockedOutput

Read = Callable[[str], bytes | None]
"""Gives the bytes of an object by its name in the store, or None where it is not there."""

MAX_BYTES = 1024 * 2**20  # of a folder: twenty times the gate's bound on a model
_MAX_LISTING_BYTES = 16 * 2**20  # 100,000 files
_ENTRY_BYTES = 4096  # what a disk takes for the smallest file, and for a folder
_NAME_BYTES, _PATH_CHARACTERS = 255, 1024  # what file systems take
_MD5 = re.compile(r"[0-9a-f]{32}")
_BLOCK = 2**20
_PUSH = "push it from the clone that has it (dvc push), pull the commit that added it (git pull), or propose again"


class Store:
    """The objects under `url`: a local folder, `s3://…`, or any other place that fsspec knows."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or url

    def fetch_folder(self, source: str, into: Path, max_bytes: int = MAX_BYTES) -> None:
        """Copy the folder that the object `source` lists to `into`, whole or not at all; see `fetch_folder`."""
        with self._located():
            fetch_folder(source, self.read, into, max_bytes)

    def objects(self, source: str) -> Iterator[tuple[str, bytes]]:
        """The object `source` and those that it lists: the name and the bytes of each, checked.

        Raises:
            StoreError: an object is missing, or the store does not answer.
            DigestError: an object's bytes are not those that its name promises.
        """
        with self._located():
            yield source, _checked(source, self.read)
            for _, md5 in listing(source, self.read):
                yield object_path(md5), _checked(object_path(md5), self.read)

    def missing(self, source: str) -> tuple[str, ...]:
        """The objects behind `source` that are not there, or hold other bytes than their names promise."""
        try:
            names = [object_path(md5) for _, md5 in listing(source, self.read)]
        except MergelineError:
            return (source,)
        return tuple(name for name in names if not self._holds(name))

    def has(self, name: str) -> bool:
        """Whether the object is there.

        Raises:
            StoreError: the store does not answer.
        """
        with self._answering():
            files, folder = self._place
            return bool(files.exists(f"{folder}/{name}"))

    def read(self, name: str) -> bytes | None:
        """The bytes of an object as the store has them, or None where it is not there; the reader checks them.

        Raises:
            StoreError: the store does not answer, or holds something else than a file, or a file without an end.
        """
        with self._answering():
            files, folder = self._place
            path = f"{folder}/{name}"
            try:
                if "file" in _protocols(files) and not stat.S_ISREG(Path(path).stat().st_mode):
                    raise OSError(f"{name} is not a file")  # opening a FIFO would wait for ever
                with files.open(path, "rb") as stream:
                    content = bytes(stream.read(MAX_BYTES + 1))
            except FileNotFoundError as cause:
                if isinstance(cause.__cause__, OSError):  # how fsspec says that an HTTP server is down
                    raise
                return None
            if len(content) > MAX_BYTES:
                raise OSError(f"{name} is larger than {MAX_BYTES:,} bytes")
            return content

    def put(self, name: str, file: Path) -> None:
        """Copy a file into the store; what is there already stays as it is.

        Raises:
            StoreError: the store is full, does not answer, or is not writable.
        """
        if self.has(name):
            return
        with self._answering():
            files, folder = self._place
            target = f"{folder}/{name}"
            files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            draft = f"{target}.{os.getpid()}.part" if "file" in _protocols(files) else target
            put_file(files, file, draft)  # object stores show a new object only when it is whole
            if draft != target:
                files.mv(draft, target)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system of fsspec, and the store's folder in it."""
        import fsspec

        files, folder = fsspec.url_to_fs(self.url)
        return files, folder.rstrip("/")

    def _holds(self, name: str) -> bool:
        try:
            _checked(name, self.read)
        except MergelineError:
            return False
        return True

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as cause:  # every store's client has errors of its own, not all of them OSErrors
            raise StoreError(
                f"the store does not answer: {cause}",
                where=self.url,
                hint="check the address and the credentials: dvc remote list",
            ) from cause

    @contextlib.contextmanager
    def _located(self) -> Iterator[None]:
        """Errors about an object name the store as well."""
        try:
            yield
        except (StoreError, DigestError) as error:
            where = error.where if error.where.startswith(self.url) else f"{self.url}/{error.where}"
            raise type(error)(error.what, where=where, hint=error.hint) from error.__cause__


def configured_store(root: Path) -> Store:
    """The store that DVC's configuration names as its default remote.

    Raises:
        StoreError: no remote is configured.
    """
    return Store(resolved_url(root))


def embedded_store(root: Path) -> str | None:
    """The folder of the store from the root of the repository, where that holds it itself."""
    try:
        url = configured_store(root).url
    except StoreError:
        return None
    path, root = Path(url), Home.at(root).root.resolve()
    if "://" in url or not path.resolve().is_relative_to(root):
        return None
    return path.resolve().relative_to(root).as_posix()


def object_path(md5: str) -> str:
    """Where a DVC remote keeps the object with this digest (`….dir` for a folder)."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def object_md5(name: str) -> str:
    """The md5 that an object's name promises."""
    folder, rest = name.rsplit("/", 2)[-2:]
    return (folder + rest).removesuffix(".dir")


def listing(name: str, read: Read) -> tuple[tuple[str, str], ...]:
    """The files of a stored folder: their paths in it, and their md5.

    Raises:
        StoreError: the listing is not there, is not one, or names what cannot be files of one folder.
        DigestError: its bytes are not those that its name promises.
    """
    content = _checked(name, read)
    try:
        found = parse_json(content[:_MAX_LISTING_BYTES], name, StoreError)  # a longer one is cut, and then no list
        entries = [_entry(**entry) for entry in found]
    except (ValueError, TypeError, StoreError) as cause:
        raise StoreError("the object is not a list of files", where=name, hint="train the model again") from cause
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for path, md5 in entries:
        parts = PurePosixPath(path).parts
        if not _is_plain(path, parts) or not _MD5.fullmatch(md5) or parts in files:
            raise StoreError(
                f"the listing names {path[:200]!r}, which is no file of one folder",
                where=name,
                hint="do not use this object: train the model again",
            )
        files.add(parts)
        folders |= {parts[:depth] for depth in range(1, len(parts))}
    if both := sorted(files & folders):
        raise StoreError(
            f"the listing names {'/'.join(both[0])[:200]!r} as a file and as a folder",
            where=name,
            hint="train the model again",
        )
    return tuple(entries)


def fetch_folder(source: str, read: Read, into: Path, max_bytes: int = MAX_BYTES) -> None:
    """Write the folder that the object `source` lists, whole or not at all.

    Args:
        source: the listing's name, as `files/md5/ab/cdef….dir`.
        read: where the objects come from.
        into: the folder to make; one that is there already is replaced.
        max_bytes: how much disk it may take.

    Raises:
        StoreError: an object is missing, the store does not answer, or the folder is too large.
        DigestError: an object's bytes are not those that its name promises.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    total = 0
    try:
        for path, md5 in listing(source, read):
            content = _checked(object_path(md5), read)
            total += len(content) + _ENTRY_BYTES * len(PurePosixPath(path).parts)  # many names may share one object
            if total > max_bytes:
                raise StoreError(
                    f"the folder takes more than {max_bytes:,} bytes", where=source, hint="make the model smaller"
                )
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        if into.exists():
            shutil.rmtree(into)
        draft.chmod(0o755)
        draft.replace(into)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def objects_of(outputs: Iterable[LockedOutput], read: Read) -> tuple[str, ...]:
    """The names of all objects behind these outputs: files, listings of folders, and the files that they list.

    Raises:
        StoreError: a listing is not there, or is not one.
        DigestError: its bytes are not those that its name promises.
    """
    names: dict[str, None] = {}
    for output in outputs:
        names[output.object] = None
        if output.object.endswith(".dir"):
            names |= dict.fromkeys(object_path(md5) for _, md5 in listing(output.object, read))
    return tuple(names)


def new_objects(root: Path, outputs: Iterable[LockedOutput], store: Store) -> dict[str, Path]:
    """The objects of these outputs that are in DVC's cache and that the store has not got.

    Returns:
        Their names in the store, and the file of each in the cache.

    Raises:
        StoreError: one is neither in the cache nor in the store.
    """
    cache = configured_cache(root)

    def read(name: str) -> bytes | None:
        return (cache / name).read_bytes() if (cache / name).is_file() else store.read(name)

    found = {}
    for name in objects_of(outputs, read):
        if store.has(name):
            continue
        if not (cache / name).is_file():
            raise _missing(name)
        found[name] = cache / name
    return found


def require_md5(name: str, file: Path) -> None:
    """Check that the bytes of an object are those that its name promises.

    Raises:
        DigestError: they are others.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    _require_digest(name, digest.hexdigest())


def _checked(name: str, read: Read) -> bytes:
    content = read(name)
    if content is None:
        raise _missing(name)
    _require_digest(name, hashlib.md5(content, usedforsecurity=False).hexdigest())
    return content


def _require_digest(name: str, found: str) -> None:
    if found != object_md5(name):
        raise DigestError(
            f"the object's bytes have md5 {found}, its name promises {object_md5(name)}",
            where=name,
            hint="delete the damaged object and push it again from a clone that has it: dvc push",
        )


def _entry(*, relpath: Any, md5: Any) -> tuple[str, str]:
    """An entry of a listing; DVC reads none that has other keys, or values that are no texts."""
    if not (isinstance(relpath, str) and isinstance(md5, str)):
        raise TypeError("an entry that is no text")
    return relpath, md5


def _is_plain(path: str, parts: tuple[str, ...]) -> bool:
    """Whether every file system that we know takes such a path, below the folder that it is in."""
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return False
    inside = parts and "/".join(parts) == path and not {"/", ".."} & {*parts} and not {"\0", "\\"} & {*path}
    return bool(inside) and len(path) <= _PATH_CHARACTERS and max(sizes) <= _NAME_BYTES


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _missing(name: str) -> StoreError:
    return StoreError("the object is not in the store", where=name, hint=_PUSH)
