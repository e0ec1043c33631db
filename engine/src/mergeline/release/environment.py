"""What the stage `environment` writes: what a new engine or new libraries mean for the stages after it."""

from __future__ import annotations

import json
from pathlib import Path

from mergeline.dataset import VALIDATION_FORMAT
from mergeline.evaluate import EVALUATION_FORMAT
from mergeline.home import Home
from mergeline.model.environment import (
    ENVIRONMENT_FILE,
    LOCK_OF_LIBRARIES,
    installed_environment,
    require_locked,
)

FORMATS_FILE = Path("build/formats.json")
PARAMS = "params.yaml"


def environment_files(root: Path, factory: str) -> dict[Path, bytes]:
    """The files that the stage writes, as this engine and the installed libraries make them.

    `environment.json` is what training depends on, and `formats.json` what validation and evaluation do: a new
    engine that measures more evaluates again, and trains nothing.

    Args:
        root: the home.
        factory: `model.factory` of params.yaml.

    Raises:
        CodeError: the team's package, or a library that it imports, is not installed.
        VersionError: a library is not in the version that `uv.lock` names.
    """
    environment = installed_environment(factory)
    lock = Home.at(root).root / LOCK_OF_LIBRARIES
    if lock.exists():
        require_locked(environment, lock.read_text(encoding="utf-8"))
    formats = {"validation": VALIDATION_FORMAT, "evaluation": EVALUATION_FORMAT}
    return {ENVIRONMENT_FILE: _text(environment.document()), FORMATS_FILE: _text(formats)}


def team_factory(root: Path) -> str:
    """`model.factory` of params.yaml, read without checking the rest, which takes longer than the whole stage.

    Raises:
        ParamsError: the file does not name it.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there
    try:
        return str(yaml.load((root / PARAMS).read_bytes(), loader)["model"]["factory"])  # noqa: S506 - a safe one
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        from mergeline.params import read_params

        return read_params(root / PARAMS).model.factory


def _text(document: object) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode()
