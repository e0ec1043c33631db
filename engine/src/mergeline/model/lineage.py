"""What a model was made from: data, params, code, libraries."""

from __future__ import annotations

import hashlib
import json
import platform
import stat
from pathlib import Path
from typing import Any, Literal

from mergeline.documents import Frozen
from mergeline.model.environment import ENGINE, installed_environment, team_package
from mergeline.params import Params

_FORMAT = "training format"


class ModelLineage(Frozen):
    """The four digests that name a model's origin, and what a reader wants to know of each.

    `code` is the git tree of the team's package, `data` DVC's digest of the data folder, `params` the
    sha256 of the training params, `environment` that of the training format and `libraries`: what the model's
    bytes can depend on, so that neither a new linter in `uv.lock` nor a new engine is a new model. Models of the
    first edition have no training format, and name the engine among the libraries. `rows` counts the training rows.
    """

    code: str
    data: str
    params: str
    environment: str
    training: dict[str, Any]
    partitions: tuple[str, ...]
    rows: int
    seed: int
    processor: str
    libraries: dict[str, str]
    training_format: int | None = None

    def environment_parts(self) -> dict[str, str]:
        """What the model's bytes depend on beside its inputs, by name."""
        parts = {name: version for name, version in self.libraries.items() if name != ENGINE}
        if self.training_format is not None:
            parts[_FORMAT] = str(self.training_format)
        return parts


class Change(Frozen):
    """One difference between two models' origins."""

    kind: Literal["params", "data", "code", "libraries"]
    what: str
    before: str
    after: str


def make_lineage(params: Params, *, data: str, partitions: tuple[str, ...], rows: int) -> ModelLineage:
    """Gather the lineage of a model that is being trained.

    Raises:
        CodeError: the team's package, or a library that it imports, is not installed.
    """
    environment = installed_environment(params.model.factory)
    return ModelLineage(
        code=git_tree(team_package(params.model.factory)),
        data=data,
        params=sha256(params.training_json()),
        environment=environment.digest,
        training=params.training(),
        partitions=partitions,
        rows=rows,
        seed=params.model.seed,
        processor=platform.machine(),
        libraries=environment.libraries,
        training_format=environment.training_format,
    )


def changes(before: ModelLineage, after: ModelLineage) -> tuple[Change, ...]:
    """What differs between two models' origins, params first."""
    old, new = flat(before.training), flat(after.training)
    found = [
        Change(kind="params", what=key, before=old.get(key, "(none)"), after=new.get(key, "(none)"))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if before.data != after.data:
        found.append(Change(kind="data", what="data", before=before.data, after=after.data))
    if before.partitions != after.partitions:
        found.append(
            Change(kind="data", what="trained on", before=_range(before.partitions), after=_range(after.partitions))
        )
    if before.code != after.code:
        found.append(Change(kind="code", what="the team's package", before=before.code, after=after.code))
    parts, new_parts = before.environment_parts(), after.environment_parts()
    found += [
        Change(kind="libraries", what=name, before=parts.get(name, "(none)"), after=new_parts.get(name, "(none)"))
        for name in sorted(parts.keys() | new_parts.keys())
        if parts.get(name) != new_parts.get(name)
    ]
    return tuple(found)


def git_tree(folder: Path) -> str:
    """The id that git gives to this folder as a tree (40 hex), whether it is committed or not.

    `git rev-parse HEAD:src/flights` prints the same for a committed folder.
    """
    return _tree(folder).hex()


def _tree(folder: Path) -> bytes:
    entries = []
    for path in folder.iterdir():
        if path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        if path.is_dir():
            if any(child.is_file() and child.suffix != ".pyc" for child in path.rglob("*")):
                entries.append((path.name + "/", b"40000", path.name, _tree(path)))
        else:
            mode = b"100755" if path.stat().st_mode & stat.S_IXUSR else b"100644"
            entries.append((path.name, mode, path.name, _git_id(b"blob", path.read_bytes())))
    listing = b"".join(mode + b" " + name.encode() + b"\0" + digest for _, mode, name, digest in sorted(entries))
    return _git_id(b"tree", listing)


def _git_id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0%s" % (kind, len(content), content), usedforsecurity=False).digest()


def sha256(content: bytes) -> str:
    """`sha256:` and 64 hex."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """A tree's leaves as text, by their dotted keys."""
    if isinstance(value, dict):
        return {
            key: text
            for name, child in value.items()
            for key, text in flat(child, f"{prefix}.{name}" if prefix else name).items()
        }
    return {prefix: value if isinstance(value, str) else json.dumps(value, default=str)}


def _range(partitions: tuple[str, ...]) -> str:
    if len(partitions) <= 1:
        return "".join(partitions) or "(none)"
    return f"{partitions[0]} to {partitions[-1]} ({len(partitions)} partitions)"
