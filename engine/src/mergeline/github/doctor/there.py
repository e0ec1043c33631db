"""Looks at the repository's settings on GitHub, as far as the token may see them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mergeline.documents import Frozen
from mergeline.github.base import BASE_BRANCH
from mergeline.github.client import GitHubClient
from mergeline.github.errors import Task

Seen = TypeVar("Seen")


class Unseen(Frozen):
    """Something that the token may not see, or that this GitHub has not got; `needs` is the permission to see it."""

    reason: str
    needs: str


class _Answer(BaseModel):
    """Part of an answer of the API; the rest of it is left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Settings(_Answer):
    """The repository itself."""

    full_name: str
    default_branch: str
    private: bool = False
    fork: bool = False
    archived: bool = False
    has_issues: bool = True
    has_pages: bool = False
    allow_merge_commit: bool | None = None
    allow_squash_merge: bool | None = None
    pushed_at: datetime | None = None


class Rule(_Answer):
    """One rule that holds for the base branch."""

    type: str
    parameters: dict[str, Any] | None = None
    ruleset_id: int | None = None


class Ruleset(_Answer):
    """One ruleset; `bypass_actors` is None where the token may not see who may pass it by."""

    id: int
    name: str
    enforcement: str
    bypass_actors: tuple[dict[str, Any], ...] | None = None


class Actions(_Answer):
    """Whether Actions run, and which."""

    enabled: bool
    allowed_actions: str = "all"


class Token(_Answer):
    """What a job's token may do where the job does not say."""

    default_workflow_permissions: str
    can_approve_pull_request_reviews: bool


class Workflow(_Answer):
    """One workflow and whether it runs."""

    path: str
    state: str


class OwnersError(_Answer):
    """One line of CODEOWNERS that GitHub passes over."""

    line: int
    kind: str
    source: str = ""


class There(Frozen):
    """The settings on GitHub; what could not be seen says why."""

    name: str
    server_url: str
    settings: Settings | Unseen
    rules: tuple[Rule, ...] | Unseen
    rulesets: tuple[Ruleset, ...] | Unseen
    actions: Actions | Unseen
    token: Token | Unseen
    secrets: tuple[str, ...] | Unseen
    workflows: tuple[Workflow, ...] | Unseen
    owners: tuple[OwnersError, ...] | Unseen

    @property
    def is_server(self) -> bool:
        """Whether this is an Enterprise Server, which has no attestations."""
        return not (self.server_url == "https://github.com" or self.server_url.endswith(".ghe.com"))


def look_there(client: GitHubClient) -> There:
    """Ask GitHub for every setting that counts.

    Raises:
        ForgeError: GitHub does not answer, or the token is no good at all.
    """

    def see(path: str, needs: str, model: type[_Answer], pick: Callable[[Any], Any] = lambda told: told) -> Any:
        return _see(client, path, needs, lambda told: model.model_validate(pick(told)))

    def see_all(path: str, needs: str, model: type[_Answer], pick: Callable[[Any], Any] = lambda told: told) -> Any:
        return _see(client, path, needs, lambda told: tuple(model.model_validate(one) for one in pick(told)))

    rulesets = see_all("/rulesets?per_page=100", "metadata: read", Ruleset)
    if not isinstance(rulesets, Unseen):
        whole = (see(f"/rulesets/{found.id}", "metadata: read", Ruleset) for found in rulesets)
        rulesets = tuple(found if isinstance(one, Unseen) else one for found, one in zip(rulesets, whole, strict=True))
    return There(
        name=client.name,
        server_url=client.job.server_url,
        settings=see("/", "metadata: read", Settings),
        rules=see_all(f"/rules/branches/{BASE_BRANCH}?per_page=100", "metadata: read", Rule),
        rulesets=rulesets,
        actions=see("/actions/permissions", "administration: read", Actions),
        token=see("/actions/permissions/workflow", "administration: read", Token),
        secrets=_see(
            client,
            "/actions/secrets?per_page=100",
            "secrets: read",
            lambda told: tuple(str(one["name"]) for one in told["secrets"]),
        ),
        workflows=see_all("/actions/workflows?per_page=100", "actions: read", Workflow, itemgetter("workflows")),
        owners=see_all("/codeowners/errors", "contents: read", OwnersError, itemgetter("errors")),
    )


def _see(client: GitHubClient, path: str, needs: str, read: Callable[[Any], Seen]) -> Seen | Unseen:
    """What GitHub answers, or why it does not."""
    from github import GithubException

    def work() -> Seen | Unseen:
        try:
            return read(client.ask(path))
        except GithubException as error:
            limited = "retry-after" in (error.headers or {}) or "rate limit" in str(error.data).lower()
            if error.status in {403, 404} and not limited:
                return Unseen(reason=f"GitHub answers {error.status} to this token", needs=needs)
            raise
        except (ValidationError, KeyError, TypeError):
            return Unseen(reason="GitHub's answer has another form than is known here", needs=needs)

    return client.run(Task(doing=f"reading {path.partition('?')[0]} of {client.name}", permission=needs), work)
