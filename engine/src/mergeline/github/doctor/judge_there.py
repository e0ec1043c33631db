"""Judges what was seen of the repository's settings on GitHub."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from mergeline.github.doctor.finding import Finding, failed, passed, skipped, warned
from mergeline.github.doctor.here import RULESET_FILE, Here, StoreSeen
from mergeline.github.doctor.rules import lacking
from mergeline.github.doctor.there import There, Unseen
from mergeline.params import Params

QUIET_DAYS = 45
"""GitHub stops a public repository's schedules after 60 days without a commit; this leaves time to act."""
WRITE_SECRETS = ("STORE_KEY_ID", "STORE_KEY")
SIGNING_SECRET = "SIGNING_KEY"  # noqa: S105 - the name of a secret


def judge_there(there: There, here: Here, now: datetime) -> tuple[Finding, ...]:
    """One finding for each setting; what could not be seen is skipped, and says where a person can look."""
    return (
        *_repository(there),
        *_rules(there, here),
        *_bypass(there),
        *_queue(there, here),
        *_actions(there),
        *_token(there),
        *_workflows(there, here),
        *_secrets(there, here),
        *_attestations(there, here),
        *_owners(there, here),
        *_pages(there),
        *_schedules(there, here, now),
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
    if not settings.has_issues:
        yield warned(
            "issues",
            "off",
            "on",
            "Where a pull request cannot be opened, an issue says so: there is no such place.",
            f"{api} -F has_issues=true",
        )
    if settings.allow_merge_commit is False and settings.allow_squash_merge is False:
        yield warned(
            "merge button",
            "rebase only",
            "merge or squash",
            "A rebase gives the proposal's commit another name, and the check on it is lost.",
            f"{api} -F allow_squash_merge=true",
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


def _bypass(there: There) -> Iterator[Finding]:
    if isinstance(there.rulesets, Unseen) or not there.rulesets:
        return
    hidden = [found.name for found in there.rulesets if found.bypass_actors is None]
    open_to = [found.name for found in there.rulesets if found.bypass_actors]
    if open_to:
        yield warned(
            "bypass",
            f"somebody may pass by {', '.join(open_to)}",
            "nobody",
            "Whoever may pass the rules by can release without a judgement.",
            f"empty the bypass list: {there.server_url}/{there.name}/settings/rules",
        )
    elif hidden:
        hint = f"look at {there.server_url}/{there.name}/settings/rules, or use an administrator's token"
        yield skipped("bypass", "GitHub tells only administrators who may pass the rules by", hint)
    else:
        yield passed("bypass", "nobody", "nobody")


def _queue(there: There, here: Here) -> Iterator[Finding]:
    if isinstance(there.rules, Unseen) or not any(rule.type == "merge_queue" for rule in there.rules):
        return
    if here.queued:
        yield passed("merge queue", "on, and a workflow runs on merge_group")
    else:
        yield failed(
            "merge queue",
            "on, and no workflow runs on merge_group",
            "on: merge_group",
            "The required check never comes, so nothing is ever merged.",
            "add `merge_group:` to the triggers of .github/workflows/model.yml",
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


def _token(there: There) -> Iterator[Finding]:
    found, put = there.token, f"gh api -X PUT repos/{there.name}/actions/permissions/workflow"
    if isinstance(found, Unseen):
        yield _unseen("workflow token", found, there, "settings/actions")
        return
    opens = "true" if found.can_approve_pull_request_reviews else "false"
    if found.default_workflow_permissions == "read":
        yield passed("workflow token", "read", "read")
    else:
        yield failed(
            "workflow token",
            found.default_workflow_permissions,
            "read",
            "A workflow that forgets to say what it needs may write to everything.",
            f"{put} -f default_workflow_permissions=read -F can_approve_pull_request_reviews={opens}",
        )
    if found.can_approve_pull_request_reviews:
        yield passed("pull requests by Actions", "allowed", "allowed")
    else:
        yield warned(
            "pull requests by Actions",
            "not allowed",
            "allowed",
            "A retraining or a fork's model cannot be proposed: an issue asks a person to open the pull request.",
            f"{put} -f default_workflow_permissions=read -F can_approve_pull_request_reviews=true",
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
    if isinstance(here.params, Params) and here.params.release.signing.policy == "required":
        needed[SIGNING_SECRET] = f"gh secret set {SIGNING_SECRET} < signing.key"
    if isinstance(here.store, StoreSeen) and here.store.url.startswith("s3://"):
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


def _attestations(there: There, here: Here) -> Iterator[Finding]:
    signed = isinstance(here.params, Params) and here.params.release.signing.policy == "required"
    if isinstance(there.settings, Unseen) or not (there.settings.private or there.is_server):
        yield passed("attestations", "to be had in a public repository")
        return
    why = "an Enterprise Server has none" if there.is_server else "private repositories need Enterprise Cloud"
    if signed:
        yield skipped("attestations", f"{why}; the models' own signatures stand alone")
    else:
        yield warned(
            "attestations",
            why,
            "attested or signed",
            "Nothing but git says where a model comes from.",
            "sign models: mergeline keys ~/mergeline-keys, then release.signing.policy: required in params.yaml",
        )


def _owners(there: There, here: Here) -> Iterator[Finding]:
    if here.owners is None:
        return  # the file itself is a finding already
    if isinstance(there.owners, Unseen):
        yield _unseen("code owners on GitHub", there.owners, there, "blob/main/.github/CODEOWNERS")
    elif there.owners:
        told = "; ".join(f"line {error.line}: {error.kind}" for error in there.owners[:5])
        yield failed(
            "code owners on GitHub",
            told,
            "no errors",
            "GitHub passes over these lines: nobody is asked.",
            "name people or teams with write access in .github/CODEOWNERS",
        )
    else:
        yield passed("code owners on GitHub", "no errors", "no errors")


def _pages(there: There) -> Iterator[Finding]:
    if isinstance(there.settings, Unseen):
        return
    if there.settings.has_pages:
        yield passed("pages", "on")
    else:
        yield warned(
            "pages",
            "off",
            "from the branch gh-pages",
            "The page with production's history is written, and nobody can see it.",
            f"after the first deployment: gh api -X POST repos/{there.name}/pages"
            " -f 'source[branch]=gh-pages' -f 'source[path]=/'",
        )


def _schedules(there: There, here: Here, now: datetime) -> Iterator[Finding]:
    if not here.scheduled:
        return
    private = not isinstance(there.settings, Unseen) and there.settings.private
    names = ", ".join(here.scheduled)
    if private:
        yield passed("schedules", f"{names}: a private repository's do not stop")
    elif here.newest_commit is not None and now - here.newest_commit > timedelta(days=QUIET_DAYS):
        yield warned(
            "schedules",
            f"no commit on main for {(now - here.newest_commit).days} days",
            "60 days at most",
            f"GitHub will stop {names}.",
            "merge anything, or enable them again when they have stopped: "
            + " && ".join(f"gh workflow enable {name}" for name in here.scheduled),
        )
    else:
        yield passed("schedules", names)
