"""Names the files that a model depends on, as `dvc.yaml` says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mergeline.documents import parse_plain
from mergeline.errors import DocumentError
from mergeline.home import Home
from mergeline.params import PARAMS_FILE
from mergeline.store.dvc_lock import LOCK_FILE, LockedOutput

PIPELINE_FILE = "dvc.yaml"
_ALWAYS = (PIPELINE_FILE, PARAMS_FILE.as_posix())
_IGNORE_FILE = ".dvcignore"
_MADE = ("outs", "metrics", "plots")


def model_inputs(pipeline: str, home: Home) -> tuple[str, ...]:
    """The paths in git that decide which model the pipeline makes, and how it is measured.

    Args:
        pipeline: the text of `dvc.yaml`.
        home: where that is.

    Returns:
        Files and folders from the root of the repository, sorted; what one stage makes for another is not among them.

    Raises:
        DocumentError: the file is not YAML, or names its inputs in a way that only DVC can work out (templates,
            loops, working folders); then nothing less than the whole repository is an input.
    """
    stages = _stages(pipeline)
    made = {path for stage in stages.values() for key in _MADE for path in _paths(stage, key)}
    found = set(_ALWAYS)
    for stage in stages.values():
        for path in _paths(stage, "deps"):
            if path not in made:
                found |= {path, f"{path}.dvc"}
        params = stage.get("params") or ()
        found |= {name for entry in params if isinstance(entry, Mapping) for name in entry}
    return tuple(sorted({_IGNORE_FILE, *map(home.path, (*found, _IGNORE_FILE))}))


def compared_files(pipeline: str, home: Home) -> tuple[str, ...]:
    """The inputs and `dvc.lock`: where two commits agree in them, they stand for the same model."""
    return (*model_inputs(pipeline, home), home.path(LOCK_FILE))


def _stages(pipeline: str) -> dict[str, Mapping[str, Any]]:
    """The stages, where each names its files plainly."""
    stages = stage_definitions(pipeline)
    for name, stage in stages.items():
        if not isinstance(stage, dict) or {"foreach", "matrix", "wdir"} & stage.keys():
            raise _unclear(f"stage {name!r} is a loop, or has a working folder")
    return stages


def require_outputs(outputs: Iterable[LockedOutput], pipeline: str) -> None:
    """Check that each stage of a lock made what `dvc.yaml` has it make: DVC passes over any other output.

    Raises:
        DocumentError: one of them made something else. Where names have templates in them nothing is compared.
    """
    made: dict[str, set[str]] = {}
    for name, stage in stage_definitions(pipeline).items():
        loop = stage.get("do", stage) if isinstance(stage, Mapping) else {}
        with contextlib.suppress(DocumentError):
            made[name] = {path for key in _MADE for path in _paths(loop, key)}
    for output in outputs:
        if output.path not in made.get(output.stage.partition("@")[0], {output.path}):
            raise DocumentError(
                f"not a lock of this pipeline: stage {output.stage[:100]!r} does not make {output.path[:200]!r}",
                where=str(LOCK_FILE),
                hint="make it again: mergeline propose",
            )


def stage_definitions(pipeline: str) -> dict[str, Any]:
    """The stages of `dvc.yaml` by name, as they stand there.

    Raises:
        DocumentError: the file is not YAML, or has no stages.
    """
    stages = parse_plain(pipeline, PIPELINE_FILE).get("stages")
    if not isinstance(stages, dict):
        raise _unclear("no stages")
    return {str(name): stage for name, stage in stages.items()}


def _paths(stage: Mapping[str, Any], key: str) -> Iterator[str]:
    entries = stage.get(key) or ()
    if not isinstance(entries, list | tuple):
        raise _unclear(f"{key} is no list")
    for entry in entries:
        names = list(entry) if isinstance(entry, Mapping) else [entry]
        for name in names:
            if not isinstance(name, str) or "${" in name:
                raise _unclear(f"{key}: {name!r} is not a plain path")
            yield name.removesuffix("/")


def _unclear(what: str) -> DocumentError:
    return DocumentError(what, where=PIPELINE_FILE, hint="name each stage's files plainly, from its folder")
