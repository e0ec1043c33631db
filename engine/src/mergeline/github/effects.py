"""Says what the merge of a branch does to what is served, in one sentence for each manifest that it changes."""

from __future__ import annotations

import re

from mergeline.github.base import manifest_at
from mergeline.github.git import Git
from mergeline.github.git_objects import differing, files_below
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import Manifest, Release, Spec, parse_manifest
from mergeline.manifest.transitions import find_release, releases

NOTHING = "releases no model"
_PLACE = re.compile(r"(?:models/(?P<model>[\w.-]+)/)?deploy/(?:(?P<environment>[a-z][a-z0-9-]*)/)?manifest\.yaml", re.A)


def headline(words: str) -> str:
    """The first line of what a pull request is told: what a click on the button does."""
    mark = "➖" if words.startswith(NOTHING) else "⏪" if " back to version " in words else "🚀"
    return f"### {mark} Merging this {words}"


def merging(before: Manifest, after: Manifest, place: str = "production") -> str:
    """What merging `after` does in an environment, as the end of the sentence "Merging this …"."""
    lifted = "; it lifts a hold" if before.spec.held - after.spec.held else ""
    return f"{_serving(before, after, place)}{lifted}"


def _serving(before: Manifest, after: Manifest, place: str) -> str:  # noqa: PLR0911 - a sentence a case
    """What becomes of the models."""
    was, now = before.spec, after.spec
    stable = now.stable
    if stable is None:
        return NOTHING if was.stable is None else "leaves nothing to serve"
    if was.stable is None:
        return f"serves version {stable.version}, the first model"
    candidate = now.candidate
    if before.metadata.name != after.metadata.name:
        taken = f"version {was.stable.version} of {before.metadata.name}, with which nothing has compared it"
        return f"serves version {stable.version} of {after.metadata.name} in place of {taken}"
    if stable.digest != was.stable.digest:
        back = _new_stable(was, now, (was.stable.version, stable.version), place)
        return f"{back}, and {_begins(now, stable, candidate)}" if candidate is not None else back
    if candidate is None:
        if was.candidate is None:
            return _holds(was, now)
        held = " and holds it" if was.candidate.digest in now.held else ""
        ends = f"ends the rollout of version {was.candidate.version}{held}"
        return f"{ends}; version {stable.version} stays stable"
    if was.candidate is not None and was.candidate.digest == candidate.digest:
        if was.rollout == now.rollout:
            return _holds(was, now)
        judged = [len(spec.rollout.analysis) for spec in (was, now)]
        less = f", judged by {judged[1]} analyses instead of {judged[0]}" if judged[0] != judged[1] else ""
        return f"begins the rollout of version {candidate.version} anew: it {_begins(now, stable, candidate)}{less}"
    first = f"takes version {was.candidate.version} off, and " if was.candidate is not None else ""
    stays = "" if now.rollout.strategy == "shadow" else f"; version {stable.version} stays stable"
    return f"{first}{_begins(now, stable, candidate)}{stays}"


def _begins(now: Spec, stable: Release, candidate: Release) -> str:
    """What a candidate begins with."""
    if now.rollout.strategy == "shadow":
        return f"runs version {candidate.version} in the shadow of version {stable.version}: it answers nobody"
    steps = " → ".join(f"{step.weight} %" for step in now.rollout.steps)
    return f"starts a canary of version {candidate.version}: {steps}"


def merging_of(git: Git, base: str, head: str) -> dict[str, str]:
    """What merging the commit `head` into `base` does to each model, read from what it changes since it left `base`.

    Returns:
        The sentences, by the name of a model's folder in `models/`; of the root's own model under an empty name.

    Raises:
        ForgeError: the two have no history in common here.
        ManifestError: a manifest cannot be read.
    """
    return changes_of(git, git.run("merge-base", base, head), head)


def changes_of(git: Git, before: str, after: str) -> dict[str, str]:
    """What going from a commit to another, or to a tree, does to each model; see `merging_of`."""
    files = {path for one in (before, after) for path in files_below(git, one, "deploy", "models")}
    places = [found for found in map(_PLACE.fullmatch, sorted(files)) if found]
    changed = differing(git, before, after, paths=("deploy", "models"))
    told: dict[str, list[str]] = {place["model"] or "": [] for place in places}
    for place in (place for place in places if place[0] in changed):
        now = manifest_at(git, after, place[0])
        if now is None:
            gone = f"takes the manifest of {place['environment'] or 'production'} away: who follows it stays as it is"
            told[place["model"] or ""].append(gone)
            continue
        was = manifest_at(git, before, place[0]) or parse_manifest(empty_manifest(now.metadata.name))
        staged = any(other["environment"] for other in places if other["model"] == place["model"])
        where = place["environment"] or "production"
        told[place["model"] or ""].append(_placed(was, now, where) if staged else merging(was, now))
    return {model: "; ".join(words) or NOTHING for model, words in told.items()}


def _placed(was: Manifest, now: Manifest, where: str) -> str:
    """The sentence with the environment in it, where there are several."""
    words = merging(was, now, where)
    if words.startswith(NOTHING) or " back to version " in words:
        return words
    comes = any(find_release(was, release.digest) is None for release in releases(now).values())
    return f"goes to {where}: it {words}" if comes else f"changes {where}: it {words}"


def _new_stable(was: Spec, now: Spec, versions: tuple[int, int], place: str) -> str:
    replaced, version = versions
    if was.candidate is not None and now.stable is not None and was.candidate.digest == now.stable.digest:
        return (
            f"makes version {version} stable, at the end of its rollout; version {replaced} is kept as the previous one"
        )
    held = was.stable is not None and was.stable.digest in now.held
    if version < replaced or held:
        return f"takes {place} back to version {version}{f', and holds version {replaced}' if held else ''}"
    return f"replaces version {replaced} by version {version} at once"


def _holds(was: Spec, now: Spec) -> str:
    return f"{NOTHING}; it holds one, so that it is not proposed again" if now.held - was.held else NOTHING
