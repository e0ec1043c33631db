"""Says what a team must still set, in its clone and on GitHub, for the loop to run; each with what fixes it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mergeline.errors import ForgeError
from mergeline.github.actions import locate, read_job
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.client import GitHubClient
from mergeline.github.doctor_clone import (
    RULESET_FILE,
    Finding,
    examine_clone,
    failed,
    homes_of,
    is_signed,
    passed,
    read,
    ruleset_of,
    said,
    skipped,
    warned,
)
from mergeline.github.git import Git
from mergeline.params import read_params
from mergeline.store.config import configured_url

PATIENCE_SECONDS = 20.0
SIGNING_SECRET, WRITE_SECRETS = "SIGNING_KEY", ("STORE_KEY_ID", "STORE_KEY")
_RULES = {
    "required_approving_review_count": "{} approving review(s)",
    "require_code_owner_review": "a code owner's review",
    "dismiss_stale_reviews_on_push": "that a push dismisses reviews",
    "require_last_push_approval": "that somebody else approves the last push",
    "required_review_thread_resolution": "that conversations are resolved",
    "strict_required_status_checks_policy": "that a branch is up to date before it is merged",
}
"""What a rule may ask for, by its parameter: yes, or how many."""

See = Callable[[str, str], Any]
"""GitHub's answer for a path below the repository, which takes a permission; a text where it may not be seen."""


