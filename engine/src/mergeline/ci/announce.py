"""Tells pull requests what a merge did: where a model serves now, and that an open proposal is outdated."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mergeline.ci.required_check import CHECK
from mergeline.errors import ForgeError
from mergeline.github.base import BASE_BRANCH, REMOTE, fetch_main, manifest_at, read_environments
from mergeline.github.git import Git
from mergeline.github.git_objects import contains, differing, homes_in
from mergeline.github.merge import conflicts_with
from mergeline.github.production import read_revisions
from mergeline.github.pull_requests import STALE, PullRequest, Pulls, PullState
from mergeline.github.sanitize import defuse
from mergeline.home import model_option
from mergeline.manifest.schema import MANIFEST_FILE, Release, is_manifest
from mergeline.release.history import Event, Moment, history

SERVING = "serving"
_REMADE = {
    "retrain/": "watch.yml makes it again at its next look, once a day; to have it now, run that workflow",
    "promote/": "promote.yml makes it again at its next look, once a day; to have it now, run that workflow",
    "rollout/": "rollout.yml makes it again at its next look, within half an hour",
    "upgrade/": "template.yml makes it again once a week; to have it now, run that workflow",
    "propose/stale-lock": "deploy.yml makes it again by itself while it is needed",
    "rollback/": "close it; where something is still to be taken back, run rollback.yml again",
}
"""What becomes of the automation's branches, by how their names begin."""


class Standing(NamedTuple):
    """What has become of a model in one environment since a moment: `role` is empty where it serves no more."""

    environment: str
    role: str
    since: Moment


def standing(environment: str, digest: str, moments: Sequence[Moment]) -> Standing | None:
    """What has become of a model in an environment; None where it has never been there.

    Args:
        environment: its name.
        digest: the model's.
        moments: the environment's, newest first.
    """
    roles = [_role(moment, digest) for moment in moments]
    if not any(roles):
        return None
    same = len(list(itertools.takewhile(lambda role: role == roles[0], roles)))
    return Standing(environment, roles[0], moments[same - 1])


def words(name: str, release: Release, found: Sequence[Standing], environments: Sequence[str], model: str) -> str:
    """Where a model serves, since when, and how to take it back, as Markdown.

    Args:
        name: the model's.
        release: the one that is told of.
        found: what has become of it in each environment that it has been in.
        environments: all of them, in the order in which a model goes through them.
        model: `Home.model`.
    """
    serves = [one.environment for one in found if one.role == "stable"]
    tried = [one.environment for one in found if one.role == "candidate"]
    places = " and ".join(serves or tried)
    mark, what = ("🚀", f"serves in {places}") if serves else ("🔀", f"rolls out in {places}")
    if not places:
        mark, what = "⏹️", "serves no more"
    rows = [f"| {one.environment} | {_state(one, release)} | {_since(one.since)} |" for one in found]
    back = list(dict.fromkeys(_take_back(one, environments, model) for one in found if one.role))
    return "\n".join([
        f"### {mark} {name}: version {release.version} {what}",
        "",
        f"| Environment | Version {release.version} | Since |",
        "| :-- | :-- | :-- |",
        *rows,
        "",
        f"Digest: `{release.digest}`",
        *(f"\nTo take it back: {line}." for line in back),
    ])  # fmt: skip


def announce(git: Git, forge: Pulls, before: str) -> tuple[str, ...]:
    """Tell the pull requests of what changed since a commit, and the open ones that are outdated by it.

    What is told is read from the base branch as it is now: however often, late or twice at once this runs, the comments
    come to say the same.

    Args:
        git: the repository, with its whole history.
        forge: where the pull requests are.
        before: what was announced last; where nobody knows that commit, only the newest change is.

    Returns:
        A line for each pull request.

    Raises:
        ForgeError: the forge refused; all the other pull requests were told.
    """
    main = fetch_main(git)
    known = git.find(before) if before else None
    said: dict[int, list[str]] = {}
    for home in homes_in(git, main).values():
        places, production = read_environments(git, home, main), manifest_at(git, main, home.path(MANIFEST_FILE))
        if production is None:
            continue
        name, names = production.metadata.name, places.names
        moments = {each: history(read_revisions(git, main, places.path(each)), name) for each in names}
        for number, releases in _affected(git, known, moments).items():
            for digest, release in releases.items():
                found = [one for each in names if (one := standing(each, digest, moments[each])) is not None]
                said.setdefault(number, []).append(words(name, release, found, names, home.model))
    lines, refused = [], []
    for number, texts in said.items():
        try:
            pull = forge.get(number)
        except ForgeError as error:  # a history may name pull requests of another repository
            lines.append(f"#{number} is not told: {error.what}")
            continue
        if pull.state is PullState.MERGED:
            try:
                forge.comment(number, SERVING, "\n\n---\n\n".join(texts) + "\n")
                lines.append(f"#{number} says where it serves")
            except ForgeError as error:
                refused.append(error)
    for pull in forge.list_open():
        try:
            lines += [f"#{pull.number} is outdated"] if _tell_outdated(git, forge, pull, main) else []
        except ForgeError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    return tuple(lines)


