"""Reads from the history of git which releases were served, their objects, and whether a commit may follow them."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from mergeline.errors import DigestError, StoreError
from mergeline.evaluate.results import Check, Status
from mergeline.github.base import MAIN, Environments
from mergeline.github.git import Git
from mergeline.github.git_objects import contains, entry_at, files_below, homes_in
from mergeline.github.production import read_revisions
from mergeline.home import Home
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, Release, is_manifest, parse_manifest
from mergeline.manifest.transitions import only_new_release, releases, served_in, short
from mergeline.params import PARAMS_FILE, read_params
from mergeline.release.history import Revision, manifest_of
from mergeline.release.verify import check_history, verify
from mergeline.release_params import ONE_ENVIRONMENT
from mergeline.store.dvc_lock import LOCK_FILE
from mergeline.store.objects import Store, embedded_store, listing, object_path

_NEEDED = (PARAMS_FILE, LOCK_FILE, Path("deploy"))
"""What `verify` reads of a home, beside the store."""
_EPOCH = datetime.fromtimestamp(0, tz=UTC)


def known_releases(git: Git, revision: str, name: str, path: str = MANIFEST_FILE.as_posix()) -> tuple[Release, ...]:
    """The releases of the model `name` that a manifest has had as stable or previous along `revision`'s first parents.

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
    return served_in(_states(git, revision, name, path))


def known_states(places: Environments, revision: str, name: str, environment: str) -> tuple[Manifest, ...]:
    """The states that an environment's manifest of the model `name` has had along `revision`'s first parents.

    One that starts from production's manifest can have been in each of production's states, without their rollouts.

    Raises:
        ForgeError: the history is not here whole.
    """
    found = _states(places.git, revision, name, places.path(environment))
    if environment == places.names[-1]:
        return found
    others = _states(places.git, revision, name, places.path(places.names[-1]))
    return (
        *found,
        *(one.model_copy(update={"spec": one.spec.model_copy(update={"candidate": None})}) for one in others),
    )


def _states(git: Git, revision: str, name: str, path: str) -> tuple[Manifest, ...]:
    """The states of a manifest that can be read, the newest first."""
    found = (manifest_of(state, name) for state in reversed(read_revisions(git, revision, path)))
    return tuple(manifest for manifest in found if manifest is not None)


def serving_since(git: Git, revision: str, name: str, path: str) -> datetime | None:
    """When a manifest came to name the model that is stable in it at `revision`; None where it names none.

    Raises:
        ForgeError: the history is not here whole.
    """
    since, digest = None, None
    for state in reversed(read_revisions(git, revision, path)):
        found = manifest_of(state, name)
        stable = found.spec.stable if found is not None else None
        if stable is None or digest not in (None, stable.digest):
            break
        since, digest = state.when, stable.digest
    return since


def known_models(git: Git, revision: str, name: str, paths: Iterable[str]) -> dict[str, str]:
    """The digests of all models that the manifests have named, candidates too, by their object in the store."""
    states = (state for path in paths for state in read_revisions(git, revision, path))
    found = (manifest for state in states if (manifest := manifest_of(state, name)) is not None)
    return {release.source: release.digest for manifest in found for release in releases(manifest).values()}


class PastStore(Store):
    """The embedded store as a commit or tree has it, and beneath it the objects that the history once had.

    A commit that is reverted takes its model's objects out of the store; their bytes are in the history of git.

    Args:
        git: the repository.
        folder: of the store, from the root.
        tree: a commit or a tree.
        history: a commit; empty looks at the tree alone.
    """

    def __init__(self, git: Git, folder: str, tree: str, history: str = "") -> None:
        super().__init__(folder)
        self._git, self._tree, self._history = git, tree, history

    def has(self, name: str) -> bool:
        """Whether the object is there."""
        return self.entry(name) is not None

    def read(self, name: str) -> bytes | None:
        """The bytes of an object, or None where it is not there."""
        entry = self.entry(name)
        return None if entry is None else self._git.blob(entry.split()[-1])

    def entry(self, name: str) -> str | None:
        """The object in git, as `<mode> blob <object>`."""
        return self.present.get(f"{self.url}/{name}") or self._past(name)

    @cached_property
    def present(self) -> dict[str, str]:
        """What the tree itself has, by its path from the root: listed once, not asked for object by object."""
        return files_below(self._git, self._tree, self.url)

    def _past(self, name: str) -> str | None:
        if not self._history:
            return None
        path = f"{self.url}/{name}"
        # A merge that took neither side's way would hide the commit that added it: the full history shows it.
        log = ("log", "-1", "--full-history", "--diff-filter=A", "--format=%H", self._history, "--", path)
        added = self._git.run(*log)
        return entry_at(self._git, added, path) if added else None


