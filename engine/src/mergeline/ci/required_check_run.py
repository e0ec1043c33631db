"""Reads what a run of the workflow came to, concludes, and puts the required check where no job can."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mergeline.ci.apply_commit import trusted_types
from mergeline.ci.bundle import read_bundle
from mergeline.ci.required_check import (
    CHECK,
    NEXT,
    PLAN,
    PROPOSE,
    REPRODUCE,
    CheckResult,
    CommitFacts,
    Event,
    JobResult,
    Reproduced,
    decide,
)
from mergeline.documents import parse_plain
from mergeline.errors import BundleError, DocumentError, ForgeError, MergelineError
from mergeline.evaluate.results import Check, Status
from mergeline.github.actions import read_event
from mergeline.github.base import BASE_BRANCH, MAIN, REMOTE, Environments, read_base, read_environments
from mergeline.github.git import Git
from mergeline.github.git_objects import differing, entry_at, files_below, homes_in
from mergeline.github.merge import merged_with_base
from mergeline.github.open_proposal import open_forge
from mergeline.github.served_releases import (
    PastStore,
    known_models,
    known_releases,
    known_states,
    renumbered,
    verify_tree,
)
from mergeline.home import MODELS, Home
from mergeline.manifest.schema import MANIFEST_FILE, Manifest, Release, is_manifest, parse_manifest
from mergeline.manifest.transitions import Change, change_of, only_new_release
from mergeline.model.check import check_model
from mergeline.params import PARAMS_FILE
from mergeline.release.inputs import PIPELINE_FILE
from mergeline.release.proposal import ProposalStatus
from mergeline.store.dvc_lock import LOCK_FILE
from mergeline.store.objects import configured_store, embedded_store, listing, object_path

_GRAVEST = (Change.OTHER, Change.PROMOTION, Change.ROLLBACK, Change.CONCLUSION)
_WORKFLOWS = (".github/workflows", ".github/actions")
_ENGINE = ("engine/src", "vendor")
"""Where the engine is: here, and in a team's repository that holds its wheel."""
_READ = ("deploy", ".dvc", PARAMS_FILE.name, LOCK_FILE.name, PIPELINE_FILE)
_CODE = (".py", ".pyc", ".pth", ".so", ".pyd")
_AS_A_FILE = "put the file or the folder itself there"
_AS_DVC_DOES = "write it as `dvc add` does: one output of the same name, in the same folder, and no code"
_NEEDS = TypeAdapter(dict[str, JobResult])


@dataclass(frozen=True)
class Run:
    """One run: the commit that would be merged, what it would be merged into, and whose branch it is on.

    `own` is the commit that carries the job's own check, empty where that is none of the pull request's.
    """

    event: Event
    commit: str
    base: str
    own: str
    fork: bool


def check(root: Path, environment: Mapping[str, str], folder: Path) -> CheckResult:
    """Conclude from `NEEDS`, the event and the bundles, and put the check on the commit where the job is not on it.

    Args:
        root: the repository.
        environment: of the job.
        folder: the bundles of the run, one for each model.

    Raises:
        ForgeError: the environment is not that of such a job, or the forge takes no check.
    """
    git, needs = Git(root), read_needs(environment.get("NEEDS", ""))
    run = read_run(needs, environment)
    try:
        commit = look(git, root, run)
    except MergelineError as error:
        reasons = (f"❌ commit: {error}",)
        conclusion = CheckResult(
            accepted=False, title=error.what.splitlines()[0], reasons=reasons, hints=(NEXT["commit"],)
        )
    else:
        conclusion = decide(needs, run.event, commit, read_reproduced(needs, folder, next(iter(commit))))
    if run.commit and run.commit != run.own:
        summary = conclusion.summary
        open_forge(git).check(run.commit, CHECK, success=conclusion.accepted, title=conclusion.title, summary=summary)
    return conclusion


