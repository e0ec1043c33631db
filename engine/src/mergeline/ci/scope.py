"""Decides what a run has to do, from the paths that a pull request changes, and names the one commit that it takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mergeline.documents import Frozen
from mergeline.errors import DocumentError, ForgeError
from mergeline.github.actions import read_event
from mergeline.github.base import BASE_BRANCH, MAIN, REMOTE
from mergeline.github.git import Git
from mergeline.github.git_objects import differing, homes_in
from mergeline.github.pull_requests import Pulls, PullState
from mergeline.home import Home
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.release.inputs import PIPELINE_FILE, compared_files
from mergeline.store.objects import embedded_store

_WORDS = ("docs", "LICENSE", ".github/CODEOWNERS", ".github/ISSUE_TEMPLATE")
"""What neither tests nor pipeline read, like every Markdown file."""
_NO_MODEL = (*_WORDS, "tests", ".github", "Makefile", ".gitignore", "deploy/kubernetes", "deploy/observability")
"""What no pipeline reads and no release names. Whatever is not known here costs a run."""


class Scope(Frozen):
    """What a run has to do: `head` is the commit that it takes, `models` those that are made, `reason` says why.

    `check` is false where nothing else runs either, so that there is nothing to conclude from.
    """

    head: str
    tests: bool = True
    models: tuple[str, ...]
    check: bool = True
    reason: str


@dataclass(frozen=True)
class ModelPaths:
    """Where a model is: the folder of its home, and the paths that are read for it; None where it may be any."""

    folder: str
    read: Collection[str] | None


def decide(head: str, changed: Collection[str], models: Mapping[str, ModelPaths], store: str | None = None) -> Scope:
    """What a pull request has to do.

    Args:
        head: its commit.
        changed: the paths that it changes.
        models: the repository's, by name.
        store: the embedded store's folder, if there is one: among several models its objects are whose files name them.
    """
    touched = {path: _readers(path, models, store) for path in changed}
    tests = sorted(path for path in changed if touched[path] or not (path.endswith(".md") or _below(path, _WORDS)))
    model = sorted(path for path in tests if touched[path])
    found = {name for path in model for name in touched[path]}
    if not found and any(_below(path, filter(None, [store])) for path in changed):
        found, model = set(models), sorted(changed)  # objects that no other change explains
    if found:
        whose = f" {', '.join(name for name in models if name in found)}" if len(models) > 1 else ""
        reason = f"{_named(model)}: tests and model{whose}"
        return Scope(head=head, models=tuple(name for name in models if name in found), reason=reason)
    if tests:
        return Scope(head=head, models=(), reason=f"{_named(tests)}: tests; no model is made of these files")
    reason = f"{_named(sorted(changed))}: nothing to do, neither tests nor model read these files"
    return Scope(head=head, tests=False, models=(), check=False, reason=reason)


def _readers(path: str, models: Mapping[str, ModelPaths], store: str | None) -> tuple[str, ...]:
    """The models that a path counts for: those that read it; of a path that nobody knows its home's, or all of them."""
    own = next((name for name, one in models.items() if one.folder != "." and _below(path, [one.folder])), None)
    inside = path.removeprefix(f"{models[own].folder}/") if own else path
    readers = tuple(
        name for name, one in models.items() if (own in (None, name) if one.read is None else _below(path, one.read))
    )
    if readers:
        return readers
    if inside.endswith(".md") or _below(inside, _NO_MODEL) or (len(models) > 1 and _below(path, filter(None, [store]))):
        return ()
    return (own,) if own else tuple(models)


