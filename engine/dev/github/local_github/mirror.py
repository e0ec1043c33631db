"""Copies new git objects into the API emulator under the names that git gave them."""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_github.bare import NOTHING, Bare, Change
from local_github.emulator import Emulator

BATCH_BYTES = 8 << 20
_PERSON = re.compile(r"^(?P<name>.*) <(?P<email>[^>]*)> (?P<seconds>\d+) (?P<zone>[+-]\d{4})$")


class Mirror:
    """What the emulator knows of one repository: only what is new is sent."""

    def __init__(self, repository: Bare, emulator: Emulator) -> None:
        self._repository, self._emulator = repository, emulator
        self._known: set[str] = set()

    def send(self, commits: list[str]) -> None:
        """Send these commits and everything they need."""
        fresh = [commit for commit in commits if commit not in self._known]
        if not fresh:
            return
        wanted = "\n".join([*fresh, *(f"^{commit}" for commit in self._known)])
        names = self._repository.git.run("rev-list", "--objects", "--no-object-names", "--stdin", stdin=wanted).split()
        batch: dict[str, list[Any]] = {"blobs": [], "trees": [], "commits": []}
        size = 0
        for name, kind, content in read_objects(self._repository.folder, names):
            if kind in {"blob", "tree", "commit"}:
                batch[f"{kind}s"].append(_ENTRY[kind](name, content))
                size += len(content)
            if size > BATCH_BYTES:
                self._flush(batch)
                size = 0
        self._flush(batch)
        self._known.update(fresh)

    def follow(self, changes: list[Change]) -> None:
        """Send what the moved refs name, then move them there too."""
        self.send([change.new for change in changes if change.new != NOTHING])
        for change in changes:
            new = None if change.new == NOTHING else change.new
            self._emulator.internal("ref", {"repo": self._repository.name, "ref": change.ref, "sha": new})

    def _flush(self, batch: dict[str, list[Any]]) -> None:
        if any(batch.values()):
            self._emulator.internal("objects", {"repo": self._repository.name, **batch})
        for entries in batch.values():
            entries.clear()


def read_objects(folder: Path, names: list[str]) -> Iterator[tuple[str, str, bytes]]:
    """The objects of these names: name, kind, content.

    git reads the names from a file: through a pipe, git would wait for us to read its answers while we wait for it to
    read the names, as soon as both pipes are full.
    """
    with tempfile.TemporaryFile() as asked:
        asked.write("".join(f"{name}\n" for name in names).encode())
        asked.seek(0)
        command = ["git", "cat-file", "--batch", "--buffer"]
        with subprocess.Popen(command, cwd=folder, stdin=asked, stdout=subprocess.PIPE) as process:
            out = process.stdout
            while out is not None and (header := out.readline()):
                name, kind, length = header.decode().split()
                content = out.read(int(length))
                out.read(1)
                yield name, kind, content


def _blob(name: str, content: bytes) -> list[Any]:
    return [name, base64.b64encode(content).decode()]


def _tree(name: str, content: bytes) -> list[Any]:
    entries = []
    rest = content
    while rest:
        head, _, rest = rest.partition(b"\0")
        mode, _, path = head.partition(b" ")
        sha, rest = rest[:20].hex(), rest[20:]
        kind = {b"40000": "tree", b"160000": "commit"}.get(mode, "blob")
        entries.append([mode.decode().rjust(6, "0"), kind, sha, path.decode(errors="replace")])
    return [name, entries]


def _commit(name: str, content: bytes) -> list[Any]:
    head, _, message = content.decode(errors="replace").partition("\n\n")
    fields: dict[str, Any] = {"message": message.rstrip("\n"), "parent_shas": []}
    for line in head.splitlines():
        key, _, value = line.partition(" ")
        if key == "tree":
            fields["tree_sha"] = value
        elif key == "parent":
            fields["parent_shas"].append(value)
        elif key in {"author", "committer"} and (who := _PERSON.match(value)):
            when = datetime.fromtimestamp(int(who["seconds"]), UTC)
            fields |= {f"{key}_name": who["name"], f"{key}_email": who["email"],
                       f"{key}_date": when.strftime("%Y-%m-%dT%H:%M:%SZ")}  # fmt: skip
    return [name, fields]


_ENTRY = {"blob": _blob, "tree": _tree, "commit": _commit}