def read_needs(text: str) -> dict[str, JobResult]:
    """The jobs that `toJSON(needs)` tells of.

    Raises:
        ForgeError: it tells of none.
    """
    try:
        return _NEEDS.validate_json(text)
    except ValidationError as cause:
        raise ForgeError(
            f"not the results of jobs: {str(cause).splitlines()[0]}",
            where="NEEDS",
            hint="give it as NEEDS: ${{ toJSON(needs) }}",
        ) from None


def read_run(needs: Mapping[str, JobResult], environment: Mapping[str, str]) -> Run:
    """What the run was started for, from GitHub's variables and its event.

    Raises:
        ForgeError: the event cannot be read.
    """
    path = environment.get("GITHUB_EVENT_PATH")
    payload = read_event(Path(path)) if path else {}
    pushed = needs[PROPOSE].outputs.get("commit", "") if PROPOSE in needs else ""
    made_of = needs[REPRODUCE].outputs.get("head", "") if REPRODUCE in needs else ""
    if group := payload.get("merge_group"):
        sha = environment.get("GITHUB_SHA", "")
        return Run(Event.GROUP, commit=sha, base=str(group.get("base_sha") or MAIN), own=sha, fork=False)
    if pull := payload.get("pull_request"):
        head = str(pull["head"]["sha"])
        theirs = (pull["head"].get("repo") or {}).get("full_name")
        fork = theirs != environment.get("GITHUB_REPOSITORY")
        # A pull request that was retargeted has no job of the check's name.
        own = "" if payload.get("action") == "edited" else head
        return Run(Event.PULL, commit=pushed or head, base=MAIN, own=own, fork=fork)
    if (payload.get("inputs") or {}).get("pull"):
        # The job plan has refused forks before there was anything to make.
        return Run(Event.PULL, commit=pushed or made_of, base=MAIN, own="", fork=False)
    return Run(Event.BRANCH, commit=pushed, base=MAIN, own="", fork=False)


def read_reproduced(needs: Mapping[str, JobResult], folder: Path, first: str) -> dict[str, Reproduced]:
    """What was made of each model that the job `plan` names, as far as its bundle can be read.

    A workflow file of before knows one model, which is `first` here: the job `reproduce` tells of it.
    """
    models = needs[PLAN].outputs.get("models") if PLAN in needs else None
    if models is None:
        told = needs[REPRODUCE].outputs if REPRODUCE in needs else {}
        state = told.get("state") if told.get("state") in set(ProposalStatus) else None
        return {first: Reproduced(state=ProposalStatus(state) if state else None, digest=told.get("digest", ""))}
    names = TypeAdapter(list[str]).validate_json(models or "[]")  # a plan that failed names none
    found = {}
    for name in names:
        with contextlib.suppress(BundleError):
            summary = read_bundle(folder / name).summary
            found[name] = Reproduced(state=summary.state, digest=summary.digest or "")
    return {name: found.get(name, Reproduced()) for name in names}


def look(git: Git, root: Path, run: Run) -> dict[str, CommitFacts]:
    """What is known of each model in the commit, from git alone.

    Raises:
        ForgeError: it is not to be had.
        MergelineError: its manifest or its params cannot be read.
    """
    if not run.commit:
        return {"": CommitFacts(standing=Change.SAME)}
    git.fetch(REMOTE, BASE_BRANCH)
    for revision in (run.commit, run.base):
        git.bring(REMOTE, revision)
    git, store = _whole(git), embedded_store(root)
    # A branch that is behind is looked at as it would be merged, or its older manifest would look like a release.
    tree = merged_with_base(git, run.base, run.commit, store)
    _require_plain(git, run.base, tree)
    both = all(differing(git, run.base, tree, paths=places) for places in (_WORKFLOWS, _ENGINE))
    found: dict[str, CommitFacts] = {}
    for name, home in homes_in(git, tree).items():
        made = [home.path(LOCK_FILE), home.path("deploy/signatures"), *([store] if store and not found else [])]
        outputs = foreign_outputs(git, run.base, run.commit, made, store) if run.fork else ()
        known = {"fork": run.fork, "outputs": outputs, "both": both, "manifest": home.path(MANIFEST_FILE)}
        found[name] = _facts(git, home, tree, run).model_copy(update=known)
    return found


