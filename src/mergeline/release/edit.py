"""Edits of the text of `deploy/manifest.yaml` that keep its comments, order, quotes and indentation."""

from __future__ import annotations

from typing import Any

from mergeline.documents import parse
from mergeline.errors import ManifestError
from mergeline.release.manifest import MANIFEST_FILE, Manifest, Release
from mergeline.release.splice import Splice
from mergeline.release.transitions import lifted, promoted, rolled_back

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


def promote(text: str, release: Release) -> str:
    """Make `release` the stable model and the stable one the previous, at once (strategy `replace`).

    Args:
        text: the manifest as it is; it must be a valid one.
        release: what to promote; see `next_version` for its version.

    Raises:
        HoldError: the release is under a hold.
        ManifestError: the text is not a manifest, a rollout is under way, the strategy is another one, or
            the version is taken.
    """
    before = _parse(text)
    return _written(text, before, promoted(before, release))


def with_models_of(text: str, base: Manifest) -> str:
    """The text with the stable and the previous model of `base`, and everything else as it is.

    Args:
        text: the manifest to change.
        base: a manifest that has both models, or the same ones as the text.

    Raises:
        ManifestError: the text is not a manifest, or the base has no model where the text has one.
    """
    before = _parse(text)
    models = {"stable": base.spec.stable, "previous": base.spec.previous}
    return _written(text, before, before.model_copy(update={"spec": before.spec.model_copy(update=models)}))


def starting_text(here: str | None, base: str) -> str:
    """The manifest that a proposal edits: the branch's, with what people changed in it, but the base's models.

    Args:
        here: the branch's manifest; None where it has none.
        base: the base branch's.

    Raises:
        ManifestError: one of them is not a manifest, or the branch holds the model that the base serves: a branch
            that takes a model off production may not bring another one.
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
            mend="roll back in a pull request of its own, and propose the model after it is merged",
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
    for role, sibling in (("stable", None), ("previous", "stable")):
        release: Release | None = getattr(after.spec, role)
        if release is not None and release != getattr(before.spec, role):
            splice.put("spec", role, _entry(release), after=sibling, lines=LINES)
    held = [hold.digest for hold in after.spec.holds]
    gone = [index for index, hold in enumerate(before.spec.holds) if hold.digest not in held]
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
            mend="write the values under spec without anchors, aliases, tags and block scalars",
        )
    return result


def _entry(release: Release) -> dict[str, Any]:
    return release.model_dump(exclude_none=True)


def _parse(text: str) -> Manifest:
    return parse(text, Manifest, str(MANIFEST_FILE), ManifestError)
