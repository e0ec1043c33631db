"""Edits of the text of `deploy/manifest.yaml` that keep its comments, order, quotes and indentation."""

from __future__ import annotations

from typing import Any

from mergeline.documents import parse
from mergeline.errors import ManifestError
from mergeline.manifest.layout import Splice
from mergeline.manifest.model import MANIFEST_FILE, Analysis, Manifest, Release, Rollout
from mergeline.manifest.transitions import AT_ONCE, aborted, finished, held, lifted, promoted, rolled_back

# Four lines a model: the diff of a promotion then reads as a new model put on top and the oldest one gone,
# ten lines in all, since the lines of the model between them stay as they are.
LINES = (("version", "digest"), ("source", "signature"), ("lineage",), ("evidence",))

_EMPTY = """\
# yaml-language-server: $schema=manifest.schema.json
# What production serves. A merge that changes this file is a release, and its git log is production's history.
# Machines edit it in pull requests only, and keep your comments and your layout.
apiVersion: mergeline/v1
kind: ModelDeployment
metadata:
  name: {name}
  annotations: {{}}                    # free text of yours, as key: value
spec:
  # stable answers every request; previous is what a rollback brings back.
  # version is for people; digest is the model's identity; source is its object in the store.
  stable: null
  previous: null
  rollout:
    strategy: replace                # how a merged model takes over
  # Digests that are not proposed again until a person takes them off this list.
  holds: []
"""


def empty_manifest(name: str) -> str:
    """The text of a manifest that serves nothing yet."""
    return _EMPTY.format(name=name)


def promote(text: str, release: Release, rollout: Rollout = AT_ONCE) -> str:
    """Let `release` take over as `rollout` says: at once, or as a candidate; see `transitions.promoted`.

    Args:
        text: the manifest as it is; it must be a valid one.
        release: what to promote; see `version_for` for its version.
        rollout: the section that a candidate gets.

    Raises:
        HoldError: the release is under a hold.
        ManifestError: the text is not a manifest, or the version is taken.
    """
    before = _parse(text)
    return _written(text, before, promoted(before, release, rollout))


def finish(text: str) -> str:
    """Make the candidate the stable model.

    Raises:
        ManifestError: the text is not a manifest, or nothing rolls out.
    """
    before = _parse(text)
    return _written(text, before, finished(before))


def abort(text: str, reason: str, pull: int | None = None) -> str:
    """Take the candidate off, and put a hold on it; arguments as `transitions.aborted` has them.

    Raises:
        ManifestError: the text is not a manifest, nothing rolls out, or no reason is given.
    """
    before = _parse(text)
    return _written(text, before, aborted(before, reason, pull))


def with_models_of(text: str, base: Manifest) -> str:
    """The text with the models of `base`, and everything else as it is.

    Where a model rolls out, here or there, the section `rollout` is the base's too.

    Args:
        text: the manifest to change.
        base: a manifest that has a stable and a previous model, or the same ones as the text.

    Raises:
        ManifestError: the text is not a manifest, or the base has no model where the text has one.
    """
    before = _parse(text)
    models: dict[str, object] = {role: getattr(base.spec, role) for role in ("stable", "previous", "candidate")}
    if before.spec.candidate is not None or base.spec.candidate is not None:
        models["rollout"] = base.spec.rollout
    return _written(text, before, before.model_copy(update={"spec": before.spec.model_copy(update=models)}))


