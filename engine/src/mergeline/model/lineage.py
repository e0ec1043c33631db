"""What a model was made from: data, params, code, libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from mergeline.documents import Frozen
from mergeline.errors import CodeError
from mergeline.files import canonical_json
from mergeline.params import Params

LIBRARIES = (
    "joblib", "mergeline", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "scikit-learn", "scipy", "skops",
    "threadpoolctl",
)  # fmt: skip
"""What every model is made with, beside what its own file names."""


class ModelLineage(Frozen):
    """The four digests that name a model's origin, and what a reader wants to know of each.

    `code` is the git tree of the team's package, `data` DVC's digest of the data folder, `params` the
    sha256 of the training params, `environment` that of `libraries`: what the model's bytes can depend on,
    so that a new linter in `uv.lock` is not a new model. `rows` counts the training rows.
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


class Change(Frozen):
    """One difference between two models' origins."""

    kind: Literal["params", "data", "code", "libraries"]
    what: str
    before: str
    after: str


def make_lineage(
    params: Params, *, data: str, partitions: tuple[str, ...], rows: int, modules: Iterable[str]
) -> ModelLineage:
    """Gather the lineage of a model that is being trained; `modules` are those that its file names."""
    libraries = library_versions(modules)
    return ModelLineage(
        code=git_tree(package_folder(params)),
        data=data,
        params=sha256(params.training_json()),
        environment=sha256(canonical_json(libraries)),
        training=params.training(),
        partitions=partitions,
        rows=rows,
        seed=params.model.seed,
        processor=platform.machine(),
        libraries=libraries,
    )


def changes(before: ModelLineage, after: ModelLineage) -> tuple[Change, ...]:
    """What differs between two models' origins, params first."""
    old, new = _flat(before.training), _flat(after.training)
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
    names = sorted(before.libraries.keys() | after.libraries.keys())
    found += [
        Change(
            kind="libraries",
            what=name,
            before=before.libraries.get(name, "(none)"),
            after=after.libraries.get(name, "(none)"),
        )
        for name in names
        if before.libraries.get(name) != after.libraries.get(name)
    ]
    return tuple(found)


def package_folder(params: Params) -> Path:
    """The folder of the team's package, as `model.factory` names it.

    Raises:
        CodeError: the package is not installed.
    """
    package = params.model.factory.split(":")[0].split(".")[0]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CodeError(
            f"there is no package {package!r}",
            where="params.yaml: model.factory",
            hint=f"put it at src/{package}/ with an __init__.py, and name it in pyproject.toml",
        )
    return Path(next(iter(spec.submodule_search_locations)))


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


def library_versions(modules: Iterable[str]) -> dict[str, str]:
    """The installed version of every library that the model's bytes can depend on."""
    known = {"sklearn", *LIBRARIES, *sys.stdlib_module_names}
    packages = {module.split(".")[0] for module in modules} - known
    # Asking which distribution owns a module reads all of them: most models name none but the known ones.
    owners = importlib.metadata.packages_distributions() if packages else {}
    names = {*LIBRARIES, *(owner for package in packages for owner in owners.get(package, ()))}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def sha256(content: bytes) -> str:
    """`sha256:` and 64 hex."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {
            key: text
            for name, child in value.items()
            for key, text in _flat(child, f"{prefix}.{name}" if prefix else name).items()
        }
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def _range(partitions: tuple[str, ...]) -> str:
    if len(partitions) <= 1:
        return "".join(partitions) or "(none)"
    return f"{partitions[0]} to {partitions[-1]} ({len(partitions)} partitions)"
