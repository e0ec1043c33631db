"""Decides which columns are written, which are hashed and which are dropped, before anything is written."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mergeline.documents import nearest
from mergeline.journal.wal_format import Layout
from mergeline.params import JournalParams, Task
from mergeline.requests.answers import class_name
from mergeline.requests.records import unread_names
from mergeline.scorer.signature import Kind, Signature

KEY_VARIABLE = "MERGELINE_JOURNAL_KEY"
KEY_FILE = "hash.key"
KEY_BYTES = 32


def redaction_key(folder: Path, environment: Mapping[str, str]) -> bytes:
    """The key of this deployment: from the environment, or a file in the journal that is made once.

    Several machines need the same key in the environment for their hashes to agree. The file keeps hashes apart
    from those of others, but not from somebody who can read the journal's folder.

    Raises:
        OSError: there is no variable, and the file can be neither read nor made.
    """
    if given := environment.get(KEY_VARIABLE):
        return hashlib.blake2b(given.encode(), digest_size=KEY_BYTES).digest()
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / KEY_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # of workers that start together, the first one makes it
        key = stream.read(KEY_BYTES + 1)
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            stream.seek(0)
            stream.write(key)
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
    return key


HASH_BYTES = 16


class Part(NamedTuple):
    """One value that is kept: its place in what the server read, and whether it is hashed."""

    place: int
    hashed: bool


class Redaction(NamedTuple):
    """What is kept of each record."""

    columns: tuple[Part, ...]
    unread: tuple[Part, ...]
    hash_ids: bool

    def redact(
        self, rows: Sequence[Sequence[Any]], unread: Sequence[Sequence[Any]], key: bytes
    ) -> tuple[list[list[Any]], list[list[Any]]]:
        """The values that may be written, of the model's columns and of the others."""
        return _kept(rows, self.columns, key), _kept(unread, self.unread, key)


def plan(signature: Signature, settings: JournalParams) -> tuple[Layout, Redaction | None]:
    """What is written of a record with this signature, and how; no redaction where all of it is."""
    unread = unread_names(signature)
    columns = tuple(
        Part(i, name in settings.hash) for i, name in enumerate(signature.names) if name not in settings.drop
    )
    others = tuple(Part(i, name in settings.hash) for i, name in enumerate(unread) if name not in settings.drop)
    layout = Layout(
        columns=tuple(
            (signature.names[part.place], Kind.CATEGORY if part.hashed else signature.columns[part.place].kind.value)
            for part in columns
        ),
        unread=tuple(unread[part.place] for part in others),
        timed=signature.time is not None and signature.time not in (*settings.drop, *settings.hash),
        classes=tuple(map(class_name, signature.output.classes)) if signature.output.task is Task.MULTICLASS else (),
    )
    hash_ids = signature.id is not None and signature.id in settings.hash
    whole = len(columns) == len(signature.names) and len(others) == len(unread)
    if whole and not hash_ids and not any(part.hashed for part in (*columns, *others)):
        return layout, None
    return layout, Redaction(columns, others, hash_ids)


def unknown_columns(signature: Signature, settings: JournalParams) -> list[str]:
    """A sentence for each name in the params that is no column that can be redacted here.

    It is no error: the model before, or the one after, may have the column.
    """
    known = [*signature.names, *unread_names(signature), *filter(None, [signature.id])]
    sentences = []
    for key, names in (("drop", settings.drop), ("hash", settings.hash)):
        for name in names:
            if name not in known:
                guess = nearest(name, known)
                sentences.append(
                    f"serve.journal.{key}: no column {name!r}" + (f"; did you mean {guess!r}?" if guess else "")
                )
            elif key == "drop" and name == signature.id:
                sentences.append(f"serve.journal.drop: {name!r} is the id, by which labels are joined; hash it instead")
    return sentences


def hashed(value: Any, key: bytes) -> str:
    """A keyed hash (BLAKE2b, 128 bits, as 32 hexadecimal digits): equal values stay equal, and no more can be told.

    A number and a text are the same value where they read the same: 5, 5.0 and "5" are one id.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return hashlib.blake2b(text.encode(), key=key, digest_size=HASH_BYTES).hexdigest()


def _kept(rows: Sequence[Sequence[Any]], parts: Sequence[Part], key: bytes) -> list[list[Any]]:
    return [
        [
            hashed(row[part.place], key) if part.hashed and not is_missing(row[part.place]) else row[part.place]
            for part in parts
        ]
        for row in rows
    ]


def is_missing(value: Any) -> bool:
    """Null, or the NaN that stands for it in a column of numbers."""
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - only NaN is not itself