def scope(
    git: Git, forge: Pulls, environment: Mapping[str, str], *, pull: int | None, branch: str, model: str = ""
) -> Scope:
    """What the run of this environment has to do.

    Args:
        git: the base branch's newest commit, with its history.
        forge: where a pull request is looked up.
        environment: GitHub's variables.
        pull: the pull request that a person named by hand.
        branch: the branch of its own that takes a proposal, instead of a pull request.
        model: the one that this proposes.

    Raises:
        ForgeError: a run by hand is not for this pull request, or the remote does not answer.
    """
    event = read_event(Path(environment["GITHUB_EVENT_PATH"])) if environment.get("GITHUB_EVENT_PATH") else {}
    sha = environment.get("GITHUB_SHA", "")
    if pull:
        found = _of_commits(git, pin(forge, pull, environment), "")
        models = found.models or tuple(homes_in(git, found.head))
        return Scope(head=found.head, models=models, reason="started by hand: tests and model")
    if branch:
        # Tests say nothing new: they ran before this commit came to the base branch.
        return Scope(head=sha, tests=False, models=(model,), reason=f"the proposal of {branch}: the model alone")
    if group := event.get("merge_group"):
        return _of_commits(git, sha, str(group.get("base_sha") or ""))
    if asked := event.get("pull_request"):
        found = _of_commits(git, str(asked["head"]["sha"]), "")
        # A pull request that was retargeted has no job of that name: the check must be put on it.
        return found if event.get("action") != "edited" else found.model_copy(update={"check": True})
    return Scope(head=sha, models=tuple(homes_in(git, sha)), reason="no pull request: tests and model")


def _of_commits(git: Git, head: str, base: str) -> Scope:
    git.fetch(REMOTE, BASE_BRANCH)
    base = base or MAIN
    git.bring(REMOTE, head)
    git.bring(REMOTE, base)
    changed = differing(git, f"{base}...{head}")
    models = {
        name: ModelPaths(str(home.place), _read(git, home, (base, head))) for name, home in homes_in(git, head).items()
    }
    return decide(head, changed, models, embedded_store(git.folder))


def _read(git: Git, home: Home, commits: Iterable[str]) -> frozenset[str] | None:
    """What is read for the model of a home in these commits; None where nobody can say."""
    pipelines = [git.show(commit, home.path(PIPELINE_FILE)) for commit in commits]
    try:
        inputs = [compared_files(text or "", home) for text in pipelines if text is not None or not home.model]
    except DocumentError:
        return None
    return frozenset(
        (home.path(MANIFEST_FILE), home.path("deploy/signatures"), *(path for each in inputs for path in each))
    )


def require_main(environment: Mapping[str, str]) -> None:
    """Refuse a run by hand whose workflow file is not the base branch's.

    Raises:
        ForgeError: the run was started from another branch or a tag.
    """
    ref = environment.get("GITHUB_REF", "")
    if environment.get("GITHUB_EVENT_NAME") == "workflow_dispatch" and ref != f"refs/heads/{BASE_BRANCH}":
        raise ForgeError(
            f"the workflow was started from {ref or 'nowhere'}, and runs from {BASE_BRANCH} alone",
            where="Actions → Run workflow → Use workflow from",
            hint=f"choose the branch {BASE_BRANCH} there; a pull request is named by its number",
        )


def pin(forge: Pulls, number: int, environment: Mapping[str, str]) -> str:
    """The commit of a pull request that a run by hand may make a proposal of.

    Raises:
        ForgeError: the run was not started from the base branch, the pull request is not open on it, or its branch
            is a fork's, whose code must not run beside what a run by hand may see.
    """
    require_main(environment)
    pull = forge.get(number)
    if pull.fork:
        raise ForgeError(
            f"pull request {number} is from a fork, and a run by hand is not for those",
            where=pull.url,
            hint="close and reopen it, or re-run the jobs of its own run: they have the rights of a fork",
        )
    if pull.state is not PullState.OPEN or pull.base != BASE_BRANCH:
        raise ForgeError(
            f"pull request {number} is {pull.state}, into {pull.base}",
            where=pull.url,
            hint=f"name an open pull request into {BASE_BRANCH}",
        )
    return pull.head


def _below(path: str, places: Iterable[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(place) for place in places)


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    named = ", ".join(paths[:3]).encode(errors="replace").decode()  # a name may be no UTF-8
    return f"{named}{more}" if paths else "no file"
