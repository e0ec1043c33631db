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


def rollback(text: str, reason: str, pull: int | None = None) -> str:
    """Make the previous model the stable one, and put a hold on what failed.

    Args:
        text: the manifest as it is.
        reason: what failed, in one sentence.
        pull: the pull request that rolls back, where there is one.

    Raises:
        ManifestError: the text is not a manifest, there is no previous model, or no reason.
        HoldError: the previous model is under a hold itself.
    """
    before = _parse(text)
    return _written(text, before, rolled_back(before, reason, pull))


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
