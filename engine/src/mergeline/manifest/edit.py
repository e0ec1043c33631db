"""Edits of the text of `deploy/manifest.yaml` that keep its comments, order, quotes and indentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from mergeline.documents import Frozen
from mergeline.errors import ManifestError
from mergeline.manifest import transitions
from mergeline.manifest.layout import has_block, put, rewritten
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, Spec, parse_manifest
from mergeline.release_params import Rollout

_KEYS = tuple(Spec.model_fields)

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


def started_from(text: str, environment: str) -> str:
    """The first manifest of an environment that is put in front of production: what is stable there, and its holds.

    Args:
        text: production's manifest.
        environment: the name of the new one.

    Raises:
        ManifestError: the text is not a manifest.
    """
    for written, here in (
        ("$schema=manifest.schema.json", "$schema=../manifest.schema.json"),
        ("# What production serves.", f"# What {environment} serves."),
        ("its git log is production's history", f"its git log is {environment}'s history"),
    ):
        text = text.replace(written, here, 1)
    before = parse_manifest(text)
    return _written(
        text, before, before.model_copy(update={"spec": before.spec.model_copy(update={"candidate": None})})
    )


def with_models_of(text: str, base: Manifest) -> str:
    """The text with the models of `base`, and everything else as it is.

    Where a model rolls out, here or there, the section `rollout` is the base's too.

    Args:
        text: the manifest to change.
        base: whose models to take; where it has none, the text has none afterwards.

    Raises:
        ManifestError: the text is not a manifest.
    """
    before = parse_manifest(text)
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
    mine, theirs = parse_manifest(here), parse_manifest(base)
    if mine.metadata.name != theirs.metadata.name:
        return base
    stable = theirs.spec.stable
    if stable is not None and stable.digest in mine.spec.held:
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


def _written(text: str, before: Manifest, after: Manifest) -> str:
    """The text changed from `before` to `after`, and read again to be sure of it."""
    if not has_block(text, "spec"):
        result = text if after == before else rewritten(text, _tree(after), "spec")
    else:
        result = _with_rollout(_with_models(text, before.spec, after.spec), before.spec.rollout, after.spec.rollout)
    try:
        right = parse_manifest(result) == after
    except ManifestError:
        right = False
    if not right:
        raise ManifestError(
            "the file is written in a way that a machine cannot edit safely",
            where=str(MANIFEST_FILE),
            hint="write spec in block style, a line for each key, without anchors and tags",
        )
    return result


def _with_models(text: str, before: Spec, after: Spec) -> str:
    """The text with the models and the holds of `after`."""
    changed = [key for key in _KEYS if key != "rollout" and getattr(after, key) != getattr(before, key)]
    values = {key: _values(getattr(after, key)) for key in changed}
    gone = [key for key in changed if key == "candidate" and values[key] is None]
    return put(text, ("spec",), {key: values[key] for key in changed if key not in gone}, _KEYS, gone)


def _with_rollout(text: str, before: Rollout, after: Rollout) -> str:
    """The text with the section `rollout` of `after`; what did not change in it stays as it is."""
    usual = Rollout()
    changed = [key for key in Rollout.model_fields if getattr(after, key) != getattr(before, key)]
    if not changed:
        return text
    if has_block(text, "spec", "rollout"):
        values = {key: _values(getattr(after, key)) for key in changed}
        return put(text, ("spec", "rollout"), values, list(Rollout.model_fields))
    told = [key for key in Rollout.model_fields if key in changed or getattr(after, key) != getattr(usual, key)]
    return put(text, ("spec",), {"rollout": {key: _values(getattr(after, key)) for key in told}}, _KEYS)


def _tree(manifest: Manifest) -> dict[str, Any]:
    return {name: _values(getattr(manifest, name)) for name in Manifest.model_fields}


def _values(value: Any) -> Any:
    """A value of the manifest as plain ones, without those that stand for nothing."""
    if isinstance(value, list | tuple):
        return [_values(item) for item in value]
    return (
        value.model_dump(mode="json", exclude_none=True, exclude_defaults=True) if isinstance(value, Frozen) else value
    )


Given = ParamSpec("Given")


def _edit(transition: Callable[Concatenate[Manifest, Given], Manifest]) -> Callable[Concatenate[str, Given], str]:
    """A transition as an edit of the manifest's text.

    It raises what the transition does, and a ManifestError where the text is not a manifest.
    """

    def edit(text: str, /, *given: Given.args, **named: Given.kwargs) -> str:
        before = parse_manifest(text)
        return _written(text, before, transition(before, *given, **named))

    return edit


promote = _edit(transitions.promote)
finish = _edit(transitions.finish)
abort = _edit(transitions.abort)
rollback = _edit(transitions.rollback)
add_hold = _edit(transitions.add_hold)
lift_hold = _edit(transitions.lift_hold)
