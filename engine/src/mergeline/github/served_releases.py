"""Lists the releases that production has served, from the history of its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mergeline.documents import parse
from mergeline.errors import ManifestError
from mergeline.evaluate.results import Check, Status
from mergeline.github.git import Git
from mergeline.github.git_objects import contains
from mergeline.github.production import read_revisions
from mergeline.home import Home
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, Release
from mergeline.manifest.transitions import releases, short
from mergeline.release.history import Revision
from mergeline.release.verify import check_history

_EPOCH = datetime.fromtimestamp(0, tz=UTC)


def known_releases(git: Git, revision: str, name: str, path: str = MANIFEST_FILE.as_posix()) -> tuple[Release, ...]:
    """The releases of the model `name` that were stable or previous along the first parents of `revision`.

    Args:
        git: the repository.
        revision: the newest commit.
        name: the model's.
        path: its manifest's, from the root of the repository.

    Returns:
        The newest first, each once.

    Raises:
        ForgeError: the history is not here whole.
    """
    found: list[Release] = []
    for state in reversed(read_revisions(git, revision, path)):
        manifest = _manifest(state, name)
        if manifest is not None:
            spec = manifest.spec
            found += [release for release in (spec.stable, spec.previous) if release and release not in found]
    return tuple(found)


def _manifest(state: Revision, name: str) -> Manifest | None:
    """The manifest of a commit; None where it is another model's, or cannot be read."""
    if state.text is None:
        return None
    try:
        found = parse(state.text, Manifest, f"{MANIFEST_FILE} at {state.commit[:12]}", ManifestError)
    except ManifestError:
        return None
    return found if found.metadata.name == name else None


def verify_history(root: Path, name: str, before: str) -> Check:
    """Check that nothing was released blind on the way from the commit `before` to the present one.

    A commit that is not known here (zeros where a branch is new) leaves nothing to compare with, and that is told.

    Raises:
        ForgeError: the history is not here whole.
    """
    home = Home.at(root)
    git, path = Git(home.root), home.path(MANIFEST_FILE)
    if git.find(before) is None:
        return Check(
            name="history", status=Status.SKIP, value=before[:12], bound="", meaning="that commit is not known here"
        )
    states = [state for state in read_revisions(git, path=path) if not contains(git, before, state.commit)]
    start = Revision(commit=before, when=_EPOCH, subject="", text=git.show(before, path))
    manifests = [found for state in (start, *states) if (found := _manifest(state, name)) is not None]
    check = check_history(manifests, lambda: known_releases(git, before, name, path))
    renumbered = _renumbered(manifests)
    if check.status is not Status.PASS or not renumbered:
        return check
    meaning = "A person changed the number of a model: its history is found by its digest, and by no version alone."
    return check.model_copy(update={"status": Status.WARN, "value": "; ".join(renumbered), "meaning": meaning})


def _renumbered(manifests: Sequence[Manifest]) -> list[str]:
    """The models whose version number changed on the way, each in words."""
    versions: dict[str, int] = {}
    changed = []
    for manifest in manifests:
        for release in releases(manifest).values():
            earlier = versions.setdefault(release.digest, release.version)
            if release.version != earlier:
                changed.append(f"{short(release.digest)} was version {earlier}, and is {release.version}")
                versions[release.digest] = release.version
    return changed