def _require_plain(git: Git, base: str, tree: str) -> None:
    """Refuse changes that no look at the homes shows, though servers, DVC and these checks would follow them.

    Raises:
        ForgeError: what is read here as a file is a link, of which a work tree has what it leads to; a file of DVC puts
            data where they would be run; or a manifest belongs to no environment any more.
    """
    read = filter(_is_read, differing(git, base, tree))
    changed = {path: entry for path in read if (entry := entry_at(git, tree, path)) is not None}
    for path, entry in changed.items():
        if not entry.startswith("100"):
            raise ForgeError("a link or a module of git stands where a file is read", where=path, hint=_AS_A_FILE)
        if path.endswith(".dvc") and not _is_beside(git.text(tree, path), PurePosixPath(path)):
            raise ForgeError("a file of DVC names another place than the one beside it", where=path, hint=_AS_DVC_DOES)
    named: set[str] = set()
    for home in homes_in(git, tree).values():
        places = read_environments(git, home, tree)
        named |= {places.path(each) for each in places.names}
    for path in changed.keys() - named:
        if is_manifest(path):
            raise ForgeError(
                "no params.yaml names an environment for this manifest, and a server may follow it",
                where=path,
                hint="leave it as it is on main, or take it out together with its environment or its model",
            )


def _is_read(path: str) -> bool:
    """Whether a server, DVC or a check reads what is at this path, or below it if it is a link."""
    parts = PurePosixPath(path).parts
    inside = parts[2:] if parts[:1] == MODELS.parts else parts
    return not inside or inside[0] in _READ or path.endswith(".dvc")


def _is_beside(text: str, path: PurePosixPath) -> bool:
    """Whether the text of a `.dvc` file puts one output beside it, under its own name, and nothing that is run."""
    tree = parse_plain(text, str(path))
    outs = tree.get("outs")
    found = [out.get("path") for out in outs if isinstance(out, dict)] if isinstance(outs, list) else []
    run = path.with_suffix("").suffix in _CODE or any(part.startswith(".") for part in path.parts)
    return found == [path.stem] and "wdir" not in tree and not run


def _facts(git: Git, home: Home, tree: str, run: Run) -> CommitFacts:
    """What the manifests of one home would do."""
    kept = [home.path(path) for path in ("deploy", LOCK_FILE, PARAMS_FILE)]
    if home.model and all(entry_at(git, tree, path) == entry_at(git, run.base, path) for path in kept):
        return CommitFacts(standing=Change.SAME)  # that of another model costs nothing
    params_path = home.path(PARAMS_FILE)
    params = parse_plain(git.text(tree, params_path), params_path)
    name = str(params.get("name", ""))
    places = read_environments(git, home, tree)
    base = read_base(home.folder, name, run.base, places.names)
    there = {places.names[0]: base.manifest, **base.others}
    here = {each: _branch(places, run.base, tree, each) or there[each] for each in there}
    changes = {each: _change(places, run.base, each, there[each], here[each]) for each in there}
    changes |= {each: Change.OTHER for each, one in here.items() if one.metadata.name != name}
    release = only_new_release(base.manifest, here[places.names[0]])
    return CommitFacts(
        standing=next((one for one in _GRAVEST if one in changes.values()), Change.SAME),
        digest=release.digest if release else None,
        unusable=_unusable(git, home, tree, release, params) if release else None,
        elsewhere=_elsewhere(changes, here),
        unsound=_unsound(places, run.base, tree, name),
        renumbered=next(
            (
                (places.path(each), words)
                for each, one in here.items()
                if changes[each] is Change.OTHER
                for words in renumbered((there[each], one))
            ),
            None,
        ),
    )


