"""What a model's bytes depend on beside data, params and code: the training format, and the libraries' versions.

The stage `environment` writes it down, so that neither `uv.lock` nor the engine's source is an input of training.
It runs for every change of `uv.lock`, so this module imports nothing that takes time.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mergeline.errors import CodeError, DataError, DocumentError, VersionError
from mergeline.files import canonical_json

TRAINING_FORMAT = 1
"""Changes only when the same data, params, code and libraries would give a model folder with other bytes.

A new engine that trains the same bytes keeps the number, and no team's model is trained again for it.
"""

LIBRARIES = (
    "joblib", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "scikit-learn", "scipy", "skops", "threadpoolctl",
)  # fmt: skip
"""What every model is made with, beside what the team's package imports."""

ENVIRONMENT_FILE = Path("build/environment.json")
LOCK_OF_LIBRARIES = Path("uv.lock")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
ENGINE = "mergeline"  # its version says nothing about the bytes: `TRAINING_FORMAT` does
_INSTALL = "make install"


class TrainingEnvironment(NamedTuple):
    """The training format, and the version of each library that touches a model's bytes."""

    training_format: int
    libraries: dict[str, str]

    def document(self) -> dict[str, Any]:
        """What `build/environment.json` holds."""
        return self._asdict()

    @property
    def digest(self) -> str:
        """The identity of the environment, as a model's lineage names it."""
        return "sha256:" + hashlib.sha256(canonical_json(self.document())).hexdigest()


def installed_environment(factory: str) -> TrainingEnvironment:
    """The environment as this interpreter would train in it.

    Args:
        factory: `model.factory` of params.yaml, which names the team's package.

    Raises:
        CodeError: the package, or a library that it imports, is not installed.
    """
    package = team_package(factory)
    names = {*LIBRARIES, *_imported_distributions(package)}
    return TrainingEnvironment(TRAINING_FORMAT, {name: importlib.metadata.version(name) for name in sorted(names)})


def require_locked(environment: TrainingEnvironment, lock: str) -> None:
    """Refuse libraries in other versions than the lock names: what is written down must hold for everyone.

    Args:
        environment: the installed one.
        lock: the text of `uv.lock`; a library that it does not name is not compared.

    Raises:
        VersionError: names the libraries, with both versions.
    """
    found = re.findall(r'^\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"', lock, flags=re.MULTILINE)
    locked: dict[str, list[str]] = {}
    for name, version in found:  # a lock for several Pythons may name more than one version
        locked.setdefault(name, []).append(version)
    wrong = [
        f"{name} {version} is installed, the lock names {' and '.join(locked[_normal(name)])}"
        for name, version in environment.libraries.items()
        if version not in locked.get(_normal(name), [version])
    ]
    if wrong:
        raise VersionError("; ".join(wrong), where=str(LOCK_OF_LIBRARIES), hint=_INSTALL)


def require_installed(written: TrainingEnvironment, installed: TrainingEnvironment) -> None:
    """Refuse to train in another environment than the one that was written down.

    Raises:
        VersionError: names what differs, with both versions.
    """
    if written.training_format != installed.training_format:
        raise VersionError(
            f"the training format is {written.training_format}, this engine's is {installed.training_format}",
            where=str(ENVIRONMENT_FILE),
            hint=f"{_INSTALL}, or where this engine is the right one: mergeline propose",
        )
    names = sorted(written.libraries.keys() | installed.libraries.keys())
    wrong = [
        f"{name} is {installed.libraries.get(name, 'not used')}, expected {written.libraries.get(name, 'none')}"
        for name in names
        if written.libraries.get(name) != installed.libraries.get(name)
    ]
    if wrong:
        raise VersionError(
            f"the installed libraries are not those of the stage `environment`: {'; '.join(wrong)}",
            where=str(ENVIRONMENT_FILE),
            hint=_INSTALL,
        )


def read_environment(path: Path) -> TrainingEnvironment:
    """Read what the stage `environment` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    from mergeline.documents import parse_json, read_text

    try:
        found = parse_json(read_text(path), str(path))
        return TrainingEnvironment(
            int(found["training_format"]), {str(k): str(v) for k, v in found["libraries"].items()}
        )
    except (DocumentError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DataError(f"no environment: {cause}", where=str(path), hint="make it: dvc repro environment") from cause


def team_package(factory: str) -> Path:
    """The folder of the team's package, as `model.factory` names it.

    Raises:
        CodeError: the package is not installed.
    """
    package = factory.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise CodeError(
            f"there is no package {package!r}",
            where="params.yaml: model.factory",
            hint=f"put it at src/{package}/ with an __init__.py, and name it in pyproject.toml",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _imported_distributions(package: Path) -> set[str]:
    """The distributions whose modules the team's package imports; a package beside it is the team's own too.

    Raises:
        CodeError: one of them is not installed, or a file is no Python.
    """
    found: set[str] = set()
    known = {ENGINE, package.name, *sys.stdlib_module_names}
    if package.parent.name not in ("site-packages", "dist-packages"):
        known |= {path.stem for path in package.parent.iterdir()}
    for module, where, needed in _imports(package):
        if module in known:
            continue
        known.add(module)
        owners = _owners(module)
        if not owners and needed:
            raise CodeError(
                f"no library offers {module!r}", where=where, hint=f"name it in pyproject.toml, and run {_INSTALL}"
            )
        found |= owners
    return found


def _owners(module: str) -> set[str]:
    """The distributions that offer a module. Most have its name: asking all of them takes half a second."""
    name = _DISTRIBUTIONS.get(module, module)
    try:
        return {str(importlib.metadata.distribution(name).metadata["Name"])}
    except importlib.metadata.PackageNotFoundError:
        return set(importlib.metadata.packages_distributions().get(module, ()))


def _imports(package: Path) -> Iterator[tuple[str, str, bool]]:
    """Each module that the package imports, by its first name; where it does; and whether it must be there."""
    for path in sorted(package.rglob("*.py")):
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
        except (SyntaxError, ValueError) as cause:
            line = getattr(cause, "lineno", None) or 1
            raise CodeError(f"not Python: {cause}", where=f"{path}:{line}", hint="correct this line") from None
        yield from _imports_below(tree, path, needed=True)


def _imports_below(node: ast.AST, path: Path, *, needed: bool) -> Iterator[tuple[str, str, bool]]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return  # for readers of types only
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        modules = [node.module]
    for module in modules:
        yield module.partition(".")[0], f"{path}:{node.lineno}", needed  # type: ignore[attr-defined]
    for child in ast.iter_child_nodes(node):
        # An import that is tried may fail.
        yield from _imports_below(child, path, needed=needed and not isinstance(node, ast.Try))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