def examine(root: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> tuple[Finding, ...]:
    """Everything that is found, without stopping at the first fault.

    Args:
        root: the clone.
        patience_seconds: how long GitHub is waited for in all where it asks to wait.
    """
    return (*examine_clone(root), *_on_github(root, patience_seconds))


def _on_github(root: Path, patience_seconds: float) -> Iterator[Finding]:
    """What is found in the settings on GitHub, as far as the token may see them."""
    name, remote = "settings on GitHub", said(Git(root), "remote", "get-url", REMOTE)
    found = None if remote is None else locate(remote, read_job())
    if found is None:
        why = "there is no remote" if remote is None else "the remote is no GitHub that is known here"
        yield skipped(name, why, "for an Enterprise Server: export GH_HOST=<its name>" if remote else "")
        return
    repository, job = found
    if not job.token:
        yield skipped(name, "there is no token", "export GITHUB_TOKEN=$(gh auth token)")
        return
    client = GitHubClient(job, repository, patience_seconds=patience_seconds, root=root)
    try:
        yield from examine_settings(functools.partial(see, client), f"{job.server_url}/{repository}", root)
    except ForgeError as error:
        yield failed(name, error.what, "Nothing is known of them.", error.hint)


def see(client: GitHubClient, path: str, needs: str) -> Any:
    """What GitHub answers, or a text that says why it does not.

    Raises:
        ForgeError: GitHub does not answer, or the token is no good at all.
    """
    from github import GithubException

    def work() -> Any:
        try:
            return client.ask(path)
        except GithubException as error:
            limited = "retry-after" in (error.headers or {}) or "rate limit" in str(error.data).lower()
            if error.status in {403, 404} and not limited:
                return f"GitHub answers {error.status} to this token"
            raise

    return client.run(f"reading {path.partition('?')[0]} of {client.name}", needs, work)


def examine_settings(see: See, url: str, root: Path) -> Iterator[Finding]:
    """One finding for each setting that counts; what cannot be seen is skipped, and says where a person can look.

    Args:
        see: asks GitHub.
        url: of the repository's website.
        root: the clone, whose rules the settings are for.
    """
    repository = "/".join(url.split("/")[-2:])
    api = f"gh api -X PUT repos/{repository}/actions/permissions"

    def look(name: str, path: str, page: str, needs: str, judge: Callable[[Any], Finding]) -> Finding:
        answer = see(path, needs)
        try:
            if not isinstance(answer, str):
                return judge(answer)
        except (KeyError, TypeError, AttributeError, ValueError):
            answer = "GitHub's answer has another form than is known here"
        return skipped(name, answer, f"look at {url}/{page}, or use a token with `{needs}`")

    for name, judge in (("repository", _kind), ("default branch", _default_branch)):
        yield look(name, "/", "settings", "metadata: read", functools.partial(judge, repository))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # without a ruleset: a finding of the clone
        known = functools.partial(see, "/rulesets?per_page=100", "metadata: read")
        judge_rules = functools.partial(_rules, ruleset_of(root), repository, known)
        path = f"/rules/branches/{BASE_BRANCH}?per_page=100"
        yield look("rules of main", path, "settings/rules", "metadata: read", judge_rules)
    for name, path, decide in (
        ("actions", "/actions/permissions", _actions),
        (_OPENING, "/actions/permissions/workflow", _opening),
    ):
        yield look(name, path, "settings/actions", "administration: read", functools.partial(decide, api))
    needed, path = _needed_secrets(root), "/actions/secrets?per_page=100"
    if needed:
        yield look("secrets", path, "settings/secrets/actions", "secrets: read", functools.partial(_secrets, needed))
    else:
        yield skipped("secrets", "none is needed: the store is in the repository, and nothing is signed")


def _kind(repository: str, told: Mapping[str, Any]) -> Finding:
    if told.get("archived"):
        hint = f"gh api -X PATCH repos/{repository} -F archived=false"
        return failed("repository", "archived", "Nothing can be changed.", hint)
    if told.get("fork"):
        hint = "use the template: 'Use this template' makes a repository that is no fork"
        return warned("repository", "a fork", "A fork's workflows release nothing, on purpose.", hint)
    return passed("repository", told["full_name"])


def _default_branch(repository: str, told: Mapping[str, Any]) -> Finding:
    branch = told["default_branch"]
    if branch == BASE_BRANCH:
        return passed("default branch", branch)
    hint = f"gh api -X PATCH repos/{repository} -f default_branch=main"
    return failed("default branch", branch, "Workflows and rules are about main.", hint)


def _rules(wanted: Mapping[str, Any], repository: str, known: Callable[[], Any], told: Any) -> Finding:
    missing = lacking(wanted["rules"], told)
    if not missing:
        return passed("rules of main", f"{len(told)} active rules")
    rulesets = known()
    named = [one for one in rulesets if one["name"] == wanted["name"]] if isinstance(rulesets, list) else []
    target = f"-X PUT repos/{repository}/rulesets/{named[0]['id']}" if named else f"-X POST repos/{repository}/rulesets"
    off = [one["enforcement"] for one in named if one["enforcement"] != "active"]
    value = f"the ruleset is {off[0]}" if off else f"lacks {'; '.join(missing)}"
    meaning = "What nobody has judged or approved can reach production."
    return failed("rules of main", value, meaning, f"gh api {target} --input {RULESET_FILE}")


def lacking(wanted: Sequence[Mapping[str, Any]], active: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the file asks for and nothing asks for on GitHub; stricter rules are no fault.

    Args:
        wanted: the file's `rules`.
        active: the rules that hold for the branch, from whatever ruleset.
    """
    found: list[str] = []
    for rule in wanted:
        same = [one.get("parameters") or {} for one in active if one["type"] == rule["type"]]
        if not same:
            found.append(f"the rule {rule['type']!r}")
            continue
        asked = rule.get("parameters") or {}
        for key, words in _RULES.items():
            if max(int(one.get(key) or 0) for one in same) < int(asked.get(key) or 0):
                found.append(words.format(asked[key]))
        have = [check for one in same for check in one.get("required_status_checks") or []]
        for check in asked.get("required_status_checks") or []:
            name, app = check["context"], check.get("integration_id")
            apps = [one.get("integration_id") for one in have if one["context"] == name]
            if not apps:
                found.append(f"the required check {name!r}")
            elif app and app not in apps:
                found.append(f"that the check {name!r} comes from the App {app} and from nobody else")
    return tuple(found)


def _actions(api: str, told: Mapping[str, Any]) -> Finding:
    allowed = told.get("allowed_actions", "all")
    hint = f"{api} -F enabled=true -f allowed_actions=all"
    if not told["enabled"]:
        return failed("actions", "off", "No workflow runs.", hint)
    if allowed == "local_only":
        return failed("actions", "only the owner's", "checkout, setup-uv and the others are not allowed to run.", hint)
    if allowed == "selected":
        hint = "see that each `uses:` of .github is allowed: Settings → Actions → General"
        return warned("actions", "selected ones", "One that is not selected stops the run.", hint)
    return passed("actions", "on")


_OPENING = "pull requests by Actions"


def _opening(api: str, told: Mapping[str, Any]) -> Finding:
    if told["can_approve_pull_request_reviews"]:
        return passed(_OPENING, "allowed")
    meaning = "A retraining or a fork's model cannot be proposed: an issue asks a person to open the pull request."
    hint = f"{api}/workflow -f default_workflow_permissions=read -F can_approve_pull_request_reviews=true"
    return warned(_OPENING, "not allowed", meaning, hint)


def _needed_secrets(root: Path) -> dict[str, str]:
    """The secrets that the workflows need here, each with the command that sets it."""
    needed = {}
    if is_signed(read(read_params, homes_of(root)[0].folder / "params.yaml")):
        needed[SIGNING_SECRET] = f"gh secret set {SIGNING_SECRET} < signing.key"
    if str(read(configured_url, root)).startswith("s3://"):
        needed |= {name: f"gh secret set {name}" for name in WRITE_SECRETS}
    return needed


def _secrets(needed: Mapping[str, str], told: Mapping[str, Any]) -> Finding:
    there = {one["name"] for one in told["secrets"]}
    missing = {name: hint for name, hint in needed.items() if name not in there}
    if not missing:
        return passed("secrets", ", ".join(needed))
    meaning = "Proposals cannot be signed or stored (a secret of the organisation is not seen here)."
    return failed("secrets", f"missing: {', '.join(missing)}", meaning, " && ".join(missing.values()))