def _change(places: Environments, base: str, environment: str, before: Manifest, after: Manifest) -> Change:
    """What the merge would do in one environment."""
    name, source = before.metadata.name, places.before(environment)
    known = functools.partial(known_states, places, base, name, environment)
    if not source:
        return change_of(before, after, known)
    return change_of(before, after, known, lambda: known_releases(places.git, base, name, places.path(source)))


def _elsewhere(changes: Mapping[str, Change], here: Mapping[str, Manifest]) -> str:
    """The environment after the first into which a model would come that may not; empty where there is none."""
    held = frozenset[str]().union(*(one.spec.held for one in here.values()))
    first, *others = changes
    for environment in others:
        change, serving = changes[environment], {release.digest for release in here[environment].spec.serving}
        if change is Change.OTHER or (change is Change.PROMOTION and serving & held):
            return environment
        if change is not Change.SAME and changes[first] is Change.OTHER:
            return environment  # one pull request proposes or promotes: who reviews it sees one report
    return ""


def _unsound(places: Environments, base: str, tree: str, name: str) -> tuple[Check, ...]:
    """What stands against the state that the merge would make, and does not stand against the base branch's own."""
    git, home, paths = places.git, places.home, [places.path(each) for each in places.names]

    def found(revision: str) -> list[Check]:
        known = functools.partial(known_models, git, base, name, paths)
        checks = verify_tree(git, home, revision, known, stored=False)
        return [check for check in checks if check.status is Status.FAIL]

    failed = found(tree)
    known_there = bool(failed) and entry_at(git, base, home.path(PARAMS_FILE)) is not None
    there = {check.name for check in found(base)} if known_there else set()
    return tuple(check for check in failed if check.name not in there)


def _branch(places: Environments, base: str, tree: str, environment: str) -> Manifest | None:
    """The manifest of an environment after the merge; None where it has none yet."""
    text, path = places.text(base, tree, environment), places.path(environment)
    if text is None:
        return None
    parse_plain(text, path)
    return parse_manifest(text, path)


def _unusable(git: Git, home: Home, tree: str, release: Release, params: Mapping[str, Any]) -> str | None:
    """Why the model that a commit would release cannot be served; it is read from the commit's store, or from ours."""
    store = embedded_store(home.root)
    place = PastStore(git, store, tree) if store else configured_store(home.root)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        try:
            place.fetch_folder(release.source, folder)
            check_model(folder, name=str(params.get("name", "")), own=trusted_types(params))
        except MergelineError as error:
            return error.what
    return None


def foreign_outputs(git: Git, base: str, head: str, places: Sequence[str], store: str | None) -> tuple[str, ...]:
    """The generated files that a branch changes in these places; in the store but for the objects of its data.

    A fork's must not reach the base branch: nobody but the fork has seen how they were made.
    """
    changed = differing(git, f"{base}...{head}", paths=places)
    allowed = _data_objects(git, head, store) if store else frozenset()
    return tuple(path for path in changed if path not in allowed)


def _data_objects(git: Git, head: str, store: str) -> frozenset[str]:
    """The paths of the objects that the `.dvc` files of a commit name: data that people bring."""
    read = PastStore(git, store, head).read
    found: set[str] = set()
    for name in (name for name in files_below(git, head) if name.endswith(".dvc")):
        for output in _outputs(git.text(head, name)):
            found.add(f"{store}/{output}")
            if output.endswith(".dir") and read(output) is not None:
                found |= {f"{store}/{object_path(md5)}" for _, md5 in listing(output, read)}
    return frozenset(found)


def _outputs(text: str) -> Sequence[str]:
    try:
        outs = parse_plain(text, "*.dvc").get("outs")
    except DocumentError:
        return ()
    return [
        object_path(str(out.get("md5", "")))
        for out in (outs if isinstance(outs, list) else ())
        if isinstance(out, dict)
    ]


def _whole(git: Git) -> Git:
    """The repository with its whole history, which a workflow's checkout may have cut off."""
    if git.run("rev-parse", "--is-shallow-repository") == "true":
        git.run("fetch", "--quiet", "--unshallow", REMOTE)
    return git
