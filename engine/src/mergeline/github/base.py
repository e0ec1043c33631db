"""Reads what a proposal is made against: the base branch's manifest."""

from __future__ import annotations

from pathlib import Path

from mergeline.documents import read_text
from mergeline.errors import ForgeError, ManifestError
from mergeline.github.git import Git
from mergeline.home import Home
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.release.proposal import Base

BASE_BRANCH = "main"
REMOTE = "origin"


def refresh_base(root: Path) -> str | None:
    """Bring the remote's base branch here; returns a warning where the remote does not answer."""
    git = Git(root)
    if git.attempt("remote", "get-url", REMOTE)[0]:
        return None
    try:
        git.fetch(REMOTE, BASE_BRANCH)
    except ForgeError as error:
        return f"{REMOTE}/{BASE_BRANCH} could not be fetched, so the champion is the last one seen here: {error.what}"
    return None


def read_base(root: Path, name: str, revision: str | None = None) -> Base:
    """The manifest of the model `name` at `revision`, or on the base branch; the remote's view of it wins.

    In a folder that is no repository, and where the base branch has no manifest, the work tree's counts; that of a
    home in `models/` is empty until it is merged. A manifest of another model (the template's own) is none: an empty
    one takes its place.

    Raises:
        ForgeError: there is no such revision, or git refuses to read the repository.
        ManifestError: there is no manifest at all.
    """
    home = Home.at(root)
    git, path = Git(home.root), home.path(MANIFEST_FILE)
    candidates = [revision] if revision else [f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH]
    for candidate in candidates:
        commit = git.find(candidate)
        text = git.show(candidate, f"./{path}") if commit else None
        if text is None and commit and home.model:
            return Base(empty_manifest(name), commit)
        if text is not None:
            return _of_model(Base(text, commit), name)
    if revision:
        raise ForgeError(
            f"{revision} is not a commit that has {path}",
            where=str(root),
            hint="name the branch to merge into",
        )
    return _of_model(Base(read_text(root / MANIFEST_FILE, ManifestError)), name)


def _of_model(base: Base, name: str) -> Base:
    return base if base.manifest.metadata.name == name else Base(empty_manifest(name), base.commit)
