"""Opens the pull request of a rollback, of a hold or of a lifted hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mergeline.documents import read_text
from mergeline.errors import ForgeError, ManifestError
from mergeline.github.base import BASE_BRANCH, REMOTE, manifest_at
from mergeline.github.git import Git
from mergeline.github.open_proposal import LABEL as MODEL_LABEL
from mergeline.github.open_proposal import concerns, open_forge
from mergeline.github.own_branch import Words
from mergeline.github.pull_requests import PullRequest
from mergeline.github.served_releases import known_releases
from mergeline.home import Home
from mergeline.manifest.edit import add_hold, lift_hold, rollback
from mergeline.manifest.schema import Release, parse_manifest
from mergeline.manifest.signatures import sign_release
from mergeline.manifest.transitions import held_digest, refuse_held, short
from mergeline.params import release_in
from mergeline.rollout.change import LABEL, Main, Opened, open_change, path_here, read_main
from mergeline.store.objects import configured_store


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
        SignatureError: it must be signed, and cannot be.
        StoreError: it must be signed, and is not in the store.
    """
    path = path_here(root, environment)
    text = read_text(root / path, ManifestError)
    name, signing = parse_manifest(text, path).metadata.name, release_in(root).signing
    rolled = rollback(text, reason, to=release_of(Home.at(root), name, version, path))
    stable = parse_manifest(rolled, path).spec.stable
    if stable is not None and signing.policy == "required":  # it may have served before the policy asked for it
        sign_release(stable, root, signing, configured_store(root).fetch_folder)
    return path, rolled


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
        SignatureError: it must be signed, and cannot be.
        ForgeError: git or the forge refused.
    """
    main = read_main(root, environment)
    name, text = main.manifest.metadata.name, main.text
    target = release_of(main.home, name, version, main.path)
    planned = parse_manifest(rollback(text, reason, to=target), main.path)
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
        made=f"hold of {short(digest)}",
    )
    return open_change(main, root, words, lambda number: {main.path: add_hold(main.text, digest, reason, number)})


def open_lift(root: Path, digest: str) -> Opened:
    """Open the pull request that takes the hold on a model off, wherever there is one, with the check on it.

    Raises:
        ManifestError: there is no such hold, or the digits of the digest are those of several.
        ForgeError: git or the forge refused.
    """
    every = [read_main(root)]
    every += [every[0].at_environment(other) for other in every[0].others]
    digest = held_digest((one.manifest for one in every), digest)
    held = [one for one in every if digest in one.manifest.spec.held]
    lifted = {one.path: lift_hold(one.text, digest) for one in held}
    reason = next(hold.reason for one in held for hold in one.manifest.spec.holds if hold.digest == digest)
    main = every[0]
    words = Words(
        branch=f"lift/{main.label}-{short(digest)}",
        title=f"{main.label}: lift the hold on {short(digest)}",
        body=f"The model may be proposed again.\n\nIt was held: {reason}\n",
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
        found = manifest_at(main.git, mine.head, main.at)
        stable = found.spec.stable if found else None
        if stable is not None and stable.version != back:
            raise ForgeError(
                f"pull request {mine.number} is open already, and goes back to version {stable.version}",
                where=mine.url,
                hint=f"merge it; or close it and delete its branch {branch}, then ask for version {back} again",
            )
    others = (pull for pull in pulls if pull is not mine and {LABEL, MODEL_LABEL} & set(pull.labels))
    return tuple(pull for pull in others if pull.fork or concerns(main.git, main.home, pull, main.commit))
