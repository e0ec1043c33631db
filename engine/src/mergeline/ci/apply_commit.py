"""Makes the tree that holds a checked proposal: lock, manifest, signature, and the embedded store's new objects."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mergeline.ci.bundle import VERDICT, ApplyOutcome, ApplyResult, ErrorInfo, ProposalBundle, read_object
from mergeline.ci.check_bundle import CheckedProposal, DataFile, Expected, check_bundle
from mergeline.documents import parse_plain
from mergeline.errors import BundleError, DigestError, DocumentError, SignatureError, StoreError
from mergeline.github.base import (
    BASE_BRANCH,
    REMOTE,
    fetch_main,
    read_base,
    read_environments,
    read_release_params,
)
from mergeline.github.git import Git
from mergeline.github.git_objects import (
    FILE,
    contains,
    entry_at,
    homes_in,
    store_files,
    store_text,
    tree_of,
    with_entries,
)
from mergeline.github.merge import merged_with_base
from mergeline.github.own_branch import is_own, message, push
from mergeline.github.pull_requests import PullRequest, PullState
from mergeline.github.served_releases import PastStore, known_models, lost_objects
from mergeline.home import Home
from mergeline.manifest.edit import promote
from mergeline.manifest.schema import Release, parse_manifest
from mergeline.manifest.signatures import sign_release, signature_path
from mergeline.manifest.transitions import releases
from mergeline.params import PARAMS_FILE, ModelParams
from mergeline.release.inputs import PIPELINE_FILE
from mergeline.release.proposal import ProposalStatus
from mergeline.release_params import ReleaseParams, SigningParams
from mergeline.store.dvc_lock import LOCK_FILE, model_object
from mergeline.store.objects import Read, Store, configured_store, embedded_store, fetch_folder

_STORE_CONFIG = (".dvc/config", ".dvc/config.local")
"""DVC reads the second one too, which nobody commits."""


@dataclass(frozen=True)
class Target:
    """Where a proposal goes: a commit on `parents` that starts from `tree`, for the remote's `branch` at `tip`.

    `main` is the base branch's commit in it, `pull` the number that the evidence names, where it is known.
    """

    branch: str
    tip: str | None
    parents: tuple[str, ...]
    tree: str
    main: str
    pull: int | None


class Part:
    """One model's proposal, with the repository and the store that it is checked against and written into.

    `checked` is there after `check`, and `release`, as it was written last, after `draft`.

    Args:
        bundle: the proposal.
        home: where the model's files are; the base branch is checked out.
        store: the embedded store's folder from the root; None where the store is elsewhere.
    """

    checked: CheckedProposal
    release: Release

    def __init__(self, bundle: ProposalBundle, home: Home, store: str | None) -> None:
        self.bundle, self.home, self.git, self.store = bundle, home, Git(home.root), store

    def check(self, target: Target, head: str, pull: int | None) -> None:
        """Check the proposal of the commit `head`, which must have been made for `pull`.

        Raises:
            MergelineError: why it is refused.
        """
        tree = target.tree
        for file in _STORE_CONFIG:
            if self._text(tree, file) != self._text(target.main, file):
                raise BundleError(
                    "the branch moves the store, and brings a model too",
                    where=file,
                    hint="move the store in a pull request of its own, and propose the model after it is merged",
                )
        self._require_key(target)
        environments = self._release_params(tree).environments
        known = read_environments(self.git, self.home, target.main, tree).names  # a branch may bring the home itself
        if self.bundle.state is ProposalStatus.PROPOSED and environments != known:
            raise BundleError(
                "the branch changes the environments, and brings a model too",
                where=f"{PARAMS_FILE}: release.environments",
                hint="change them in a pull request of its own, and propose the model after it is merged",
            )
        name = str(self._params(tree).get("name", ""))
        store = self._store(tree)
        expected = Expected(
            name=name,
            head=head,
            pull=pull,
            base=read_base(self.home.folder, name, target.main, environments),
            base_model=model_object(self._text(target.main, self.home.path(LOCK_FILE)) or ""),
            here=self._text(tree, self._manifest(tree)),
            pipeline=self._text(tree, self.home.path(PIPELINE_FILE)) or "",
            read=store.read,
            has=store.has,
            own=self._own_manifest(target, head),
            rollout=self._release_params(tree).rollout,
            data=None if pull is not None or target.pull is not None else self._data_file(target.main),
            trained_on=self._data_file(tree),
            stated=self._params(tree),
            trusted=trusted_types(self._params(tree)),
        )
        self.checked = check_bundle(self.bundle, expected)

    def draft(self, target: Target) -> str:
        """The tree with the proposal in it: what it releases is signed as the policy asks, and names the pull request.

        Raises:
            SignatureError: it must be signed, and cannot be.
        """
        checked = self.checked
        entries: dict[str, str | None] = {self.home.path(LOCK_FILE): self._entry(checked.lock)}
        release, manifest = checked.release, checked.manifest
        if checked.new:
            release = self._with_number(release, target.pull)
            signing = signing_of(self.git, self.home, target.main, target.tree)
            if signing.policy == "required":
                read = read_object(self.bundle, self._store(target.tree).read)
                trees = (target.tip, target.tree) if target.tip else (target.tree,)
                path, content = sign(self.home, trees, release, signing, read)
                entries[self.home.path(path)] = self._entry(content)
                release = release.model_copy(update={"signature": path})
            if release != checked.release:
                manifest = promote(manifest, release, self._release_params(target.tree).rollout)
        entries[self._manifest(target.tree)] = self._entry(manifest)
        if checked.data is not None and (file := self._data_file(target.main)) is not None:
            entries[self.home.path(f"{file.path}.dvc")] = self._entry(checked.data)
        tree = with_entries(self.git, target.tree, entries | self._objects(target.tree))
        self.release = release
        tree = with_entries(self.git, tree, lost_objects(self.git, self.home.folder, tree, target.main))
        return with_entries(self.git, tree, dict(sign_released(self.home, target.main, tree, target.tip)))

    def result(
        self, outcome: ApplyOutcome, pull: int | None, commit: str, error: ErrorInfo | None = None
    ) -> ApplyResult:
        """The outcome of the proposal as it was written last."""
        verdict = self.bundle.folder / VERDICT
        return ApplyResult(
            outcome=outcome,
            pull=pull,
            commit=commit,
            digest=self.release.digest if self.checked.new else None,
            predicate=str(verdict) if self.checked.judged == self.release.evidence.gate else None,
            error=error,
        )

    def keep_objects(self) -> None:
        """Put the objects into a store that is not part of the repository.

        Raises:
            StoreError: it does not take them.
        """
        if self.store is None:
            for name in self.bundle.objects:
                configured_store(self.home.root).put(name, self.bundle.folder / "objects" / name)

    def _require_key(self, target: Target) -> None:
        """Refuse a model that would be checked by a key of the branch's own: whoever has its other half signs for it.

        Raises:
            BundleError: the base branch requires signatures, and the branch has another public key.
        """
        if self._text(target.main, self.home.path(PARAMS_FILE)) is None:
            return  # a new home: nothing is signed there yet
        mine, theirs = (read_release_params(self.git, self.home, one).signing for one in (target.main, target.tree))
        key = self.home.path(mine.public_key)
        if mine.policy == "off" or self._text(target.main, key) is None:
            return
        if theirs.public_key != mine.public_key or self._text(target.tree, key) != self._text(target.main, key):
            raise BundleError(
                "the branch changes the key that models are signed by, and brings a model too",
                where=key,
                hint="change the key in a pull request of its own, and propose the model after it is merged",
            )

    def _own_manifest(self, target: Target, head: str) -> bool:
        """Whether the branch's manifest is as one of the automation's own commits on it wrote it."""
        path = self._manifest(target.tree)
        wrote = self.git.run("log", "-1", "--format=%H", f"{target.main}..{head}", "--", path)
        return bool(wrote) and is_own(self.git, wrote) and self._text(wrote, path) == self._text(target.tree, path)

    def _objects(self, tree: str) -> dict[str, str | None]:
        """The entries of new objects in the embedded store."""
        if self.store is None:
            return {}
        present = PastStore(self.git, self.store, tree).present
        folder = self.bundle.folder.resolve() / "objects"
        named = {f"{self.store}/{name}": folder / name for name in self.bundle.objects}
        new = {path: file for path, file in named.items() if path not in present}
        blobs = store_files(self.git, new.values())
        return {path: f"{FILE} blob {blobs[file]}" for path, file in new.items()}

    @staticmethod
    def _with_number(release: Release, pull: int | None) -> Release:
        number = release.evidence.pull or pull
        return release.model_copy(update={"evidence": release.evidence.model_copy(update={"pull": number})})

    def _data_file(self, main: str) -> DataFile | None:
        """The base branch's data, as DVC's file beside them names them."""
        section = self._params(main).get("data")
        path = str(section.get("path", "data")) if isinstance(section, dict) else "data"
        text = self._text(main, self.home.path(f"{path}.dvc"))
        return None if text is None else DataFile(path, text)

    def _manifest(self, tree: str) -> str:
        """The path of the manifest that proposals write."""
        return read_environments(self.git, self.home, tree).path()

    def _release_params(self, tree: str) -> ReleaseParams:
        return read_release_params(self.git, self.home, tree)

    def _params(self, tree: str) -> dict[str, Any]:
        path = self.home.path(PARAMS_FILE)
        return parse_plain(self._text(tree, path) or "", path)

    def _store(self, tree: str) -> Store:
        return configured_store(self.home.root) if self.store is None else PastStore(self.git, self.store, tree)

    def _text(self, tree: str, path: str) -> str | None:
        content = self.git.blob(f"{tree}:{path}")
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError:
            raise BundleError("the file is not UTF-8 text", where=path, hint="save it as UTF-8 text") from None

    def _entry(self, text: str) -> str:
        return f"{FILE} blob {store_text(self.git, text)}"


def trusted_types(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The types of the team's own that a model may hold, as params say, wherever those come from.

    Raises:
        DocumentError: the section `model` is not what it must be.
    """
    try:
        return ModelParams.model_validate(params.get("model")).trusted
    except ValueError as cause:
        raise DocumentError(
            "the section model is not what it must be", where=str(PARAMS_FILE), hint="correct it on the branch"
        ) from cause


