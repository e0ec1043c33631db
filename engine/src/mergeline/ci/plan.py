"""Decides what a merge leaves to do: what is released, whether the image changed, whether the pipeline is behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mergeline.documents import Frozen
from mergeline.errors import ForgeError, ManifestError
from mergeline.github.base import BASE_BRANCH, fetch_main, manifest_at
from mergeline.github.client import GitHubClient
from mergeline.github.git import Git
from mergeline.github.git_objects import contains, entry_at
from mergeline.github.production import changed_paths
from mergeline.home import Home, find_homes
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, is_manifest, manifest_path, read_manifest
from mergeline.manifest.transitions import short
from mergeline.params import release_in
from mergeline.store.dvc_lock import LOCK_FILE, locked_model

SERVICE_FOLDER = PurePosixPath("deploy/service")
IMAGE_PATHS = ("src", "engine/src", SERVICE_FOLDER.as_posix(), "pyproject.toml", "uv.lock")
"""What the image is built from."""
IMAGE_BUILDERS = ("engine/dev/build_image.py", "engine/src/mergeline/image/build.py")
"""What decides what goes into it, though neither is in it."""

STALE = "propose/stale-lock"
DEPLOY_FILE = "deploy.yml"
_RUNS = 100  # one page: further back, everything is done again


class Stale(Frozen):
    """A model that is still to be made, and the branch on which it is proposed."""

    model: str
    branch: str


class Plan(Frozen):
    """What there is to do after a merge, with a line of reason for each.

    `released`: what production is asked to serve changed. `report`: the pipeline made what is served now and what it
    replaced is known, so that it can be judged here once more. `image`: what the image holds changed. `page`: the
    history of production has something new. `stale`: `dvc.lock` is behind its inputs, as after the merge of a
    fork's pull request, so that a model is still to be made and proposed: which, and on which branch. `environments`
    are those in which what is asked to be served changed.
    """

    released: bool
    report: bool
    image: bool
    page: bool
    stale: tuple[Stale, ...]
    environments: tuple[str, ...] = ()
    reasons: tuple[str, ...]


def plan_merge(git: Git, homes: Mapping[str, Home], before: str, *, image_asked: bool = False) -> Plan:
    """What the merge of HEAD leaves to do, of all models.

    Args:
        git: the repository, at its root, with HEAD checked out.
        homes: by the name of their model; that of an only one may be empty.
        before: the commit that was deployed last; empty where nobody knows.
        image_asked: whether an image is wanted where nobody knows of an earlier one.

    Raises:
        ForgeError: git refused.
        ManifestError: a manifest cannot be read.
    """
    root, changed = git.folder, changed_paths(git, before) if before else None
    current, plans = pipeline_is_current(root), []
    environments: dict[str, None] = {}
    for name, home in homes.items():
        folder, path = home.folder, home.path(MANIFEST_FILE)
        known = before if changed is not None else ""
        names = release_in(folder).environments
        places = {each: manifest_path(names, each) for each in names}
        there = {each: place for each, place in places.items() if (folder / place).exists()}
        environments |= {
            each: None
            for each, place in there.items()
            if _released(_at(git, known, home.path(place)), read_manifest(folder / place))[0]
        }
        made = decide(
            _at(git, known, path),
            read_manifest(folder / MANIFEST_FILE),
            changed,
            manifest=path,
            asked=image_asked,
            locked=locked_model(folder) if (folder / LOCK_FILE).exists() else "",
            # DVC is asked for each model only where it found that one of them is behind.
            current=current or (len(homes) > 1 and pipeline_is_current(folder)),
            model=name or next(iter(find_homes(root)), ""),
            several=len(homes) > 1,
        )
        plans.append((name, made))
    return Plan(
        **{key: any(getattr(made, key) for _, made in plans) for key in ("released", "report", "image", "page")},
        stale=tuple(one for _, made in plans for one in made.stale),
        environments=tuple(environments),
        reasons=tuple(f"{name} {reason}".strip() for name, made in plans for reason in made.reasons),
    )


def _at(git: Git, commit: str, path: str) -> Manifest | None:
    """The manifest at a commit; None where there was none, or nobody knows."""
    with contextlib.suppress(ManifestError):  # one of an earlier format: what it served is not known
        return manifest_at(git, commit, path) if commit else None
    return None


def decide(
    before: Manifest | None,
    after: Manifest,
    changed: Collection[str] | None,
    *,
    manifest: str = MANIFEST_FILE.as_posix(),
    asked: bool = False,
    locked: str,
    current: bool,
    model: str,
    several: bool = False,
) -> Plan:
    """What the merge from `before` to `after` leaves to do of one model.

    Args:
        before: the manifest before the merge; None where there was none, or nobody knows.
        after: the manifest now.
        changed: the paths that the merge changed; None where nobody knows, which counts as all of them.
        manifest: the path of the manifest.
        asked: whether an image is wanted where nobody knows of an earlier one.
        locked: the model that `dvc.lock` names, as an object of the store; empty where it names none.
        current: whether the pipeline's results are those of its inputs.
        model: its name.
        several: whether there are others, whose proposals go to branches of their own.
    """
    released, why_released = _released(before, after)
    within = None if changed is None else sorted(path for path in changed if _in_image(path))
    deploy = manifest.rpartition("/")[0]
    page = changed is None or any(is_manifest(path) and path.startswith(deploy) for path in changed)
    told = "nobody knows whether the manifest changed" if changed is None else "the manifest changed"
    reasons = (
        f"released: {why_released}",
        f"image: {_named(within, asked=asked)}",
        f"page: {told if page else 'the manifest is as it was'}",
        f"stale: {'no, dvc.lock fits its inputs' if current else 'yes, dvc.lock is behind its inputs'}",
    )
    made_here = after.spec.stable is not None and after.spec.stable.source == locked
    image = asked if within is None else bool(within)
    return Plan(
        released=released,
        report=released and made_here and before is not None,
        image=image,
        page=page,
        stale=() if current else (Stale(model=model, branch=f"{STALE}-{model}" if several else STALE),),
        reasons=reasons,
    )


def is_being_set_up(root: Path, event: Mapping[str, Any]) -> bool:
    """Whether this is a copy of the template that nobody has adopted yet, so that its model is the template's.

    Args:
        root: the repository.
        event: what started the run; GitHub says in it whether the repository is a template itself.
    """
    repository = event.get("repository")
    copied = isinstance(repository, Mapping) and repository.get("is_template") is False
    return copied and (root / "copier.yml").is_file()


def nothing_yet() -> Plan:
    """The plan for a repository that is being set up."""
    reason = (
        "nothing: this is a copy of the template; `mergeline adopt NAME` makes it your own (or mark it as a template)"
    )
    return Plan(released=False, report=False, image=False, page=False, stale=(), reasons=(reason,))


def pipeline_is_current(root: Path) -> bool:
    """Whether `dvc.lock` fits the inputs as they are; asks DVC, which needs no data for that and runs no stage.

    Asked at the root it is about every model of the repository.

    A pipeline that DVC cannot judge is not current: proposing it says what is wrong.
    """
    every = [] if Home.at(root).model or len(find_homes(root)) < 2 else ["--all-pipelines"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dvc", "repro", "--dry", "--allow-missing", *every],
        cwd=root,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and "Data and pipelines are up to date." in done.stdout


def last_deployed(git: Git, client: GitHubClient) -> str | None:
    """The newest commit before HEAD whose deployment succeeded, whole; None where none is found.

    What a deployment that failed has left undone is then still to be done by the next one.

    Raises:
        ForgeError: GitHub does not answer, or the token may not read runs.
    """
    doing = "looking for the last deployment that succeeded"
    query = f"branch={BASE_BRANCH}&event=push&status=success&per_page={_RUNS}"
    answer = client.run(doing, "actions: read", lambda: client.ask(f"/actions/workflows/{DEPLOY_FILE}/runs?{query}"))
    here = git.run("rev-parse", "HEAD")
    before = [
        commit
        for commit in _succeeded(answer)
        if commit != here and git.find(commit) is not None and contains(git, here, commit)
    ]
    if not before:
        return None
    # Deployments may end in another order than they began: the commit that contains the others is the newest.
    return max(before, key=lambda commit: int(git.run("rev-list", "--count", "--first-parent", commit)))


def is_still_released(git: Git, homes: Iterable[Home]) -> bool:
    """Whether the base branch still has the manifests that HEAD has: else a later deployment tells the newer ones.

    Raises:
        ForgeError: the remote does not answer.
    """
    main = fetch_main(git)
    paths = (home.path(MANIFEST_FILE) for home in homes)
    return all(entry_at(git, main, path) == entry_at(git, "HEAD", path) for path in paths)


def _released(before: Manifest | None, after: Manifest) -> tuple[bool, str]:
    stable, candidate = after.spec.stable, after.spec.candidate
    if stable is None:
        return False, "nothing is served yet"
    was = before.spec if before else None
    if was is None or was.stable is None or was.stable.digest != stable.digest:
        return True, f"version {stable.version} ({short(stable.digest)}) is stable now"
    if (was.candidate and was.candidate.digest) != (candidate and candidate.digest):
        return True, f"version {candidate.version} is the candidate now" if candidate else "the candidate is gone"
    if was.rollout != after.spec.rollout:
        return True, "the rollout changed"
    return False, f"version {stable.version} serves as before"


def _in_image(path: str) -> bool:
    return path in IMAGE_BUILDERS or any(PurePosixPath(path).is_relative_to(place) for place in IMAGE_PATHS)


def _named(paths: list[str] | None, *, asked: bool) -> str:
    if paths is None:
        none = "none, for nobody has asked for the first one: set the variable MERGELINE_IMAGE to on"
        return "nobody knows what it was built from before" if asked else none
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"changed: {', '.join(paths[:3])}{more}" if paths else "what it holds is as it was"


def _succeeded(answer: Any) -> tuple[str, ...]:
    try:
        return tuple(str(run["head_sha"]) for run in answer["workflow_runs"] if run["conclusion"] == "success")
    except (KeyError, TypeError) as cause:
        raise ForgeError(
            "GitHub's list of runs has another form than expected", where=DEPLOY_FILE, hint="run the job again"
        ) from cause