def starting_text(here: str | None, base: str) -> str:
    """The manifest that a proposal edits: the branch's, with what people changed in it, but the base's models.

    Args:
        here: the branch's manifest; None where it has none.
        base: the base branch's.

    Raises:
        ManifestError: one of them is not a manifest, or the branch holds the model that the base serves, or makes
            its candidate stable: a branch that changes what serves by itself may not bring another model.
    """
    if here is None:
        return base
    mine, theirs = _parse(here), _parse(base)
    if theirs.spec.previous is None and mine.spec.previous is not None:
        return base
    if mine.metadata.name != theirs.metadata.name:
        return base
    stable = theirs.spec.stable
    if stable is not None and stable.digest in {hold.digest for hold in mine.spec.holds}:
        raise ManifestError(
            f"the branch takes version {stable.version} off production, and changes the model as well",
            where=f"{MANIFEST_FILE}: spec.holds",
            hint="roll back in a pull request of its own, and propose the model after it is merged",
        )
    if theirs.spec.candidate is not None and mine.spec.stable == theirs.spec.candidate:
        raise ManifestError(
            f"the branch makes version {theirs.spec.candidate.version} stable, and changes the model as well",
            where=f"{MANIFEST_FILE}: spec.stable",
            hint="end the rollout in a pull request of its own: mergeline rollout promote --pull-request",
        )
    return with_models_of(here, theirs)


def rollback(text: str, reason: str, pull: int | None = None, to: Release | None = None) -> str:
    """Make an earlier model the stable one, and put a hold on what failed.

    Args:
        text: the manifest as it is.
        reason: what failed, in one sentence.
        pull: the pull request that rolls back, where there is one.
        to: the release to go back to; None takes the previous one.

    Raises:
        ManifestError: the text is not a manifest, there is nothing to go back to, no reason, or a rollout.
        HoldError: the model to go back to is under a hold itself.
    """
    before = _parse(text)
    return _written(text, before, rolled_back(before, reason, pull, to))


def add_hold(text: str, digest: str, reason: str, pull: int | None = None) -> str:
    """Put a hold on a model; arguments as `transitions.held` has them.

    Raises:
        ManifestError: the text is not a manifest, the model serves or is held already, or there is no reason.
    """
    before = _parse(text)
    return _written(text, before, held(before, digest, reason, pull))


def lift_hold(text: str, digest: str) -> str:
    """Take the hold on `digest` off the list.

    Raises:
        ManifestError: the text is not a manifest, or there is no such hold.
    """
    before = _parse(text)
    return _written(text, before, lifted(before, digest))


def _written(text: str, before: Manifest, after: Manifest) -> str:
    """The text changed from `before` to `after`, and read again to be sure of it."""
    splice = Splice(text)
    for role, sibling in (("stable", None), ("previous", "stable"), ("candidate", "previous")):
        release: Release | None = getattr(after.spec, role)
        if release is not None and release != getattr(before.spec, role):
            splice.put("spec", role, _entry(release), after=sibling, lines=LINES)
    if after.spec.candidate is None and before.spec.candidate is not None:
        splice.drop("spec", "candidate")
    old, new = before.spec.rollout.model_dump(), after.spec.rollout.model_dump()
    changed = {key: _short(value) for key, value in new.items() if value != old[key]}
    if changed:
        splice.merge("spec", "rollout", changed, after="candidate" if after.spec.candidate else "previous")
    left = [hold.digest for hold in after.spec.holds]
    gone = [index for index, hold in enumerate(before.spec.holds) if hold.digest not in left]
    if gone:
        splice.remove("spec", "holds", gone)
    for hold in after.spec.holds[len(before.spec.holds) :]:
        splice.append("spec", "holds", hold.model_dump(exclude_none=True), after="rollout")
    result = splice.text()
    try:
        right = _parse(result) == after
    except ManifestError:
        right = False
    if not right:
        raise ManifestError(
            "the file is written in a way that a machine cannot edit safely",
            where=str(MANIFEST_FILE),
            hint="write the values under spec without anchors, aliases, tags and block scalars",
        )
    return result


def _short(value: Any) -> Any:
    """A value of the section `rollout`; of an analysis what it does not leave to the defaults."""
    if not isinstance(value, list | tuple):
        return value
    usual = {name: field.default for name, field in Analysis.model_fields.items()}
    return [{key: told for key, told in item.items() if usual.get(key, ...) != told} for item in value]


def _entry(release: Release) -> dict[str, Any]:
    return release.model_dump(exclude_none=True)


def _parse(text: str) -> Manifest:
    return parse(text, Manifest, str(MANIFEST_FILE), ManifestError)