def put_back(git: Git, bundles: Mapping[str, ProposalBundle], pull: PullRequest, head: str) -> ApplyResult:
    """Put back what a reverted commit takes away though it is needed, and sign what is released, if the policy asks.

    Another environment may serve the model whose release is reverted, and a server of the first environment follows its
    manifest, which came with the first proposal.
    """
    nothing = ApplyResult(outcome=ApplyOutcome.NOTHING, pull=pull.number, commit=head)
    passes = all(bundle.state.passes for bundle in bundles.values())
    if not passes or pull.base != BASE_BRANCH or pull.state is not PullState.OPEN:
        return nothing
    main, tip = fetch_main(git, pull.branch), git.run("rev-parse", f"refs/remotes/{REMOTE}/{pull.branch}")
    tree = merged_with_base(git, main, head, embedded_store(git.folder))
    lost = lost_objects(git, git.folder, tree, main)
    for home in homes_in(git, tree).values():
        places = read_environments(git, home, tree)
        for name in places.names[:-1]:
            path, text = places.path(name), places.text(main, tree, name)
            if text is not None and entry_at(git, tree, path) is None:
                lost[path] = f"{FILE} blob {store_text(git, text)}"
    made = with_entries(git, tree, lost)
    signed: dict[str, str] = {}
    for home in homes_in(git, tree).values():
        signed |= dict(sign_released(home, main, made, tip))
    if not lost and not signed:
        return nothing
    made = with_entries(git, made, signed)
    if tree_of(git, tip) == made:
        return nothing.model_copy(update={"commit": tip})
    parents = (head,) if contains(git, head, main) else (head, main)
    title = "Objects of released models stay" if lost else "Released models are signed"
    text = message(title, "objects of released models" if lost else "signatures of released models", made)
    commit = push(git, pull.branch, made, parents, text, expected=head)
    return ApplyResult(outcome=ApplyOutcome.APPLIED, pull=pull.number, commit=commit)


