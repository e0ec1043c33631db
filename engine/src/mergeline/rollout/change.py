"""Opens a pull request that changes manifests alone, made on the base branch, and puts the required check on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mergeline.ci.apply_commit import sign_released
from mergeline.ci.required_check import CHECK
from mergeline.ci.scope import require_main
from mergeline.errors import ManifestError
from mergeline.evaluate.results import Check, Status
from mergeline.github.actions import read_job
from mergeline.github.base import BASE_BRANCH, REMOTE, fetch_main, read_release_params
from mergeline.github.effects import NOTHING, changes_of, headline
from mergeline.github.git import Git
from mergeline.github.git_objects import FILE, store_text, tree_of, with_entries
from mergeline.github.open_proposal import open_forge
from mergeline.github.own_branch import Kept, Words, keep_branch
from mergeline.github.pull_requests import PullRequest, Pulls
from mergeline.github.served_releases import lost_objects, verify_tree
from mergeline.home import Home
from mergeline.manifest.edit import started_from
from mergeline.manifest.schema import Manifest, manifest_path, parse_manifest
from mergeline.manifest.transitions import new_release
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
    return _read_main(git, home, fetch_main(git), environment)


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
    others = {each: parse_manifest(other, each) for each, other in texts.items() if other is not None}
    return Main(git, home, main, params, place, text, parse_manifest(text, path), others)


def path_here(root: Path, environment: str = "") -> Path:
    """Where the work tree's manifest of an environment is, from its home; production's if none is named."""
    environments = release_in(root).environments
    return manifest_path(environments, environment or environments[-1])


def open_change(main: Main, root: Path, words: Words, edited: Callable[[int | None], Mapping[Path, str]]) -> Opened:
    """Open the pull request whose branch differs from the base branch in these manifests alone.

    Objects that what they name has lost, as where a release's commit was reverted, come back with it, and so do
    signatures: an earlier model may have served before the policy asked for them.

    Raises:
        SignatureError: what it names must be signed, and cannot be.
        ForgeError: git or the forge refused.
    """
    git = main.git
    signed: dict[str, str] = {}

    def tree(number: int | None) -> str:
        texts = {main.home.path(path): text for path, text in edited(number).items()}
        entries = {path: f"{FILE} blob {store_text(git, text)}" for path, text in texts.items()}
        made = with_entries(git, tree_of(git, main.commit), entries)
        return with_entries(git, made, lost_objects(git, root, made, main.commit) | signed)

    # A hold waits for no key. And once: each time a signature is another one, and the same change is the same commit.
    if new_release(main.manifest, parse_manifest(edited(None).get(main.path, main.text), main.at)) is not None:
        signed |= dict(sign_released(main.home, main.commit, tree(None), git.find(f"{REMOTE}/{words.branch}")))
    forge, told = open_forge(git), changes_of(git, main.commit, tree(None))
    first = [headline(told.get(main.home.model, NOTHING)), _links(main, edited(None))]
    words = replace(words, body="\n\n".join([*filter(None, first), words.body]), labels=[LABEL])
    kept = keep_branch(git, forge, main.commit, words, tree)
    return Opened(kept, put_check(main.home, forge, kept.commit, "what this would serve was verified"))


def put_check(home: Home, forge: Pulls, commit: str, words: str, *, passes: bool = True) -> tuple[Check, ...]:
    """Verify what a commit would serve, and put the required check on it; `passes` is false where it must be red."""
    checks = verify_tree(Git(home.root), home, commit)
    sound = passes and all(check.status is not Status.FAIL for check in checks)
    lines = [f"- {check.status.value} {check.name}: {check.value}" for check in checks]
    title = f"{'Accepted' if sound else 'Not accepted'}: {words}"[:200]
    forge.check(commit, CHECK, success=sound, title=title, summary="\n".join(lines) + "\n")
    return checks


def _links(main: Main, edited: Mapping[Path, str]) -> str:
    """Where the model that comes to serve was judged, on the same rows as the one before it; and the run."""
    after = parse_manifest(edited.get(main.path, main.text), main.at)
    release, url = new_release(main.manifest, after), read_job().run_url
    pull = release.evidence.pull if release else None
    report = f"report of version {release.version}: #{pull}" if release and pull else ""
    return " · ".join(filter(None, (report, f"[run]({url})" if url else "")))
