"""Checks the repository's settings on GitHub, as far as the token may see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mergeline.documents import Frozen
from mergeline.github.base import BASE_BRANCH
from mergeline.github.client import GitHubClient
from mergeline.github.doctor.here import (
    RULESET_FILE,
    Finding,
    Here,
    StoreState,
    failed,
    is_signed,
    passed,
    skipped,
    warned,
)
from mergeline.github.errors import Task

WRITE_SECRETS = ("STORE_KEY_ID", "STORE_KEY")
SIGNING_SECRET = "SIGNING_KEY"  # noqa: S105 - the name of a secret

Read = TypeVar("Read")


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
    fork: bool = False
    archived: bool = False


class Rule(_Answer):
    """One rule that holds for the base branch."""

    type: str
    parameters: dict[str, Any] | None = None
    ruleset_id: int | None = None


class Ruleset(_Answer):
    """One ruleset."""

    id: int
    name: str
    enforcement: str


class Actions(_Answer):
    """Whether Actions run, and which."""

    enabled: bool
    allowed_actions: str = "all"


class Token(_Answer):
    """What a job's token may do where the job does not say."""

    can_approve_pull_request_reviews: bool


class Workflow(_Answer):
    """One workflow and whether it runs."""

    path: str
    state: str


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


def look_there(client: GitHubClient) -> There:
    """Ask GitHub for every setting that counts.

    Raises:
        ForgeError: GitHub does not answer, or the token is no good at all.
    """

    def see(path: str, needs: str, model: type[_Answer], pick: Callable[[Any], Any] = lambda told: told) -> Any:
        return _see(client, path, needs, lambda told: model.model_validate(pick(told)))

    def see_all(path: str, needs: str, model: type[_Answer], pick: Callable[[Any], Any] = lambda told: told) -> Any:
        return _see(client, path, needs, lambda told: tuple(model.model_validate(one) for one in pick(told)))

    return There(
        name=client.name,
        server_url=client.job.server_url,
        settings=see("/", "metadata: read", Settings),
        rules=see_all(f"/rules/branches/{BASE_BRANCH}?per_page=100", "metadata: read", Rule),
        rulesets=see_all("/rulesets?per_page=100", "metadata: read", Ruleset),
        actions=see("/actions/permissions", "administration: read", Actions),
        token=see("/actions/permissions/workflow", "administration: read", Token),
        secrets=_see(
            client,
            "/actions/secrets?per_page=100",
            "secrets: read",
            lambda told: tuple(str(one["name"]) for one in told["secrets"]),
        ),
        workflows=see_all("/actions/workflows?per_page=100", "actions: read", Workflow, itemgetter("workflows")),
    )


def _see(client: GitHubClient, path: str, needs: str, read: Callable[[Any], Read]) -> Read | Unseen:
    """What GitHub answers, or why it does not."""
    from github import GithubException

    def work() -> Read | Unseen:
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


def judge_there(there: There, here: Here) -> tuple[Finding, ...]:
    """One finding for each setting; what could not be seen is skipped, and says where a person can look."""
    return (
        *_repository(there),
        *_rules(there, here),
        *_actions(there),
        _token(there),
        *_workflows(there, here),
        *_secrets(there, here),
    )


def _unseen(name: str, unseen: Unseen, there: There, page: str) -> Finding:
    link = f"{there.server_url}/{there.name}/{page}"
    return skipped(name, f"{unseen.reason}", f"look at {link}, or use a token with `{unseen.needs}`")


def _repository(there: There) -> Iterator[Finding]:
    settings, api = there.settings, f"gh api -X PATCH repos/{there.name}"
    if isinstance(settings, Unseen):
        yield _unseen("repository", settings, there, "settings")
        return
    if settings.archived:
        yield failed("repository", "archived", "active", "Nothing can be changed.", f"{api} -F archived=false")
    elif settings.fork:
        yield warned(
            "repository",
            "a fork",
            "no fork",
            "A fork's workflows release nothing, on purpose.",
            "use the template: 'Use this template' makes a repository that is no fork",
        )
    else:
        yield passed("repository", settings.full_name)
    if settings.default_branch == "main":
        yield passed("default branch", "main")
    else:
        yield failed(
            "default branch",
            settings.default_branch,
            "main",
            "Workflows and rules are about main.",
            f"{api} -f default_branch=main",
        )


def _rules(there: There, here: Here) -> Iterator[Finding]:
    bound = f"all of {RULESET_FILE.name}"
    if not isinstance(here.ruleset, dict):
        return  # the file itself is a finding already
    if isinstance(there.rules, Unseen):
        yield _unseen("rules of main", there.rules, there, "settings/rules")
        return
    missing = lacking(here.ruleset["rules"], there.rules)
    if not missing:
        yield passed("rules of main", f"{len(there.rules)} active rules", bound)
        return
    name = here.ruleset.get("name")
    known = () if isinstance(there.rulesets, Unseen) else there.rulesets
    same = next((found for found in known if found.name == name), None)
    target = f"-X PUT repos/{there.name}/rulesets/{same.id}" if same else f"-X POST repos/{there.name}/rulesets"
    off = same is not None and same.enforcement != "active"
    value = f"the ruleset is {same.enforcement}" if off and same else f"lacks {'; '.join(missing)}"
    yield failed(
        "rules of main",
        value,
        bound,
        "What nobody has judged or approved can reach production.",
        f"gh api {target} --input {RULESET_FILE}",
    )


