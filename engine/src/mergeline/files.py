"""Writes files whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PUT_SECONDS, PUT_RATE = 60.0, 100_000.0
"""For the store's answer, and the bytes a second that the slowest line takes."""


class FolderError(OSError):
    """There can be no file at that path: another is in the way of its folder, or the folder takes none, as in /proc."""


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file that others write, whatever they put in its place: what is no file would never end.

    Raises:
        OSError: it is missing, cannot be read, is no file, or has more than `most` bytes.
    """
    with open(open_file(path), "rb") as stream:
        content: bytes = stream.read(most + 1) or b""  # None of a file in /proc that has nothing yet
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content


def open_file(path: Path) -> int:
    """A handle to read a file by.

    Raises:
        OSError: it is missing, cannot be read, or is no file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a FIFO would wait for ever
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return handle


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of writing the file's name, which one of a full disk comes without."""
    try:
        yield
    except OSError as cause:
        if cause.filename is None:
            cause.filename = str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path`: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the disk is full or the folder is not writable; the old file is untouched.
        FolderError: there can be no such folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except (NotADirectoryError, FileNotFoundError, FileExistsError) as cause:
        raise FolderError(cause.errno, cause.strerror, str(path.parent)) from cause
    try:
        with naming(path), os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def write_text(path: Path, content: str) -> None:
    """Put UTF-8 text at `path`, whole or not at all."""
    write_bytes(path, content.encode())


def canonical_json(value: Any) -> bytes:
    """One value, one byte string: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def pack_zip(members: dict[str, bytes]) -> bytes:
    """A zip file that holds nothing but its members' names and bytes, in order of their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def compact_json(value: Any, indent: int = 0, used: int = 0) -> str:
    """JSON for people: keys sorted, and what fits into 120 columns stands on one line.

    Args:
        value: what `json` can write.
        indent: columns before each of its further lines.
        used: columns of its first line that are taken.
    """
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(line) + used < 120 or not isinstance(value, dict | list) or not value:
        return line
    left, right = "{}" if isinstance(value, dict) else "[]"
    named = sorted(value.items()) if isinstance(value, dict) else [("", item) for item in value]
    inside, lines = indent + 2, []
    for name, item in named:
        key = f"{json.dumps(name)}: " if isinstance(value, dict) else ""
        lines.append(" " * inside + key + compact_json(item, inside, inside + len(key)))
    return f"{left}\n" + ",\n".join(lines) + f"\n{' ' * indent}{right}"


def put_file(files: Any, source: Path, target: str) -> None:
    """Copy a file to `target` of a file system of fsspec's, or fail in time.

    S3's client has no limit of its own for a store that takes a connection, and then never says `continue`.

    Raises:
        Exception: whatever the file system raises.
    """
    limit = {"timeout": PUT_SECONDS + source.stat().st_size / PUT_RATE} if getattr(files, "async_impl", False) else {}
    files.put_file(str(source), target, **limit)
