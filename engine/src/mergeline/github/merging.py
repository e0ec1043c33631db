"""Says what the merge of a branch does to what is served, in one sentence for each manifest that it changes."""

from __future__ import annotations

import re

from mergeline.documents import parse
from mergeline.errors import ManifestError
from mergeline.github.git import Git
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import Manifest, Spec

NOTHING = "releases no model"
_PLACE = re.compile(r"(?:models/(?P<model>[^/]+)/)?deploy/(?:(?P<environment>[^/]+)/)?manifest\.yaml")


def merging(before: Manifest, after: Manifest) -> str:  # noqa: PLR0911 - a sentence a case
    """What merging `after` does, as the end of the sentence "Merging this …"."""
    was, now = before.spec, after.spec
    stable = now.stable
    if stable is None:
        return NOTHING if was.stable is None else "leaves nothing to serve"
    if was.stable is None:
        return f"serves version {stable.version}, the first model"
    if stable.digest != was.stable.digest:
        return _new_stable(was, now, stable.version, was.stable.version)
    candidate = now.candidate
    if candidate is None:
        return f"ends the rollout of version {was.candidate.version}; version {stable.version} stays stable" if (
            was.candidate
        ) else _holds(was, now)  # fmt: skip
    if was.candidate is not None and was.candidate.digest == candidate.digest:
        return (
            _holds(was, now)
            if was.rollout == now.rollout
            else f"begins the rollout of version {candidate.version} anew"
        )
    first = f"takes version {was.candidate.version} off, and " if was.candidate is not None else ""
    if now.rollout.strategy == "shadow":
        return f"{first}runs version {candidate.version} in the shadow of version {stable.version}: it answers nobody"
    steps = " → ".join(f"{step.weight} %" for step in now.rollout.steps)
    return f"{first}starts a canary of version {candidate.version}: {steps}; version {stable.version} stays stable"


def merging_of(git: Git, base: str, head: str) -> dict[str, str]:
    """What merging the commit `head` into `base` does to each model, read from what it changes since it left `base`.

    Returns:
        The sentences, by the name of a model's folder in `models/`; of the root's own model under an empty name.

    Raises:
        ForgeError: the two have no history in common here.
        ManifestError: a manifest cannot be read.
    """
    left = git.run("merge-base", base, head)
    files = git.run("ls-tree", "-r", "-z", "--name-only", head, "--", "deploy", "models").split("\0")
    places = [found for found in map(_PLACE.fullmatch, files) if found]
    told: dict[str, list[str]] = {place["model"] or "": [] for place in places}
    for place in places:
        if git.attempt("diff", "--quiet", left, head, "--", place[0])[0] == 0:
            continue
        before, after = (_read(git, commit, place[0]) for commit in (left, head))
        if after is None:
            continue
        words = merging(before or parse(empty_manifest(after.metadata.name), Manifest, place[0], ManifestError), after)
        staged = any(other["environment"] for other in places if other["model"] == place["model"])
        where = place["environment"] or ("production" if staged else "")
        told[place["model"] or ""].append(f"goes to {where}: it {words}" if where and words != NOTHING else words)
    return {model: "; ".join(words) or NOTHING for model, words in told.items()}


def _new_stable(was: Spec, now: Spec, version: int, replaced: int) -> str:
    if was.candidate is not None and now.stable is not None and was.candidate.digest == now.stable.digest:
        return (
            f"makes version {version} stable, at the end of its rollout; version {replaced} is kept as the previous one"
        )
    held = any(was.stable is not None and hold.digest == was.stable.digest for hold in now.holds)
    if version < replaced or held:
        return f"takes production back to version {version}{f', and holds version {replaced}' if held else ''}"
    return f"replaces version {replaced} by version {version} at once"


def _holds(was: Spec, now: Spec) -> str:
    before, after = ({hold.digest for hold in spec.holds} for spec in (was, now))
    if after - before:
        return f"{NOTHING}; it holds one, so that it is not proposed again"
    return f"{NOTHING}; it lifts a hold" if before - after else NOTHING


def _read(git: Git, commit: str, path: str) -> Manifest | None:
    text = git.show(commit, path)
    return None if text is None else parse(text, Manifest, f"{path} at {commit[:12]}", ManifestError)