def signing_of(git: Git, home: Home, main: str, tree: str) -> SigningParams:
    """How models must be signed: as the branch says, or as the base branch does where that is stricter."""
    theirs = read_release_params(git, home, tree).signing
    if theirs.policy == "required" or git.blob(f"{main}:{home.path(PARAMS_FILE)}") is None:
        return theirs
    return read_release_params(git, home, main).signing


def sign_released(home: Home, main: str, tree: str, tip: str | None) -> Iterator[tuple[str, str]]:
    """Sign what a tree's manifests name and the base branch has released, where the policy asks and it is not signed.

    It was released before the policy asked, or before the key was replaced. A model that the base branch never named
    is none of these; one whose bytes cannot be had stays as it is, and `verify` says so.

    Args:
        home: whose manifests.
        main: the base branch's commit.
        tree: what would be merged.
        tip: the branch's newest commit, which may have the signatures already.

    Returns:
        Entries for the tree, by path.

    Raises:
        SignatureError: there is no private key, or it is not the public key's other half.
    """
    git, folder = Git(home.root), embedded_store(home.root)
    signing, places = signing_of(git, home, main, tree), read_environments(git, home, tree)
    texts = [places.text(main, tree, each) for each in places.names] if signing.policy == "required" else []
    store = PastStore(git, folder, tree, main) if folder else configured_store(home.root)
    for manifest in (parse_manifest(text) for text in texts if text):
        known = known_models(git, main, manifest.metadata.name, map(places.path, places.names))
        for release in releases(manifest).values():
            if known.get(release.source) != release.digest:
                continue
            with contextlib.suppress(StoreError, DigestError):
                path, content = sign(home, (tip, tree) if tip else (tree,), release, signing, store.read)
                entry = f"{FILE} blob {store_text(git, content)}"
                if entry_at(git, tree, home.path(path)) != entry:
                    yield home.path(path), entry


def sign(home: Home, trees: Iterable[str], release: Release, signing: SigningParams, read: Read) -> tuple[str, str]:
    """The path, from the home, and the text of the signature of a release's model.

    Args:
        home: where the public key and the signatures are.
        trees: where a signature may be already, and where the public key is, the likeliest first: signing twice
            gives two signatures, and the same proposal must give the same commit.
        release: names the model.
        signing: names the public key.
        read: gives the model's objects.

    Raises:
        SignatureError: there is no private key, or it is not the public key's other half.
        StoreError: the model cannot be had.
        DigestError: it is another one than the release names.
    """
    key, path = PurePosixPath(signing.public_key), signature_path(release.digest)
    if key.is_absolute() or ".." in key.parts:
        raise SignatureError(
            "the public key lies outside the repository", where=str(key), hint="put it into deploy/, and name it there"
        )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for tree in reversed([*trees]):
            for name in (key.as_posix(), path):
                content = Git(home.root).blob(f"{tree}:{home.path(name)}")
                if content is not None:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_bytes(content)
        sign_release(release, root, signing, lambda source, into: fetch_folder(source, read, into))
        return path, (root / path).read_text(encoding="utf-8")
