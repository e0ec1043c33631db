"""What a promotion, the end of a rollout, a rollback and a hold make of a manifest, and which of them a change is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

from mergeline.errors import HoldError, ManifestError
from mergeline.manifest.schema import MANIFEST_FILE, Hold, Manifest, Release, Spec
from mergeline.release_params import Rollout


class Change(StrEnum):
    """What merging a manifest would do."""

    SAME = "same"  # the models stay those that are served; people may have changed other things
    ROLLBACK = "rollback"  # what was served once comes back, by a rollback or by git revert
    CONCLUSION = "conclusion"  # the candidate that rolls out becomes stable, or its rollout is aborted
    PROMOTION = "promotion"  # a release comes that the environment before has served
    OTHER = "other"  # a model comes that only a proposal may bring


AT_ONCE = Rollout(strategy="replace")
"""The merged model is stable at once."""


def next_version(manifest: Manifest, given: int = 0) -> int:
    """The version of the next release: one more than the highest in the manifest, that of a failed candidate too.

    Args:
        manifest: what is served.
        given: the highest version that the history has given away: one that was reverted stands in no manifest.
    """
    named = [release.version for release in releases(manifest).values()]
    return 1 + max([given, *named, *(hold.version for hold in manifest.spec.holds if hold.version)])


def version_for(manifest: Manifest, digest: str, given: int = 0) -> int:
    """The version of a model when it is proposed: its own where it rolls out already, else the next one."""
    candidate = manifest.spec.candidate
    return candidate.version if candidate is not None and candidate.digest == digest else next_version(manifest, given)


def releases(manifest: Manifest) -> dict[str, Release]:
    """The releases that the manifest names, by role."""
    spec = manifest.spec
    roles = {"stable": spec.stable, "previous": spec.previous, "candidate": spec.candidate}
    return {role: release for role, release in roles.items() if release is not None}


def find_release(manifest: Manifest, digest: str) -> Release | None:
    """The release of a model, whatever its role; None where the manifest does not name it."""
    return next((release for release in releases(manifest).values() if release.digest == digest), None)


def refuse_held(manifest: Manifest, digest: str, environment: str = "") -> None:
    """Refuse a model that a person has put under a hold.

    Args:
        manifest: of the environment.
        digest: the model's.
        environment: its name, for the error, where it is another one than the model is for.

    Raises:
        HoldError: with the reason of the hold.
    """
    for hold in manifest.spec.holds:
        if hold.digest == digest:
            raise HoldError(
                f"{short(digest)} is under a hold{environment and f' in {environment}'}: {hold.reason}",
                where=f"{MANIFEST_FILE}: spec.holds",
                hint="change the model, or remove the hold: mergeline hold remove",
            )


def promote(manifest: Manifest, release: Release, rollout: Rollout = AT_ONCE) -> Manifest:
    """The manifest in which `release` takes over as `rollout` says.

    At once (`replace`, and the first model in any case) it is stable, and the stable model of before is the previous
    one. Else it is the candidate, beside a stable model that stays. As in Argo Rollouts a newer model takes the place
    of a candidate that is still rolling out, and the rollout begins anew.

    A model that is stable already keeps its version and its predecessor; only what is said about it changes. A model
    that is the candidate already keeps its version, and goes on as `rollout` says now.

    Raises:
        HoldError: the release is under a hold.
        ManifestError: the version is taken.
    """
    spec = manifest.spec
    refuse_held(manifest, release.digest)
    if spec.stable is not None and spec.stable.digest == release.digest:
        return _with(manifest, stable=release.model_copy(update={"version": spec.stable.version}))
    version = version_for(manifest, release.digest)
    if release.version < version:
        raise _refusal(f"version {release.version} is taken", "spec", f"the next version is {version}")
    if spec.stable is None:
        return _with(manifest, stable=release)
    if rollout.strategy == "replace":
        section = spec.rollout.model_copy(update={"strategy": "replace"})
        return _with(manifest, stable=release, previous=spec.stable, candidate=None, rollout=section)
    return _with(manifest, candidate=release, rollout=rollout)


def new_release(before: Manifest, after: Manifest) -> Release | None:
    """The release that `after` serves and `before` does not, or serves in another role; None where there is none."""
    was, now = before.spec, after.spec
    if now.stable is not None and (was.stable is None or now.stable.digest != was.stable.digest):
        return now.stable
    if now.candidate is not None and (was.candidate is None or now.candidate.digest != was.candidate.digest):
        return now.candidate
    return None


def only_new_release(before: Manifest, after: Manifest) -> Release | None:
    """The release that `after` brings, where the models differ by its promotion and by nothing else; else None.

    Its version may be higher than the next one: the history, or another environment, has given the others away.
    """
    release = new_release(before, after)
    if release is None:
        return None
    left = tuple(hold for hold in before.spec.holds if hold.digest in after.spec.held)  # one may be lifted at once
    start = _with(before, holds=left)
    try:
        alone = [promote(start, release, rollout) for rollout in (AT_ONCE, after.spec.rollout)]
    except (HoldError, ManifestError):
        return None
    return release if any(same_models(after, each) for each in alone) else None


def finish(manifest: Manifest) -> Manifest:
    """The manifest in which the candidate is stable, and the stable model of before is the previous one.

    Raises:
        ManifestError: nothing rolls out.
    """
    spec = manifest.spec
    return _with(manifest, stable=_candidate(spec), previous=spec.stable, candidate=None)


def abort(manifest: Manifest, reason: str, pull: int | None = None) -> Manifest:
    """The manifest without its candidate, which is held.

    Args:
        manifest: what is served.
        reason: what failed, in one sentence.
        pull: the pull request that takes it off, where there is one.

    Raises:
        ManifestError: nothing rolls out, or no reason is given.
    """
    candidate = _candidate(manifest.spec)
    if not reason.strip():
        hint = 'say what failed: mergeline rollout abort "REASON"'
        raise _refusal("taking a candidate off needs a reason", "spec.holds", hint)
    hold = Hold(digest=candidate.digest, reason=reason, pull=pull, version=candidate.version)
    return _with(manifest, candidate=None, holds=(*manifest.spec.holds, hold))


def is_conclusion(before: Manifest, after: Manifest) -> bool:
    """Whether `after` ends the rollout of `before`: its candidate is stable, or is gone."""
    if before.spec.candidate is None:
        return False
    gone = _with(before, candidate=None)
    return same_models(after, finish(before)) or same_models(after, gone)


def rollback(manifest: Manifest, reason: str, pull: int | None = None, to: Release | None = None) -> Manifest:
    """The manifest in which an earlier model is stable again, and the failed one is held.

    The release with the highest version stays in the file as the previous one, so that no version is given away
    twice.

    Args:
        manifest: what is served.
        reason: what failed, in one sentence.
        pull: the pull request that rolls back, where there is one.
        to: the release to go back to; None takes the previous one.

    Raises:
        ManifestError: there is nothing to go back to, no reason is given, or a rollout is under way.
        HoldError: the model to go back to is under a hold itself.
    """
    spec = manifest.spec
    if not reason.strip():
        raise _refusal("a rollback needs a reason", "spec.holds", 'say what failed: mergeline rollback "REASON"')
    target = to or spec.previous
    if spec.stable is None or target is None:
        raise _refusal(
            "there is no previous model to go back to", "spec.previous", "promote a model that works: mergeline propose"
        )
    if spec.candidate is not None:
        raise _refusal(
            f"version {spec.candidate.version} is still rolling out",
            "spec.candidate",
            "take it off first: mergeline rollout abort REASON",
        )
    if target.digest == spec.stable.digest:
        raise _refusal(f"version {target.version} is what is served already", "spec.stable", "name an earlier version")
    held = {hold.digest: hold.reason for hold in spec.holds}
    if target.digest in held:
        named = f"the previous model, version {target.version}," if to is None else f"version {target.version}"
        raise HoldError(
            f"{named} is under a hold: {held[target.digest]}",
            where=f"{MANIFEST_FILE}: spec.holds",
            hint="promote a model that works, or let a person lift the hold first",
        )
    hold = Hold(digest=spec.stable.digest, reason=reason, pull=pull)
    others = [release for release in (spec.previous, spec.stable) if release and release.digest != target.digest]
    newest = max(others, key=lambda release: release.version)
    return _with(manifest, stable=target, previous=newest, holds=(*spec.holds, hold))


def same_models(one: Manifest, other: Manifest) -> bool:
    """Whether both name the same releases in the same roles."""
    return releases(one) == releases(other)


def served_in(states: Iterable[Manifest]) -> tuple[Release, ...]:
    """The releases that are stable or previous in these states of a manifest, in their order, each once."""
    found: list[Release] = []
    for spec in (state.spec for state in states):
        found += [release for release in (spec.stable, spec.previous) if release and release not in found]
    return tuple(found)


def is_rollback(before: Manifest, after: Manifest, known: Callable[[], Iterable[Manifest]]) -> bool:
    """Whether `after` takes what `before` serves off, and serves a release that was served before.

    What is taken off must be held; commits that were reverted bring an earlier state back without that.

    Args:
        before: what is served.
        after: the manifest of a branch.
        known: gives the states that the manifest was in; the branch must not serve any other release, to the last
            digit. It is asked only if it matters: it reads the whole history.
    """
    stable = after.spec.stable
    if stable is None or before.spec.stable is None:
        return False
    if before.spec.stable.digest not in after.spec.held:
        return _is_reverted(before, after, known)
    try:
        expected = rollback(before, "compared", to=stable)
    except (HoldError, ManifestError):
        return False
    return same_models(expected, after) and stable in served_in(known())


def _is_reverted(before: Manifest, after: Manifest, known: Callable[[], Iterable[Manifest]]) -> bool:
    """Whether `after` is an earlier state, as reverted commits bring it back: with the rollout that it had."""
    was, now = before.spec, after.spec
    if (now.stable, now.previous, now.candidate, was.candidate) == (was.previous, None, None, None):
        return True
    if max(release.version for release in releases(after).values()) >= next_version(before):
        return False  # it brings a release that is new
    return any(same_models(after, state) for state in known())


def change_of(
    base: Manifest,
    here: Manifest,
    known: Callable[[], Iterable[Manifest]],
    tried: Callable[[], Iterable[Release]] = tuple,
) -> Change:
    """What merging `here` into `base` would do.

    Args:
        base: the base branch's manifest.
        here: the branch's manifest.
        known: gives the states that the manifest was in; asked only if it matters.
        tried: gives what the environment before this one has served; asked only if it matters. There is none before the
            first one, where a model comes by a proposal.
    """
    if same_models(base, here):
        return Change.SAME
    if is_conclusion(base, here):
        return Change.CONCLUSION
    if is_rollback(base, here, known):
        return Change.ROLLBACK
    release = only_new_release(base, here)
    return Change.PROMOTION if release is not None and release in tried() else Change.OTHER


def add_hold(manifest: Manifest, digest: str, reason: str, pull: int | None = None) -> Manifest:
    """The manifest with a hold on a model that does not serve.

    Args:
        manifest: as it is.
        digest: of the model, `sha256:` and 64 hexadecimal digits.
        reason: in one sentence.
        pull: the pull request that holds it, where there is one.

    Raises:
        ManifestError: the model serves, is held already, or its digest is none; or no reason is given.
    """
    named = {release.digest: role for role, release in releases(manifest).items() if role != "previous"}
    if digest in named:
        hint = "mergeline rollback REASON" if named[digest] == "stable" else "mergeline rollout abort REASON"
        raise _refusal(f"{short(digest)} is the {named[digest]} model", "spec.holds", f"take it off first: {hint}")
    if digest in manifest.spec.held:
        raise _refusal(f"{short(digest)} is held already", "spec.holds", "see: mergeline hold list")
    if not reason.strip():
        raise _refusal("a hold needs a reason", "spec.holds", "say why, in one sentence")
    try:
        hold = Hold(digest=digest, reason=reason, pull=pull)
    except ValueError as cause:
        raise _refusal(
            f"{digest!r} is no digest", "spec.holds", "give sha256: and 64 digits, as a report names it"
        ) from cause
    return _with(manifest, holds=(*manifest.spec.holds, hold))


_FEWEST_DIGITS = 4


def held_digest(manifests: Iterable[Manifest], digest: str) -> str:
    """The whole digest of a model under a hold, of which the first digits are enough where they are one model's.

    Args:
        manifests: of all environments.
        digest: with `sha256:` or without.

    Raises:
        ManifestError: no such model is held, or several are.
    """
    held = sorted({each for manifest in manifests for each in manifest.spec.held})
    first = digest.removeprefix("sha256:").lower()
    found = [each for each in held if each.removeprefix("sha256:").startswith(first) and len(first) >= _FEWEST_DIGITS]
    names = ", ".join(map(short, held)) or "none"
    if not found:
        raise _refusal(f"{short(digest)} is not under a hold", "spec.holds", f"there are: {names}")
    if len(found) > 1:
        hint = f"give more digits: {', '.join(found)}"
        raise _refusal(f"{first} is ambiguous: {len(found)} models under a hold begin so", "spec.holds", hint)
    return found[0]


def lift_hold(manifest: Manifest, digest: str) -> Manifest:
    """The manifest without the hold on `digest`.

    Raises:
        ManifestError: as `held_digest`.
    """
    whole = held_digest([manifest], digest)
    return _with(manifest, holds=tuple(hold for hold in manifest.spec.holds if hold.digest != whole))


def short(digest: str) -> str:
    """The first digits of a digest, for people."""
    return digest.removeprefix("sha256:")[:12]


def _candidate(spec: Spec) -> Release:
    if spec.candidate is None:
        raise _refusal("nothing rolls out", "spec.candidate", "propose a model with release.strategy canary or shadow")
    return spec.candidate


def _with(manifest: Manifest, **changes: object) -> Manifest:
    spec = {name: getattr(manifest.spec, name) for name in Spec.model_fields} | changes
    return manifest.model_copy(update={"spec": Spec(**spec)})


def _refusal(what: str, key: str, hint: str) -> ManifestError:
    return ManifestError(what, where=f"{MANIFEST_FILE}: {key}", hint=hint)
