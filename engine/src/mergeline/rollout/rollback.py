"""Opens the pull request of a rollback or of a lifted hold, and puts the required check on it."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mergeline.ci.required_check import CHECK
from mergeline.ci.scope import require_main
from mergeline.documents import parse, read_text
from mergeline.errors import ForgeError, ManifestError
from mergeline.evaluate.results import Check, Status
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.git import Git
from mergeline.github.git_objects import FILE, entry_at, store_text, tree_of, with_entries
from mergeline.github.open_proposal import LABEL as MODEL_LABEL
from mergeline.github.open_proposal import concerns, open_forge
from mergeline.github.own_branch import Kept, Words, keep_branch
from mergeline.github.pull_requests import PullRequest
from mergeline.github.served_releases import known_releases
from mergeline.home import Home
from mergeline.manifest.edit import add_hold, lift_hold, rollback
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, Release
from mergeline.manifest.transitions import short
from mergeline.params import PARAMS_FILE, read_params
from mergeline.release.verify import verify
from mergeline.store.dvc_lock import LOCK_FILE
from mergeline.store.objects import embedded_store

LABEL = "production"
_NEEDED = (PARAMS_FILE, LOCK_FILE, Path("deploy"))
"""What `verify` reads of a home, beside the store."""


@dataclass(frozen=True)
class Opened:
    """The pull request, and what was found of the state that it would bring; `beside` are others that release."""

    kept: Kept
    checks: tuple[Check, ...]
    beside: tuple[PullRequest, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing stands against that state."""
        return all(check.status is not Status.FAIL for check in self.checks)


def release_of(home: Home, name: str, version: int | None) -> Release | None:
    """The release of a version in the history of the base branch's manifest; None where no version is named.

    Raises:
        ManifestError: production never served it; the error names the versions that it served.
        ForgeError: the history is not here whole.
    """
    if version is None:
        return None
    git, path = Git(home.root), home.path(MANIFEST_FILE)
    revision = next(filter(git.find, (f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH)), "HEAD")
    served = known_releases(git, revision, name, path)
    found = next((release for release in served if release.version == version), None)
    if found is None:
        versions = ", ".join(str(known) for known in sorted({release.version for release in served}))
        raise ManifestError(
            f"{name} has never served version {version}",
            where=f"git log {path}",
            hint=f"there are: {versions or 'none yet'}",
        )
    return found


def roll_back_here(root: Path, reason: str, version: int | None) -> str:
    """The work tree's manifest with an earlier model made stable, and what it served under a hold.

    Raises:
        ManifestError: there is nothing to go back to, no such version, no reason, or a rollout is under way.
        HoldError: the model to go back to is held itself.
    """
    text = read_text(root / MANIFEST_FILE, ManifestError)
    name = parse(text, Manifest, str(MANIFEST_FILE), ManifestError).metadata.name
    return rollback(text, reason, to=release_of(Home.at(root), name, version))


def open_rollback(root: Path, reason: str, version: int | None) -> Opened:
    """Open the pull request that takes production back, made on the base branch, with the check on it.

    Raises:
        ManifestError: there is nothing to go back to, no such version, no reason, or a rollout is under way.
        HoldError: the model to go back to is held itself.
        ForgeError: git or the forge refused.
    """
    git, text, manifest = read_main(root)
    name = manifest.metadata.name
    target = release_of(Home.at(root), name, version)
    planned = parse(rollback(text, reason, to=target), Manifest, str(MANIFEST_FILE), ManifestError)
    was, back = (found.spec.stable.version if found.spec.stable else 0 for found in (manifest, planned))
    branch = f"rollback/{name}-{was}"
    beside = _beside(git, Home.at(root), branch, back)
    words = Words(
        branch=branch,
        title=f"{name}: back to version {back}",
        body=(
            f"Takes version {was} off production, and holds it so that it is not proposed again.\n\n"
            f"Reason: {reason}\n\nMerging this serves version {back} again; no model is trained for it.\n"
            + "".join(f"\nOpen as well, and outdated once this is merged: #{pull.number}\n" for pull in beside)
        ),
        labels=[LABEL],
        made=f"rollback of version {was}",
    )
    return replace(open_change(git, root, words, lambda number: rollback(text, reason, number, target)), beside=beside)


def open_hold(root: Path, digest: str, reason: str) -> Opened:
    """Open the pull request that puts a hold on a model, with the check on it.

    Raises:
        ManifestError: the model serves or is held already, or no reason is given.
        ForgeError: git or the forge refused.
    """
    git, text, manifest = read_main(root)
    add_hold(text, digest, reason)
    words = Words(
        branch=f"hold/{manifest.metadata.name}-{short(digest)}",
        title=f"{manifest.metadata.name}: hold {short(digest)}",
        body=f"Reason: {reason}\n\nMerging this keeps the model from being proposed until the hold is removed.\n",
        labels=[LABEL],
        made=f"hold of {short(digest)}",
    )
    return open_change(git, root, words, lambda number: add_hold(text, digest, reason, number))


