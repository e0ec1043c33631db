"""Reads what a proposal is made against: the base branch's manifests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergeline.documents import parse_plain, read_text
from mergeline.errors import DocumentError, ForgeError, ManifestError, ParamsError
from mergeline.github.git import Git
from mergeline.github.production import highest_version
from mergeline.home import Home
from mergeline.manifest.edit import empty_manifest, started_from
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, manifest_path, parse_manifest
from mergeline.params import PARAMS_FILE
from mergeline.release.proposal import Base
from mergeline.release_params import ONE_ENVIRONMENT, ReleaseParams

BASE_BRANCH = "main"
REMOTE = "origin"
MAIN = f"refs/remotes/{REMOTE}/{BASE_BRANCH}"
"""The base branch as it was fetched last."""


def fetch_main(git: Git, *branches: str) -> str:
    """The base branch's newest commit, brought here; other branches of the remote come along.

    Raises:
        ForgeError: the remote does not answer, or has no such branch.
    """
    git.fetch(REMOTE, BASE_BRANCH, *branches)
    return git.run("rev-parse", MAIN)


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


def read_base(
    root: Path, name: str | None, revision: str | None = None, environments: Sequence[str] = ONE_ENVIRONMENT
) -> Base:
    """The manifests of the model `name` at `revision`, or on the base branch; the remote's view of it wins.

    In a folder that is no repository, and where the base branch has no manifest, the work tree's counts; that of a
    home in `models/` is empty until it is merged. A manifest of another model (the template's own) is none: an empty
    one takes its place. An environment that has no manifest yet starts from production's.

    Args:
        root: the home's folder.
        name: the model's; None takes whichever there is.
        revision: a branch or a commit; None takes the base branch.
        environments: `release.environments`: a proposal is made against the first one's manifest.

    Raises:
        ForgeError: there is no such revision, or git refuses to read the repository.
        ManifestError: there is no manifest at all.
    """
    home = Home.at(root)
    git, path = Git(home.root), home.path(MANIFEST_FILE)
    candidates = [revision] if revision else [f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH]
    for candidate in candidates:
        commit = git.find(candidate)
        if commit is not None and (home.model or git.show(candidate, f"./{path}") is not None):
            paths = [home.path(manifest_path(environments, each)) for each in environments]
            given = highest_version(git, commit, name, paths) if name else 0
            return _base(name, environments, functools.partial(_shown, git, home, commit), commit, given)
    if revision:
        what = f"{revision} is not a commit that has {path}"
        raise ForgeError(what, where=str(root), hint="name the branch to merge into")
    read_text(root / MANIFEST_FILE, ManifestError)  # its error says what is missing
    return _base(name, environments, lambda path: read_text(root / path) if (root / path).exists() else None)


@dataclass(frozen=True)
class Environments:
    """The environments of a home, in the order in which a model goes through them, and their manifests in git."""

    git: Git
    home: Home
    names: tuple[str, ...]

    def path(self, environment: str = "") -> str:
        """Where a manifest is, from the root of the repository; if none is named, the one that proposals write."""
        return self.home.path(manifest_path(self.names, environment))

    def before(self, environment: str) -> str:
        """The environment that a model comes from; empty for the first one, to which proposals bring it."""
        return ("", *self.names)[self.names.index(environment)]

    def text(self, base: str, tree: str, environment: str) -> str | None:
        """The text of a manifest in a branch; None where that has none, and the base branch has none either.

        A branch that takes the manifest of an environment away, as the revert of its first proposal does, brings that
        environment back to what production serves.

        Raises:
            ManifestError: production's is none, and is needed.
        """
        text = self.git.text(tree, self.path(environment))
        if text or environment == self.names[-1]:
            return text
        there = self.git.show(base, self.path(environment))
        return None if there is None else started_from(self.git.text(tree, self.path(self.names[-1])), environment)


def read_environments(git: Git, home: Home, *revisions: str) -> Environments:
    """The environments that the params of a commit or tree name; of several, the first in which there is this home.

    Raises:
        ParamsError: the section `release` is not what it must be.
    """
    path = home.path(PARAMS_FILE)
    with_params = (one for one in revisions[:-1] if git.blob(f"{one}:{path}") is not None)
    return Environments(git, home, read_release_params(git, home, next(with_params, revisions[-1])).environments)


def read_release_params(git: Git, home: Home, revision: str) -> ReleaseParams:
    """The section `release` of the params of a commit or tree.

    Raises:
        ParamsError: it is not what it must be.
    """
    path = home.path(PARAMS_FILE)
    try:
        return ReleaseParams.model_validate(parse_plain(git.text(revision, path), path).get("release") or {})
    except (DocumentError, ValueError) as cause:
        what = cause.what if isinstance(cause, DocumentError) else "the section release is not what it must be"
        raise ParamsError(what, where=path, hint="correct it on the branch") from cause


def manifest_at(git: Git, revision: str, path: str) -> Manifest | None:
    """The manifest that a commit or tree has at a path from the root; None where it has none.

    Raises:
        ManifestError: it has one that cannot be read.
    """
    content = git.blob(f"{revision}:{path}")
    return None if content is None else parse_manifest(content.decode(errors="replace"), f"{path} at {revision[:12]}")


def _shown(git: Git, home: Home, commit: str, path: Path) -> str | None:
    return git.show(commit, f"./{home.path(path)}")


def _base(
    name: str | None,
    environments: Sequence[str],
    read: Callable[[Path], str | None],
    commit: str | None = None,
    given: int = 0,
) -> Base:
    """The base as `read` gives the manifests by their paths."""
    texts: dict[str, str] = {}
    for environment in reversed(environments):  # production first: the others start from it
        path = manifest_path(environments, environment)
        text = read(path)
        found = None if text is None else parse_manifest(text, path).metadata.name
        if text is None or found != (name or found):
            text = started_from(next(iter(texts.values())), environment) if texts else empty_manifest(name or "model")
        texts[environment] = text
    first, *others = environments
    manifests = {each: parse_manifest(texts[each], each) for each in others}
    return Base(texts[first], commit, manifest_path(environments), manifests, given, read(PARAMS_FILE) or "")