def lost_objects(git: Git, root: Path, tree: str, history: str) -> dict[str, str]:
    """The objects of what a tree's manifests name that are not in its embedded store, though the history had them.

    Returns:
        Entries for the tree, by path; none where the store is elsewhere.
    """
    folder = embedded_store(root)
    if folder is None:
        return {}
    past = PastStore(git, folder, tree, history)
    found: dict[str, str] = {}
    folders = [home.path("deploy") for home in homes_in(git, tree).values()]
    for path in (path for deploy in folders for path in files_below(git, tree, deploy) if is_manifest(path)):
        for release in releases(parse_manifest(git.text(tree, path), path)).values():
            with contextlib.suppress(StoreError, DigestError):  # what is nowhere cannot be put back: verify says so
                named = [release.source, *(object_path(md5) for _, md5 in listing(release.source, past.read))]
                missing = [name for name in named if f"{folder}/{name}" not in past.present]
                found |= {f"{folder}/{name}": entry for name in missing if (entry := past.entry(name)) is not None}
    return found


def verify_tree(
    git: Git, home: Home, tree: str, known: Callable[[], Mapping[str, str]] = dict, *, stored: bool = True
) -> tuple[Check, ...]:
    """Check what a commit or tree would release, without checking it out here; see `mergeline.release.verify`.

    Args:
        git: the repository.
        home: whose files.
        tree: a commit or a tree.
        known: gives the digests of released models by their object in the store; asked only if it matters.
        stored: whether to look at the models where the store is not part of the repository.

    Raises:
        ForgeError: git refused.
    """
    needed = (*map(home.path, _NEEDED), ".dvc/config")
    wanted = filter(None, git.run("ls-tree", "-z", "--name-only", tree, "--", *needed).split("\0"))
    with tempfile.TemporaryDirectory() as scratch:
        archive, place = Path(scratch, "tree.zip"), Path(scratch, "tree")
        git.run("archive", "--format=zip", f"--output={archive}", tree, "--", *wanted)
        with zipfile.ZipFile(archive) as content:
            content.extractall(place)  # a link becomes a file that holds where it leads: nothing is read elsewhere
        own = place / home.place
        folder = embedded_store(own)  # as the tree says: it may move the store
        store = PastStore(git, folder, tree) if folder else None
        params = read_params(own / PARAMS_FILE)
        return verify(own, params, store, stored=stored or folder is not None, known=known)


def verify_history(
    root: Path, name: str, before: str, environments: tuple[str, ...] = ONE_ENVIRONMENT
) -> tuple[Check, ...]:
    """Check that nothing was released blind on the way from the commit `before` to the present one.

    A commit that is not known here (zeros where a branch is new) leaves nothing to compare with, and that is told.

    Args:
        root: the repository.
        name: the model's.
        before: a commit.
        environments: `release.environments`: into each after the first a model comes from the one before it.

    Returns:
        A line for each environment, production first.

    Raises:
        ForgeError: the history is not here whole.
    """
    home = Home.at(root)
    places = Environments(Git(home.root), home, environments)
    if places.git.find(before) is None:
        meaning = "that commit is not known here"
        return (Check(name="history", status=Status.SKIP, value=before[:12], bound="", meaning=meaning),)
    return tuple(_verify_one(places, name, before, each) for each in reversed(environments))


def _verify_one(places: Environments, name: str, before: str, environment: str) -> Check:
    git, path = places.git, places.path(environment)
    states = [state for state in read_revisions(git, path=path) if not contains(git, before, state.commit)]
    start = Revision(commit=before, when=_EPOCH, subject="", text=git.show(before, path))
    manifests = [found for state in (start, *states) if (found := manifest_of(state, name)) is not None]
    check = check_history(manifests, lambda: known_states(places, before, name, environment))
    if environment != places.names[-1]:
        check = check.model_copy(update={"name": f"{environment}: history"})
    skipped = _skipped(places, name, (start, *states), environment)
    if check.status is Status.PASS and skipped:
        meaning = "a model was released that nobody has tried: roll back, or promote it from there"
        return check.model_copy(update={"status": Status.FAIL, "value": "; ".join(skipped), "meaning": meaning})
    # On a branch a proposal gives a model its number anew while main moves; on main a number is given once.
    merged = git.find(MAIN) is not None and contains(git, MAIN, "HEAD")
    changed = renumbered(manifests if merged else [*manifests[:1], *manifests[-1:]])
    if check.status is not Status.PASS or not changed:
        return check
    meaning = "A person changed the number of a model: its history is found by its digest, and by no version alone."
    return check.model_copy(update={"status": Status.WARN, "value": "; ".join(changed), "meaning": meaning})


def _skipped(places: Environments, name: str, states: Sequence[Revision], environment: str) -> list[str]:
    """The models that came into an environment though the one before it did not serve them, each in words."""
    source = places.before(environment)
    git, path, found = places.git, places.path(source), []
    for before, after in itertools.pairwise(states if source else ()):
        was, now = manifest_of(before, name), manifest_of(after, name)
        release = only_new_release(was, now) if was is not None and now is not None else None
        first = f"{after.commit}^1"
        if release is None or git.find(first) is None or git.show(first, path) is None:
            continue  # there was no such environment then
        if release not in known_releases(git, first, name, path):
            found.append(f"version {release.version} came to {environment}, and {source} never served it")
    return found


def renumbered(manifests: Sequence[Manifest]) -> list[str]:
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