def open_lift(root: Path, digest: str) -> Opened:
    """Open the pull request that takes the hold on a model off, with the check on it.

    Raises:
        ManifestError: there is no such hold.
        ForgeError: git or the forge refused.
    """
    git, text, manifest = read_main(root)
    lifted = lift_hold(text, digest)
    reason = next(hold.reason for hold in manifest.spec.holds if hold.digest == digest)
    words = Words(
        branch=f"lift/{manifest.metadata.name}-{short(digest)}",
        title=f"{manifest.metadata.name}: lift the hold on {short(digest)}",
        body=f"It was held: {reason}\n\nMerging this lets it be proposed again; by itself it serves nothing.\n",
        labels=[LABEL],
        made=f"lift of {short(digest)}",
    )
    return open_change(git, root, words, lambda _: lifted)


def read_main(root: Path) -> tuple[Git, str, Manifest]:
    """The repository, and the base branch's manifest as text and as it is read."""
    require_main(os.environ)
    home = Home.at(root)
    git, path = Git(home.root), home.path(MANIFEST_FILE)
    git.fetch(REMOTE, BASE_BRANCH)
    text = git.show(f"{REMOTE}/{BASE_BRANCH}", path)
    if text is None:
        raise ManifestError(f"{BASE_BRANCH} has no manifest", where=path, hint="propose a model: mergeline propose")
    return git, text, parse(text, Manifest, path, ManifestError)


def _beside(git: Git, home: Home, branch: str, back: int) -> tuple[PullRequest, ...]:
    """The other open pull requests that would change what serves.

    Raises:
        ForgeError: the one of `branch` is open, and goes back to another version.
    """
    pulls = open_forge(git).list_open()
    mine = next((pull for pull in pulls if pull.branch == branch and not pull.fork), None)
    if mine is not None:
        git.fetch(REMOTE, branch)
        text = git.show(mine.head, home.path(MANIFEST_FILE))
        stable = parse(text, Manifest, str(MANIFEST_FILE), ManifestError).spec.stable if text else None
        if stable is not None and stable.version != back:
            raise ForgeError(
                f"pull request {mine.number} is open already, and goes back to version {stable.version}",
                where=mine.url,
                hint=f"merge it; or close it and delete its branch {branch}, then ask for version {back} again",
            )
    others = (pull for pull in pulls if pull is not mine and {LABEL, MODEL_LABEL} & set(pull.labels))
    return tuple(pull for pull in others if pull.fork or concerns(git, home, pull, f"{REMOTE}/{BASE_BRANCH}"))


def open_change(git: Git, root: Path, words: Words, edited: Callable[[int | None], str]) -> Opened:
    """Open the pull request whose branch differs from the base branch in the manifest alone."""
    main = git.run("rev-parse", f"refs/remotes/{REMOTE}/{BASE_BRANCH}")

    def tree(number: int | None) -> str:
        entry = f"{FILE} blob {store_text(git, edited(number))}"
        return with_entries(git, tree_of(git, main), {Home.at(root).path(MANIFEST_FILE): entry})

    forge = open_forge(git)
    kept = keep_branch(git, forge, main, words, tree)
    opened = Opened(kept, verify_commit(git, root, kept.commit))
    lines = [f"- {check.status.value} {check.name}: {check.value}" for check in opened.checks]
    title = f"{'Accepted: what' if opened.sound else 'Not accepted: what'} this would serve was verified"
    forge.check(kept.commit, CHECK, success=opened.sound, title=title, summary="\n".join(lines) + "\n")
    return opened


def verify_commit(git: Git, root: Path, commit: str) -> tuple[Check, ...]:
    """Check what a commit would release, without checking it out here; see `mergeline.release.verify`.

    Raises:
        ForgeError: git refused.
    """
    home = Home.at(root)
    needed = (*map(home.path, _NEEDED), ".dvc/config", embedded_store(root))
    wanted = [path for path in needed if path and entry_at(git, commit, path)]
    with tempfile.TemporaryDirectory() as scratch:
        archive, folder = Path(scratch, "commit.tar"), Path(scratch, "commit")
        git.run("archive", "--format=tar", f"--output={archive}", commit, "--", *wanted)
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
        return verify(folder / home.place, read_params(folder / home.place / PARAMS_FILE))
