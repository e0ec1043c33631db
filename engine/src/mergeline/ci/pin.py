"""Guards what people start by hand: from main alone, and for branches of this repository alone."""

from __future__ import annotations

from collections.abc import Mapping

from mergeline.errors import ForgeError
from mergeline.github.base import BASE_BRANCH
from mergeline.github.pull_requests import Pulls, PullState


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
