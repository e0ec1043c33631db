"""Hands a proposal to a pull request: branch, commit, push, words."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mergeline.errors import ForgeError
from mergeline.files import write_text
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.forge import open_github
from mergeline.github.git import UNDER_WAY, Git
from mergeline.github.git_objects import differing, homes_in
from mergeline.github.local_forge import LocalForge
from mergeline.github.pull_requests import PullRequest, Pulls
from mergeline.home import MODELS, Home
from mergeline.manifest.edit import promote
from mergeline.manifest.schema import manifest_path, read_manifest
from mergeline.manifest.transitions import find_release
from mergeline.model.environment import team_package
from mergeline.params import Params
from mergeline.release.proposal import Proposal, ProposalStatus
from mergeline.report.words import headline
from mergeline.store.dvc_lock import LOCK_FILE

SIGNATURES = Path("deploy/signatures")
_MADE = (LOCK_FILE, SIGNATURES)
REPORT_COMMENT = "report"
LABEL = "model"


def open_forge(git: Git) -> Pulls:
    """The place that keeps the pull requests of the remote.

    Raises:
        ForgeError: there is no remote, or no forge is known for it.
    """
    url = git.address(REMOTE)
    folder = Path(url).parent
    if Path(url).is_dir() and (folder / "repository.git").is_dir():
        return LocalForge(folder)
    github = open_github(git)
    if github is not None:
        return github
    raise ForgeError(
        "no forge is known for this remote",
        where=url,
        hint="propose without --pull-request, commit and push, and open the pull request there",
    )


def open_forge_to_submit(git: Git) -> Pulls:
    """As `open_forge`, before minutes of training: `submit` will be able to commit.

    Raises:
        ForgeError: as `open_forge`; or a merge is under way, in which git commits no chosen paths.
    """
    for name, what in (("MERGE_HEAD", "a merge"), ("CHERRY_PICK_HEAD", "a cherry-pick")):
        if git.find(name):
            raise ForgeError(f"{what} is under way", where=str(git.folder), hint=UNDER_WAY)
    return open_forge(git)


def concerns(git: Git, home: Home, pull: PullRequest, main: str) -> bool:
    """Whether an open pull request is about the model of a home, and not about other models of the repository alone.

    Args:
        git: the repository, at its root.
        home: the model's.
        pull: the pull request.
        main: the base branch's commit.
    """
    if len(homes_in(git, main)) == 1:
        return True
    if not git.bring(REMOTE, pull.head):
        return False  # the branch was deleted at this moment
    changed = differing(git, f"{main}...{pull.head}")
    if home.model:
        return any(PurePosixPath(path).is_relative_to(home.place) for path in changed)
    return any(not PurePosixPath(path).is_relative_to(MODELS) for path in changed if not path.startswith("store/"))


def submit(root: Path, params: Params, proposal: Proposal) -> PullRequest:
    """Commit the proposal, push it, and open its pull request; the one that is open already is updated.

    Everything that made the model is committed: tracked files that changed, and the team's package. On the
    base branch a branch of the proposal's own is made first.

    Raises:
        ForgeError: the remote's branch has commits that this one has not, or git refused.
    """
    home = Home.at(root)
    git = Git(home.root)
    forge = open_forge(git)
    here = git.branch()
    own = f"propose/{params.name}-{proposal.digest.removeprefix('sha256:')[:8]}"
    branch = own if here is None or here == BASE_BRANCH else here
    expected = git.remote_head(REMOTE, branch)
    if expected is not None and git.attempt("merge-base", "--is-ancestor", expected, "HEAD")[0]:
        raise ForgeError(
            f"{REMOTE}/{branch} has commits that are not in your branch",
            where=str(root),
            hint=f"git fetch && git switch {branch} && git merge {REMOTE}/{branch}, then propose again",
        )
    if branch != here:
        git.switch(branch, start="HEAD")
    new = proposal.state is ProposalStatus.PROPOSED
    title = f"{params.name}: version {proposal.version}" if new else f"{params.name}: sign what is released"
    reason = headline(proposal.judged.verdict) if proposal.judged else "the model that is served already"
    git.commit(f"{title}\n\n{reason}\n", *_paths(git, home, params))
    git.push(REMOTE, branch, expected=expected)
    pull = forge.open_or_update(branch, BASE_BRANCH, title, f"{reason}\n", [LABEL])
    if new:
        _name_pull(git, home, params, branch, proposal.digest, pull.number)
    if proposal.reports is not None:
        forge.comment(pull.number, REPORT_COMMENT, proposal.reports.markdown.read_text(encoding="utf-8"))
    return forge.get(pull.number)


def _paths(git: Git, home: Home, params: Params) -> list[str]:
    """What belongs to a proposal among what changed in the work tree."""
    tracked = differing(git, "HEAD")
    package = team_package(params.model.factory)
    try:
        made = [package.resolve().relative_to(git.folder.resolve()).as_posix()]
    except ValueError:
        made = []
    manifest = manifest_path(params.release.environments)
    signing = params.release.signing
    made += [home.path(signing.public_key)] if signing.policy == "required" else []
    places = ("store", *(home.path(path) for path in (*_MADE, manifest)), *made)
    present = [path for path in places if (git.folder / path).exists()]
    return list(dict.fromkeys([*tracked, *present]))


def _name_pull(  # noqa: PLR0917 - what `submit` knows
    git: Git, home: Home, params: Params, branch: str, digest: str, number: int
) -> None:
    """Write the pull request's number into the evidence, in the commit that proposes the model."""
    manifest = manifest_path(params.release.environments)
    path = home.folder / manifest
    release = find_release(read_manifest(path), digest)
    if release is None or release.evidence.pull == number:
        return
    evidence = release.evidence.model_copy(update={"pull": number})
    text = path.read_text(encoding="utf-8")
    write_text(path, promote(text, release.model_copy(update={"evidence": evidence}), params.release.rollout))
    head = git.run("rev-parse", "HEAD")
    amend = ("commit", "--quiet", "--amend", "--no-edit", "--only", "--", home.path(manifest))
    git.run(*amend, settings=git.identity())
    git.push(REMOTE, branch, expected=head)