def _actions(there: There) -> Iterator[Finding]:
    found, put = there.actions, f"gh api -X PUT repos/{there.name}/actions/permissions -F enabled=true"
    if isinstance(found, Unseen):
        yield _unseen("actions", found, there, "settings/actions")
    elif not found.enabled:
        yield failed("actions", "off", "on", "No workflow runs.", f"{put} -f allowed_actions=all")
    elif found.allowed_actions == "local_only":
        yield failed(
            "actions",
            "only those of the owner",
            "all, or those that the workflows use",
            "checkout, setup-uv and the others are not allowed to run.",
            f"{put} -f allowed_actions=all",
        )
    elif found.allowed_actions == "selected":
        yield warned(
            "actions",
            "selected ones",
            "those that the workflows use",
            "One that is not selected stops the run.",
            f"see that each `uses:` of .github is allowed: {there.server_url}/{there.name}/settings/actions",
        )
    else:
        yield passed("actions", "on")


def _token(there: There) -> Finding:
    found, name = there.token, "pull requests by Actions"
    if isinstance(found, Unseen):
        return _unseen(name, found, there, "settings/actions")
    if found.can_approve_pull_request_reviews:
        return passed(name, "allowed", "allowed")
    return warned(
        name,
        "not allowed",
        "allowed",
        "A retraining or a fork's model cannot be proposed: an issue asks a person to open the pull request.",
        f"gh api -X PUT repos/{there.name}/actions/permissions/workflow"
        " -f default_workflow_permissions=read -F can_approve_pull_request_reviews=true",
    )


def _workflows(there: There, here: Here) -> Iterator[Finding]:
    if isinstance(there.workflows, Unseen):
        yield _unseen("workflows on GitHub", there.workflows, there, "actions")
        return
    states = {found.path.rpartition("/")[2]: found.state for found in there.workflows}
    off = [name for name in here.workflows if states.get(name, "active") != "active"]
    if off:
        yield failed(
            "workflows on GitHub",
            ", ".join(f"{name} is {states[name]}" for name in off),
            "active",
            "They do not run.",
            " && ".join(f"gh workflow enable {name}" for name in off),
        )
    else:
        yield passed("workflows on GitHub", "active", "active")


def _secrets(there: There, here: Here) -> Iterator[Finding]:
    needed: dict[str, str] = {}
    if is_signed(here):
        needed[SIGNING_SECRET] = f"gh secret set {SIGNING_SECRET} < signing.key"
    if isinstance(here.store, StoreState) and here.store.url.startswith("s3://"):
        needed |= {name: f"gh secret set {name}" for name in WRITE_SECRETS}
    if not needed:
        yield skipped("secrets", "none is needed: the store is in the repository, and nothing is signed")
    elif isinstance(there.secrets, Unseen):
        yield _unseen("secrets", there.secrets, there, "settings/secrets/actions")
    else:
        missing = {name: hint for name, hint in needed.items() if name not in there.secrets}
        if missing:
            hint = " && ".join(missing.values())
            meaning = "Proposals cannot be signed or stored (a secret of the organisation is not seen here)."
            yield failed("secrets", f"missing: {', '.join(missing)}", ", ".join(needed), meaning, hint)
        else:
            yield passed("secrets", ", ".join(needed), ", ".join(needed))


def lacking(wanted: Sequence[Mapping[str, Any]], active: Sequence[Rule]) -> tuple[str, ...]:
    """What the file asks for and nothing asks for on GitHub; stricter rules are no fault.

    Args:
        wanted: the file's `rules`.
        active: the rules that hold for the branch, from whatever ruleset.
    """
    found: list[str] = []
    for rule in wanted:
        kind = str(rule.get("type"))
        same = [one.parameters or {} for one in active if one.type == kind]
        if not same:
            found.append(f"the rule {kind!r}")
        elif kind == "required_status_checks":
            found += _checks(rule.get("parameters") or {}, same)
        elif kind == "pull_request":
            found += _reviews(rule.get("parameters") or {}, same)
    return tuple(found)


def _checks(wanted: Mapping[str, Any], active: Sequence[Mapping[str, Any]]) -> list[str]:
    have = [check for parameters in active for check in parameters.get("required_status_checks") or []]
    found = []
    for check in wanted.get("required_status_checks") or []:
        named = [one for one in have if one.get("context") == check.get("context")]
        app = check.get("integration_id")
        if not named:
            found.append(f"the required check {check.get('context')!r}")
        elif app and not any(one.get("integration_id") == app for one in named):
            found.append(f"that the check {check.get('context')!r} comes from the App {app} and from nobody else")
    if wanted.get("strict_required_status_checks_policy") and not any(
        parameters.get("strict_required_status_checks_policy") for parameters in active
    ):
        found.append("that a branch is up to date before it is merged")
    return found


_REVIEW_WORDS = {
    "require_code_owner_review": "a code owner's review",
    "dismiss_stale_reviews_on_push": "that a push dismisses reviews",
    "require_last_push_approval": "that somebody else approves the last push",
    "required_review_thread_resolution": "that conversations are resolved",
}


def _reviews(wanted: Mapping[str, Any], active: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    count = int(wanted.get("required_approving_review_count") or 0)
    most = max(int(parameters.get("required_approving_review_count") or 0) for parameters in active)
    if most < count:
        found.append(f"{count} approving review{'s' if count > 1 else ''}")
    for key, words in _REVIEW_WORDS.items():
        if wanted.get(key) and not any(parameters.get(key) for parameters in active):
            found.append(words)
    return found
