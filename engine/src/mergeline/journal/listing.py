"""Lists a journal's files, folder by folder: a folder that may not be read is told, and never taken for empty."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeline.errors import WatchError

if TYPE_CHECKING:
    import duckdb

_PREDICTIONS, _FEEDBACK = ("predictions", "day=*", "digest=*", "*.parquet"), ("feedback", "day=*", "*.parquet")


class NoJournalError(WatchError):
    """Nothing was journalled there yet, or the place is another."""


class Kind(Enum):
    """What a name in a folder stands for."""

    FOLDER = auto()
    FILE = auto()
    LOST = auto()  # a folder or file of the journal that cannot be come at
    OTHER = auto()  # a pipe or a device: opening one may never end


class Entry(NamedTuple):
    """What a folder holds under a name."""

    path: str
    kind: Kind


Look = Callable[[str], Sequence[Entry]]
"""Gives what a folder holds. Raises FileNotFoundError where there is none, PermissionError where it is not for us."""


@dataclass(frozen=True)
class Listed:
    """The paths of a journal's files, and of what cannot be come at: folders that may not be read, links to nothing."""

    predictions: tuple[str, ...]
    feedback: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


def list_journal(connection: duckdb.DuckDBPyConnection, place: str) -> Listed:
    """The files of the journal at a folder, or at an address as fsspec has it.

    Raises:
        NoJournalError: there is no such folder.
        WatchError: it does not answer, or nothing of it may be read.
    """
    if "://" in place:
        return _list_address(connection, place)
    try:
        if not S_ISDIR(Path(place).stat().st_mode):
            raise _missing(place)
        return _list(str(Path(place)), _look)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(place) from None
    except OSError as cause:
        raise WatchError(
            f"the journal cannot be read: {cause.strerror}",
            where=cause.filename or place,
            hint="take the right to read there: call as the server's user, or as one of its group",
        ) from cause


def _list_address(connection: duckdb.DuckDBPyConnection, place: str) -> Listed:
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(place)
        exists = files.isdir(root)
        found = _list(root, lambda folder: _look_there(files, folder)) if exists else Listed((), ())
    except Exception as cause:  # each file system raises what its own library does
        raise _silent(place, cause) from cause
    if not exists:
        raise _missing(place)
    connection.register_filesystem(files)
    protocol = files.protocol if isinstance(files.protocol, str) else files.protocol[0]
    return Listed(
        *(
            tuple(f"{protocol}://{path}" for path in paths)
            for paths in (found.predictions, found.feedback, found.unreadable)
        )
    )


def read_at_address(path: str) -> bool:
    """Read a file that DuckDB could not, without DuckDB: what it says of a store that is away, it says of damage.

    Returns:
        Whether it was read; False where it lies on this machine, is gone, or is not for us.

    Raises:
        WatchError: its store does not answer.
    """
    if "://" not in path:
        return False
    import fsspec

    try:
        with fsspec.open(path, "rb") as stream:
            while stream.read(1 << 20):
                pass
    except (FileNotFoundError, PermissionError):
        return False
    except Exception as cause:  # each file system raises what its own library does
        raise _silent(path, cause) from cause
    return True


def _silent(place: str, cause: Exception) -> WatchError:
    return WatchError(
        f"the journal does not answer: {cause}",
        where=place,
        hint="check the address, and that its credentials are at hand",
    )


def _missing(place: str) -> NoJournalError:
    return NoJournalError(
        "there is no journal",
        where=place,
        hint="give the folder or address where the server writes: --journal, or params.yaml: watch.journal;"
        " the server makes it with its first answer",
    )


def _list(root: str, look: Look) -> Listed:
    """Walk a journal. Without the predictions there is nothing to say; of anything less the rest can be used."""
    answers = _below(f"{root}/{_PREDICTIONS[0]}", _PREDICTIONS[1:], look)
    place = f"{root}/{_FEEDBACK[0]}"
    try:
        labels = _below(place, _FEEDBACK[1:], look)
    except PermissionError:
        labels = [Entry(place, Kind.LOST)]
    return Listed(
        predictions=tuple(sorted(path for path, kind in answers if kind is Kind.FILE)),
        feedback=tuple(sorted(path for path, kind in labels if kind is Kind.FILE)),
        unreadable=tuple(sorted(path for path, kind in (*answers, *labels) if kind is Kind.LOST)),
    )


def _below(folder: str, patterns: Sequence[str], look: Look) -> list[Entry]:
    try:
        return list(_walk(folder, patterns, look))
    except (FileNotFoundError, NotADirectoryError):  # none was made yet, or the server has just taken it away
        return []


def _walk(folder: str, patterns: Sequence[str], look: Look) -> Iterator[Entry]:
    """The files below a folder whose names match a pattern at each depth, and what cannot be come at on the way."""
    pattern, *deeper = patterns
    for entry in look(folder):
        name = entry.path.rsplit("/", 1)[-1]
        # A name that begins with a dot is not whole yet.
        if name.startswith(".") or not fnmatchcase(name, pattern):
            continue
        if entry.kind is Kind.LOST or (entry.kind is Kind.FILE and not deeper):
            yield entry
        elif entry.kind is Kind.FOLDER and deeper:
            try:
                yield from _below(entry.path, deeper, look)
            except PermissionError:
                yield Entry(entry.path, Kind.LOST)


def _look(folder: str) -> list[Entry]:
    """What a folder of this machine holds; links are followed."""
    with os.scandir(folder) as found:
        return [Entry(entry.path, _kind(entry)) for entry in found]


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_dir():
            return Kind.FOLDER
        if entry.is_file():
            return Kind.FILE
        return Kind.LOST if entry.is_symlink() and not Path(entry.path).exists() else Kind.OTHER
    except OSError:  # a link into a folder that is not for us, or one that leads to itself
        return Kind.LOST


def _look_there(files: Any, folder: str) -> list[Entry]:
    """What a folder of another file system holds, which knows links only where it is this machine's."""
    kinds = {"directory": Kind.FOLDER, "file": Kind.FILE}
    found = []
    for each in files.ls(folder, detail=True):
        path, kind = each["name"].rstrip("/"), kinds.get(each["type"], Kind.OTHER)
        if each.get("islink") or each["type"] == "link":
            kind = Kind.FOLDER if files.isdir(path) else Kind.FILE if files.isfile(path) else Kind.LOST
        found.append(Entry(path, kind))
    return found
