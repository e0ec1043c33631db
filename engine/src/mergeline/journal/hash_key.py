"""Finds the key that makes the hashes of one deployment its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

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
        key = stream.read()
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            stream.seek(0)
            stream.write(key)
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
    return key
