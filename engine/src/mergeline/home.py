"""Finds the homes of a repository: the folders that hold one model's params, pipeline, lock and manifests each.

The root of the repository is a home, and each `models/NAME` is one. Store, libraries, code and workflows are shared.
Functions that need one model's files take the folder of its home; what git or DVC name from the root is asked here.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from mergeline.errors import ParamsError

MODELS = PurePosixPath("models")
"""The folder of the homes, in a repository of several models."""
ROOT = PurePosixPath()
_PARAMS = "params.yaml"
_NAME = re.compile(r"^name: *[\"']?([a-z][a-z0-9-]{0,62})\b", re.MULTILINE)


@dataclass(frozen=True)
class Home:
    """One home: `root` is the repository, and `place` the home's path from there, `.` or `models/NAME`."""

    root: Path
    place: PurePosixPath = ROOT

    @classmethod
    def at(cls, folder: Path) -> Home:
        """The home in a folder; a folder that is no `models/NAME` of a repository is taken for the repository."""
        folder = folder.absolute()
        root = folder.parent.parent
        inside = folder.parent.name == MODELS.name and not (folder / ".dvc").exists() and (root / ".dvc").exists()
        return cls(root, MODELS / folder.name) if inside else cls(folder)

    @property
    def folder(self) -> Path:
        """The home's folder."""
        return self.root / self.place

    @property
    def model(self) -> str:
        """NAME of `models/NAME`; empty at the root."""
        return self.place.name

    def path(self, path: PurePath | str) -> str:
        """The path of a file from the root of the repository, as git names it.

        Args:
            path: from the home, as `dvc.yaml` names it: `../../src/fraud` too.
        """
        return posixpath.normpath((self.place / path).as_posix())


def model_option(model: str) -> str:
    """What makes a verb act on `models/NAME` from the root of the repository; starts with a space, or is empty."""
    return f" --model {model}" if model else ""


def find_homes(root: Path) -> dict[str, Home]:
    """Every home of a repository's work tree by the name of its model: the root first, then the others by name."""
    places = sorted((MODELS / path.parent.name for path in (root / MODELS).glob(f"*/{_PARAMS}")), key=str)
    own = root / _PARAMS
    first = {name_in(own.read_text(encoding="utf-8", errors="replace")): Home(root)} if own.is_file() else {}
    return first | {place.name: Home(root, place) for place in places}


def name_in(params: str) -> str:
    """The name of the root's model, as the text of its params.yaml has it; `.` where that names none."""
    found = _NAME.search(params)
    return found[1] if found else "."


def choose_home(folder: Path, model: str | None) -> Home:
    """The home that a verb acts on.

    Args:
        folder: where the verb was called.
        model: the name of the model, which is its folder's in `models/`, or stands in the root's params.yaml; None
            takes the home that the folder is.

    Raises:
        ParamsError: there is no such model, or none was named and the folder is no home; the hint lists the models.
    """
    here = Home.at(folder)
    if model is None and ((here.folder / _PARAMS).exists() or not find_homes(here.root)):
        return here  # in a repository without any, each verb says what it misses
    known = find_homes(here.root)
    if model in known:
        return known[model]
    what = f"there is no model {model!r}" if model else "this folder is no model's"
    names = ", ".join(f"--model {name}" for name in known)
    hint = f"there are: {names}" if names else "make one: mergeline new-model NAME"
    raise ParamsError(what, where=str(folder), hint=hint)
