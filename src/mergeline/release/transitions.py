"""What a promotion, a rollback and a lifted hold make of a manifest."""

from __future__ import annotations

from mergeline.errors import HoldError, ManifestError
from mergeline.release.manifest import MANIFEST_FILE, Hold, Manifest, Release, Spec


def next_version(manifest: Manifest) -> int:
    """The version of the next release: one more than the highest in the manifest."""
    return 1 + max((release.version for release in releases(manifest).values()), default=0)


def releases(manifest: Manifest) -> dict[str, Release]:
    """The releases that the manifest names, by role."""
    spec = manifest.spec
    roles = {"stable": spec.stable, "previous": spec.previous, "candidate": spec.candidate}
    return {role: release for role, release in roles.items() if release is not None}


def refuse_held(manifest: Manifest, digest: str) -> None:
    """Refuse a model that a person has put under a hold.

    Raises:
        HoldError: with the reason of the hold.
    """
    for hold in manifest.spec.holds:
        if hold.digest == digest:
            raise HoldError(
                f"{short(digest)} is under a hold: {hold.reason}",
                where=f"{MANIFEST_FILE}: spec.holds",
                mend="change the model, or lift the hold: mergeline lift",
            )


def promoted(manifest: Manifest, release: Release) -> Manifest:
    """The manifest in which `release` is stable, and the stable model of before is the previous one.

    A model that is stable already keeps its version and its predecessor; only what is said about it changes.

    Raises:
        HoldError: the release is under a hold.
        ManifestError: a rollout is under way, the strategy is not `replace`, or the version is taken.
    """
    spec = manifest.spec
    refuse_held(manifest, release.digest)
    if spec.candidate is not None:
        raise _refusal(
            f"version {spec.candidate.version} is still rolling out",
            "spec.candidate",
            "finish or abort that rollout first",
        )
    if spec.stable is not None and spec.rollout.strategy != "replace":
        raise _refusal(
            f"the strategy is {spec.rollout.strategy}, which does not replace the stable model at once",
            "spec.rollout.strategy",
            "set it to replace",
        )
    if spec.stable is not None and spec.stable.digest == release.digest:
        return _with(manifest, stable=release.model_copy(update={"version": spec.stable.version}))
    if release.version < next_version(manifest):
        raise _refusal(f"version {release.version} is taken", "spec", f"the next version is {next_version(manifest)}")
    return _with(manifest, stable=release, previous=spec.stable)


def rolled_back(manifest: Manifest, reason: str, pull: int | None = None) -> Manifest:
    """The manifest in which the previous model is stable again, and the failed one is previous and held.

    The failed release stays in the file, so that its version is not given away twice.

    Raises:
        ManifestError: there is nothing to go back to, or no reason is given.
        HoldError: the previous model is under a hold itself.
    """
    spec = manifest.spec
    if not reason.strip():
        raise _refusal("a rollback needs a reason", "spec.holds", "say what failed, in one sentence")
    if spec.stable is None or spec.previous is None:
        raise _refusal(
            "there is no previous model to go back to", "spec.previous", "promote a model that works: mergeline propose"
        )
    if spec.candidate is not None:
        raise _refusal(
            f"version {spec.candidate.version} is still rolling out",
            "spec.candidate",
            "finish or abort that rollout first",
        )
    held = {hold.digest: hold.reason for hold in spec.holds}
    if spec.previous.digest in held:
        raise HoldError(
            f"the previous model, version {spec.previous.version}, is under a hold: {held[spec.previous.digest]}",
            where=f"{MANIFEST_FILE}: spec.holds",
            mend="promote a model that works, or let a person lift the hold first",
        )
    hold = Hold(digest=spec.stable.digest, reason=reason, pull=pull)
    return _with(manifest, stable=spec.previous, previous=spec.stable, holds=(*spec.holds, hold))


def lifted(manifest: Manifest, digest: str) -> Manifest:
    """The manifest without the hold on `digest`.

    Raises:
        ManifestError: there is no such hold.
    """
    left = tuple(hold for hold in manifest.spec.holds if hold.digest != digest)
    if len(left) == len(manifest.spec.holds):
        names = ", ".join(short(hold.digest) for hold in manifest.spec.holds) or "none"
        raise _refusal(f"{short(digest)} is not under a hold", "spec.holds", f"there are: {names}")
    return _with(manifest, holds=left)


def short(digest: str) -> str:
    """The first digits of a digest, for people."""
    return digest.removeprefix("sha256:")[:12]


def _with(manifest: Manifest, **changes: object) -> Manifest:
    spec = {name: getattr(manifest.spec, name) for name in Spec.model_fields} | changes
    return manifest.model_copy(update={"spec": Spec(**spec)})


def _refusal(what: str, key: str, mend: str) -> ManifestError:
    return ManifestError(what, where=f"{MANIFEST_FILE}: {key}", mend=mend)