def outdated(git: Git, pull: PullRequest, main: str) -> tuple[str, ...]:
    """The manifests that an open pull request changes, and the base branch has changed since it left it.

    What it proposes was judged against what they said before. A fork's brings none: it is judged again after its merge.
    """
    if pull.fork or pull.base != BASE_BRANCH or not git.bring(REMOTE, pull.head):
        return ()
    code, left, _ = git.attempt("merge-base", main, pull.head)
    if code:
        return ()
    theirs, ours = (_changed(git, left, commit) for commit in (pull.head, main))
    return tuple(sorted(theirs & ours))


def _affected(git: Git, before: str | None, moments: Mapping[str, Sequence[Moment]]) -> dict[int, dict[str, Release]]:
    """The pull requests that changed something since, or whose model's standing changed, and the models of each."""
    brought: dict[int, dict[str, Release]] = {}
    numbers: set[int | None] = set()
    for each in moments.values():
        for moment in each:
            subject = moment.candidate if moment.event is Event.ROLLOUT and moment.candidate else moment.serving
            for number, release in ((moment.pull, subject), *((one.evidence.pull, one) for one in moment.releases)):
                if number is not None:
                    brought.setdefault(number, {})[release.digest] = release
        new = [moment for moment in each if before is None or not contains(git, before, moment.commit)]
        new = new[:1] if before is None else new
        numbers |= {moment.pull for moment in new}
        for moment in each[: len(new) + 1] if new else ():
            numbers |= {release.evidence.pull for release in moment.releases}
    return {number: brought[number] for number in sorted(brought) if number in numbers}


def _tell_outdated(git: Git, forge: Pulls, pull: PullRequest, main: str) -> bool:
    """Mark an open pull request that is outdated, and take its green check away."""
    paths = outdated(git, pull, main)
    if not paths:
        return False
    conflicts = conflicts_with(git, main, pull.head)
    found = filter(None, (manifest_at(git, main, path) for path in paths))
    serving = ", ".join(
        f"version {stable.version} of {one.metadata.name}" for one in found if (stable := one.spec.stable) is not None
    )
    title = f"Outdated: {BASE_BRANCH} serves {serving or 'no model'} by now"
    text = (
        f"### ⏳ {title}\n\nThis was judged against what {BASE_BRANCH} said before in {', '.join(paths)}"
        f"{', and conflicts with it' if conflicts else ''}. The required check is red until it is made again.\n\n"
        f"**What next**: {_next(pull, conflicts)}.\n"
    )
    forge.label(pull.number, STALE)
    forge.comment(pull.number, STALE, text)
    forge.check(pull.head, CHECK, success=False, title=title, summary=text)
    return True


def _next(pull: PullRequest, conflicts: Sequence[str]) -> str:
    remade = next((words for start, words in _REMADE.items() if pull.branch.startswith(start)), "")
    if remade:
        return remade
    if not conflicts:
        return f"merge {BASE_BRANCH} into the branch and push (on GitHub: *Update branch*); the model is made again"
    by_hand = f"run model.yml (*Actions → model → Run workflow*, with the number {pull.number})"
    return (
        f"{by_hand}: the proposal is made again from {BASE_BRANCH}'s files. Where people's files conflict as well, "
        f"merge {BASE_BRANCH} into the branch, resolve them, and push"
    )


def _changed(git: Git, before: str, after: str) -> set[str]:
    return set(filter(is_manifest, differing(git, before, after, paths=("deploy", "models"))))


def _role(moment: Moment, digest: str) -> str:
    if moment.serving.digest == digest:
        return "stable"
    return "candidate" if moment.candidate is not None and moment.candidate.digest == digest else ""


def _state(one: Standing, release: Release) -> str:
    moment = one.since
    if one.role == "stable":
        return "serves"
    if one.role == "candidate":
        return f"{moment.strategy} next to version {moment.serving.version}"
    why = f": {defuse('; '.join(moment.reasons))}" if moment.reasons else ""
    ended = "its rollout is aborted" if moment.ended == release.version else f"version {moment.serving.version} serves"
    return f"{ended}{why}".replace("|", "\\|").replace("\n", " ")


def _since(moment: Moment) -> str:
    pull = f", #{moment.pull}" if moment.pull else ""
    return f"{moment.when:%-d %b %Y, %H:%M} UTC ({moment.commit[:12]}{pull})"


def _take_back(one: Standing, environments: Sequence[str], model: str) -> str:
    option = model_option(model) + (f" --environment {one.environment}" if one.environment != environments[-1] else "")
    if one.role == "candidate":
        return f"`mergeline rollout abort 'what failed' --pull-request{option}`"
    if one.since.replaced is None:
        return f"`{one.since.undo(model)[0]}`, for there is no version before it"
    return f"`mergeline rollback 'what failed' --pull-request{option}` (*Actions → rollback → Run workflow*)"
