"""Opens the pull request of a rollback or of a lifted hold, and puts the required check on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mergeline.ci.required_check import CHECK
from mergeline.ci.scope import require_main
from mergeline.documents import parse, read_text
from mergeline.errors import ForgeError, ManifestError
from mergeline.evaluate.results import Check, Status
from mergeline.github.actions import read_job
from mergeline.github.base import BASE_BRANCH, REMOTE, read_release_params
from mergeline.github.git import Git
from mergeline.github.git_objects import FILE, store_text, tree_of, with_entries
from mergeline.github.merging import NOTHING, changes_of, headline
from mergeline.github.open_proposal import LABEL as MODEL_LABEL
from mergeline.github.open_proposal import concerns, open_forge
from mergeline.github.own_branch import Kept, Words, keep_branch
from mergeline.github.pull_requests import PullRequest
from mergeline.github.served_releases import known_releases, lost_objects, verify_tree
from mergeline.home import Home
from mergeline.manifest.edit import add_hold, lift_hold, rollback, started_from
from mergeline.manifest.schema import Manifest, Release, manifest_path
from mergeline.manifest.transitions import new_release, refuse_held, short
from mergeline.params import release_in
from mergeline.release_params import ReleaseParams

LABEL = "production"


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


@dataclass(frozen=True)
class Main:
    """The base branch's newest commit, and the manifest of one environment there, as text and as it is read.

    `others` are the manifests of the other environments, by name.
    """

    git: Git
    home: Home
    commit: str
    params: ReleaseParams
    environment: str
    text: str
    manifest: Manifest
    others: Mapping[str, Manifest]

    @property
    def environments(self) -> tuple[str, ...]:
        """Their names, in the order in which a model goes through them."""
        return self.params.environments

    @property
    def path(self) -> Path:
        """Where the manifest is, from the home."""
        return manifest_path(self.environments, self.environment)

    @property
    def at(self) -> str:
        """Where the manifest is, from the root of the repository."""
        return self.home.path(self.path)

    @property
    def label(self) -> str:
        """The model's name, and the environment's where that is not production: for branches and issues."""
        name = self.manifest.metadata.name
        return name if self.environment == self.environments[-1] else f"{name}-{self.environment}"

    @property
    def inside(self) -> str:
        """The words that say where, if there are several environments."""
        return f" in {self.environment}" if len(self.environments) > 1 else ""

    def at_environment(self, name: str) -> Main:
        """The same commit as another environment has it."""
        return self if name == self.environment else _read_main(self.git, self.home, self.commit, name)


def read_main(root: Path, environment: str = "") -> Main:
    """Fetch the base branch, and read the manifest of an environment there; production's if none is named.

    Raises:
        ManifestError: there is no such environment, or it has no manifest.
        ForgeError: git refused, or a run by hand was started from another branch.
    """
    require_main(os.environ)
    home = Home.at(root)
    git = Git(home.root)
    git.fetch(REMOTE, BASE_BRANCH)
    return _read_main(git, home, git.run("rev-parse", f"refs/remotes/{REMOTE}/{BASE_BRANCH}"), environment)


def _read_main(git: Git, home: Home, main: str, environment: str) -> Main:
    params = read_release_params(git, home, main)
    environments = params.environments
    place = environment or environments[-1]
    path = home.path(manifest_path(environments, place))
    texts = {each: git.show(main, home.path(manifest_path(environments, each))) for each in environments}
    text, production = texts.pop(place), texts.get(environments[-1])
    if text is None and production is not None:
        text = started_from(production, place)
    if text is None:
        raise ManifestError(f"{BASE_BRANCH} has no manifest", where=path, hint="propose a model: mergeline propose")
    others = {each: parse(other, Manifest, each, ManifestError) for each, other in texts.items() if other is not None}
    return Main(git, home, main, params, place, text, parse(text, Manifest, path, ManifestError), others)


def release_of(home: Home, name: str, version: int | None, manifest: Path) -> Release | None:
    """The release of a version in the history of the base branch's manifest; None where no version is named.

    Raises:
        ManifestError: it was never served there; the error names the versions that were.
        ForgeError: the history is not here whole.
    """
    if version is None:
        return None
    git, path = Git(home.root), home.path(manifest)
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


def roll_back_here(root: Path, reason: str, version: int | None, environment: str = "") -> tuple[Path, str]:
    """The path and the text of the work tree's manifest with an earlier model made stable, and the failed one held.

    Raises:
        ManifestError: there is nothing to go back to, no such version, no reason, or a rollout is under way.
        HoldError: the model to go back to is held itself.
    """
    path = path_here(root, environment)
    text = read_text(root / path, ManifestError)
    name = parse(text, Manifest, str(path), ManifestError).metadata.name
    return path, rollback(text, reason, to=release_of(Home.at(root), name, version, path))


def path_here(root: Path, environment: str = "") -> Path:
    """Where the work tree's manifest of an environment is, from its home; production's if none is named."""
    environments = release_in(root).environments
    return manifest_path(environments, environment or environments[-1])


def open_rollback(root: Path, reason: str, version: int | None, environment: str = "") -> Opened:
    """Open the pull request that takes production back, made on the base branch, with the check on it.

    Args:
        root: the repository.
        reason: what failed, in one sentence.
        version: the version to go back to; None takes the previous one.
        environment: which one is taken back; production if empty.

    Raises:
        ManifestError: there is nothing to go back to, no such version, no reason, or a rollout is under way.
        HoldError: the model to go back to is held itself.
        ForgeError: git or the forge refused.
    """
    main = read_main(root, environment)
    name, text = main.manifest.metadata.name, main.text
    target = release_of(main.home, name, version, main.path)
    planned = parse(rollback(text, reason, to=target), Manifest, str(main.path), ManifestError)
    for other, manifest in main.others.items():
        if planned.spec.stable is not None:
            refuse_held(manifest, planned.spec.stable.digest, other)
    was, back = (found.spec.stable.version if found.spec.stable else 0 for found in (main.manifest, planned))
    branch = f"rollback/{main.label}-{was}"
    beside = _beside(main, branch, back)
    words = Words(
        branch=branch,
        title=f"{name}: back to version {back}{main.inside}",
        body=(
            f"Version {was} is held, so that it is not proposed again. No model is trained for version {back}.\n\n"
            f"Reason: {reason}\n"
            + "".join(f"\nOpen as well, and outdated once this is merged: #{pull.number}\n" for pull in beside)
        ),
        labels=[LABEL],
        made=f"rollback of version {was}{main.inside}",
    )
    opened = open_change(main, root, words, lambda number: {main.path: rollback(text, reason, number, target)})
    return replace(opened, beside=beside)


def open_hold(root: Path, digest: str, reason: str) -> Opened:
    """Open the pull request that puts a hold on a model, with the check on it; it counts in every environment.

    Raises:
        ManifestError: the model serves in production or is held already, or no reason is given.
        ForgeError: git or the forge refused.
    """
    main = read_main(root)
    add_hold(main.text, digest, reason)
    words = Words(
        branch=f"hold/{main.label}-{short(digest)}",
        title=f"{main.label}: hold {short(digest)}",
        body=f"The model is not proposed until the hold is removed.\n\nReason: {reason}\n",
        labels=[LABEL],
        made=f"hold of {short(digest)}",
    )
    return open_change(main, root, words, lambda number: {main.path: add_hold(main.text, digest, reason, number)})


def open_lift(root: Path, digest: str) -> Opened:
    """Open the pull request that takes the hold on a model off, wherever there is one, with the check on it.

    Raises:
        ManifestError: there is no such hold.
        ForgeError: git or the forge refused.
    """
    every = [read_main(root)]
    every += [every[0].at_environment(other) for other in every[0].others]
    held = [one for one in every if digest in {hold.digest for hold in one.manifest.spec.holds}]
    lifted = {one.path: lift_hold(one.text, digest) for one in held or every[:1]}
    reason = next(hold.reason for one in held for hold in one.manifest.spec.holds if hold.digest == digest)
    main = every[0]
    words = Words(
        branch=f"lift/{main.label}-{short(digest)}",
        title=f"{main.label}: lift the hold on {short(digest)}",
        body=f"The model may be proposed again.\n\nIt was held: {reason}\n",
        labels=[LABEL],
        made=f"lift of {short(digest)}",
    )
    return open_change(main, root, words, lambda _: lifted)


def _beside(main: Main, branch: str, back: int) -> tuple[PullRequest, ...]:
    """The other open pull requests that would change what serves.

    Raises:
        ForgeError: the one of `branch` is open, and goes back to another version.
    """
    pulls = open_forge(main.git).list_open()
    mine = next((pull for pull in pulls if pull.branch == branch and not pull.fork), None)
    if mine is not None:
        main.git.fetch(REMOTE, branch)
        text = main.git.show(mine.head, main.at)
        stable = parse(text, Manifest, main.at, ManifestError).spec.stable if text else None
        if stable is not None and stable.version != back:
            raise ForgeError(
                f"pull request {mine.number} is open already, and goes back to version {stable.version}",
                where=mine.url,
                hint=f"merge it; or close it and delete its branch {branch}, then ask for version {back} again",
            )
    others = (pull for pull in pulls if pull is not mine and {LABEL, MODEL_LABEL} & set(pull.labels))
    return tuple(pull for pull in others if pull.fork or concerns(main.git, main.home, pull, main.commit))


def open_change(main: Main, root: Path, words: Words, edited: Callable[[int | None], Mapping[Path, str]]) -> Opened:
    """Open the pull request whose branch differs from the base branch in these manifests alone.

    Objects that what they name has lost, as where a release's commit was reverted, come back with it.
    """
    git = main.git

    def tree(number: int | None) -> str:
        texts = {main.home.path(path): text for path, text in edited(number).items()}
        entries = {path: f"{FILE} blob {store_text(git, text)}" for path, text in texts.items()}
        made = with_entries(git, tree_of(git, main.commit), entries)
        return with_entries(git, made, lost_objects(git, root, made, main.commit))

    forge, told = open_forge(git), changes_of(git, main.commit, tree(None))
    first = [headline(told.get(main.home.model, NOTHING)), _links(main, edited(None))]
    words = replace(words, body="\n\n".join([*filter(None, first), words.body]))
    kept = keep_branch(git, forge, main.commit, words, tree)
    opened = Opened(kept, verify_tree(git, main.home, kept.commit))
    lines = [f"- {check.status.value} {check.name}: {check.value}" for check in opened.checks]
    title = f"{'Accepted: what' if opened.sound else 'Not accepted: what'} this would serve was verified"
    forge.check(kept.commit, CHECK, success=opened.sound, title=title, summary="\n".join(lines) + "\n")
    return opened


def _links(main: Main, edited: Mapping[Path, str]) -> str:
    """Where the model that comes to serve was judged, on the same rows as the one before it; and the run."""
    after = parse(edited.get(main.path, main.text), Manifest, main.at, ManifestError)
    release, url = new_release(main.manifest, after), read_job().run_url
    report = (
        f"report of version {release.version}: #{release.evidence.pull}" if release and release.evidence.pull else ""
    )
    return " · ".join(filter(None, (report, f"[run]({url})" if url else "")))
