"""The routes of the REST API that the local GitHub answers itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from local_github.bare import NOTHING
from local_github.emulator import Who
from local_github.hub import BOT_APP, Hub
from local_github.payloads import describe_run, describe_workflow, dispatch_event

Told = tuple[int, Any, Mapping[str, str]]


class Call(NamedTuple):
    """A request to one route: `parts` are those of its path."""

    name: str
    parts: Mapping[str, str]
    query: str
    body: Mapping[str, Any]
    token: str
    who: Who


def pulls_of_commit(hub: Hub, call: Call) -> Told:
    """The pull requests that a commit belongs to."""
    found = []
    repository = hub.repositories[call.name]
    for pull in hub.emulator.pages(f"/repos/{call.name}/pulls?state=all", token=hub.admin):
        commits = {pull["merge_commit_sha"], pull["head"]["sha"]}
        if pull["state"] == "open" and repository.git.find(pull["head"]["sha"]):
            commits.update(repository.commits(pull["base"]["sha"], pull["head"]["sha"]))
        if call.parts["sha"] in commits:
            found.append(pull)
    return 200, found, {}


def open_pull(hub: Hub, call: Call) -> Told:
    """Open a pull request, with the refusals that GitHub has."""
    head, base = str(call.body.get("head", "")), str(call.body.get("base", ""))
    owner, _, branch = head.rpartition(":")
    if call.who.app == BOT_APP and not hub.settings[call.name].actions_may_open_pulls:
        message = "GitHub Actions is not permitted to create or approve pull requests."
        return 403, {"message": message, "documentation_url": "https://docs.github.com/rest/pulls/pulls"}, {}
    source = _fork_of(hub, call.name, owner) if owner else call.name
    tip = hub.repositories[source].tip(branch) if source else None
    target = hub.repositories[call.name].tip(base)
    if source is None or tip is None:
        return _invalid({"resource": "PullRequest", "field": "head", "code": "invalid"})
    if target is None:
        return _invalid({"resource": "PullRequest", "field": "base", "code": "invalid"})
    label = f"{source.split('/')[0]}:{branch}"
    for pull in hub.emulator.pages(f"/repos/{call.name}/pulls?state=open", token=hub.admin):
        if (pull["head"]["label"], pull["base"]["ref"]) == (label, base):
            return _invalid(_custom(f"A pull request already exists for {label}."))
    hub.repositories[call.name].bring(hub.repositories[source], tip)
    if hub.repositories[call.name].contains(target, tip):
        return _invalid(_custom(f"No commits between {base} and {branch}"))
    answer = hub.emulator.call("POST", f"/repos/{call.name}/pulls", dict(call.body), token=call.token)
    if answer.status == 201:
        hub.opened(call.name, answer.body["number"], call.who)
        answer = answer._replace(body=hub.pull(call.name, answer.body["number"]))
    return answer.status, answer.body, _limits(answer.headers)


def edit_pull(hub: Hub, call: Call) -> Told:
    """Change a pull request's words, or close or reopen it."""
    number = int(call.parts["number"])
    before = hub.emulator.call("GET", f"/repos/{call.name}/pulls/{number}", token=call.token)
    answer = hub.emulator.call("PATCH", f"/repos/{call.name}/pulls/{number}", dict(call.body), token=call.token)
    if answer.status == 200:
        hub.edited(call.name, number, before.body["state"], call.who)
    return answer.status, answer.body, _limits(answer.headers)


def get_pull(hub: Hub, call: Call) -> Told:
    """One pull request, with what git says of it now."""
    answer = hub.emulator.call("GET", f"/repos/{call.name}/pulls/{call.parts['number']}", token=call.token)
    if answer.status == 200 and answer.body["state"] == "open":
        hub.refresh(call.name, int(call.parts["number"]))
        blocked = hub.merge_refusal(call.name, hub.pull(call.name, int(call.parts["number"])))
        body = hub.pull(call.name, int(call.parts["number"]))
        if blocked and body["mergeable"]:
            body["mergeable_state"] = "behind" if "up to date" in blocked else "blocked"
        answer = answer._replace(body=body)
    return answer.status, answer.body, _limits(answer.headers)


def merge_pull(hub: Hub, call: Call) -> Told:
    """Merge a pull request."""
    if not call.who.writes:
        return _forbidden(call, "contents=write")
    method = call.body.get("merge_method", "merge")
    expected = call.body.get("sha")
    merged = hub.merge(call.name, int(call.parts["number"]), call.who, squash=method == "squash", expected=expected)
    return merged.status, merged.body, {}


def pull_files(hub: Hub, call: Call) -> Told:
    """The files that a pull request changes."""
    pull, repository = hub.pull(call.name, int(call.parts["number"])), hub.repositories[call.name]
    files = repository.files(pull["base"]["sha"], pull["head"]["sha"])
    told = [
        {"filename": file.path, "status": file.status, "additions": file.additions, "deletions": file.deletions,
         "changes": file.additions + file.deletions, **({"patch": file.patch} if file.patch else {})}
        for file in files
    ]  # fmt: skip
    return 200, _page(told, call.query), {}


def pull_commits(hub: Hub, call: Call) -> Told:
    """The commits of a pull request, oldest first."""
    pull, repository = hub.pull(call.name, int(call.parts["number"])), hub.repositories[call.name]
    commits = repository.commits(pull["base"]["sha"], pull["head"]["sha"])
    told = [hub.emulator.must("GET", f"/repos/{call.name}/commits/{sha}", token=hub.admin) for sha in commits]
    return 200, _page(told, call.query), {}


def compare(hub: Hub, call: Call) -> Told:
    """How two commits or branches stand to each other."""
    base, _, head = unquote(call.parts["span"]).partition("...")
    repository = hub.repositories[call.name]
    found = [repository.git.find(f"refs/heads/{side}") or repository.git.find(side) for side in (base, head)]
    if None in found:
        return 404, {"message": "Not Found"}, {}
    first, second = str(found[0]), str(found[1])
    ahead, behind = len(repository.commits(first, second)), len(repository.commits(second, first))
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
    return 200, {
        "status": status.get((ahead > 0, behind > 0), "diverged"), "ahead_by": ahead, "behind_by": behind,
        "total_commits": ahead, "base_commit": {"sha": first},
        "commits": [{"sha": sha} for sha in repository.commits(first, second)],
        "files": [{"filename": file.path, "status": file.status} for file in repository.files(first, second)],
    }, {}  # fmt: skip


def move_ref(hub: Hub, call: Call) -> Told:
    """Make, move or delete a ref through the API."""
    if not call.who.writes:
        return _forbidden(call, "contents=write")
    ref = f"refs/{call.parts['ref']}" if call.parts.get("ref") else str(call.body.get("ref", ""))
    commit = call.body.get("sha")
    repository = hub.repositories[call.name]
    if commit is not None and repository.git.find(str(commit)) is None:
        return 422, {"message": "Object does not exist"}, {}
    if commit is None and repository.git.find(ref) is None:
        return 422, {"message": "Reference does not exist"}, {}
    with hub.moving(call.name, call.who):
        repository.point(ref, commit)
    return (204, None, {}) if commit is None else (200, {"ref": ref, "object": {"sha": commit, "type": "commit"}}, {})


def rulesets(hub: Hub, call: Call) -> Told:
    """The rulesets of a repository, without their rules."""
    found = enumerate(hub.settings[call.name].rulesets, 1)
    return 200, [{key: value for key, value in {"id": number, **ruleset}.items() if key != "rules"}
                 for number, ruleset in found], {}  # fmt: skip


def ruleset(hub: Hub, call: Call) -> Told:
    """One ruleset, whole."""
    number, found = int(call.parts["number"]), hub.settings[call.name].rulesets
    if not 1 <= number <= len(found):
        return 404, {"message": "Not Found"}, {}
    return 200, {"id": number, "source_type": "Repository", "source": call.name, **found[number - 1]}, {}


def branch_rules(hub: Hub, call: Call) -> Told:
    """The rules that hold for a branch: here, those of every active ruleset."""
    active = [entry for entry in hub.settings[call.name].rulesets if entry.get("enforcement") == "active"]
    return 200, [{**rule, "ruleset_source_type": "Repository"} for entry in active for rule in entry["rules"]], {}


def actions_permissions(hub: Hub, call: Call) -> Told:
    """Whether Actions are on."""
    return _administration(hub, call, {"enabled": hub.settings[call.name].actions_enabled, "allowed_actions": "all"})


def workflow_permissions(hub: Hub, call: Call) -> Told:
    """What a job's token may do where the job does not say."""
    settings = hub.settings[call.name]
    told = {
        "default_workflow_permissions": settings.default_token,
        "can_approve_pull_request_reviews": settings.actions_may_open_pulls,
    }
    return _administration(hub, call, told)


def secret_names(hub: Hub, call: Call) -> Told:
    """The names of the secrets; nobody is told their values."""
    names = sorted(hub.settings[call.name].secrets)
    return _administration(hub, call, {"total_count": len(names), "secrets": [{"name": name} for name in names]})


def variables(hub: Hub, call: Call) -> Told:
    """The variables with their values."""
    found = sorted(hub.settings[call.name].variables.items())
    told = [{"name": name, "value": value} for name, value in found]
    return _administration(hub, call, {"total_count": len(told), "variables": told})


def workflow(hub: Hub, call: Call) -> Told:
    """One workflow file of the default branch."""
    told = describe_workflow(hub, call.name, call.parts["file"])
    return (200, told, {}) if told else missing(hub, call)


def dispatch(hub: Hub, call: Call) -> Told:
    """Start a workflow by hand."""
    if call.who.permissions is not None and call.who.permissions.get("actions") != "write":
        return _forbidden(call, "actions=write")
    branch = str(call.body.get("ref", "main")).removeprefix("refs/heads/")
    inputs = call.body.get("inputs") or {}
    event = dispatch_event(hub, call.name, branch, call.parts["file"], inputs=inputs, login=call.who.login or "ghost")
    if event.commit in {"", NOTHING}:
        return 422, {"message": f"No ref found for: {branch}"}, {}
    hub.events.append(event)
    return 204, None, {}


def runs(hub: Hub, call: Call) -> Told:
    """The runs of a repository, newest first."""
    keys = {"head_sha": "head_sha", "event": "event", "branch": "head_branch", "status": "conclusion"}
    wanted = {keys[key]: values[0] for key, values in parse_qs(call.query).items() if key in keys}
    found = [describe_run(hub, run) for run in reversed(hub.runs) if run.event.repository == call.name]
    file = call.parts.get("file")
    found = [
        run for run in found
        if (not file or run["path"].endswith(f"/{file}"))
        and all(run[key] == value for key, value in wanted.items())
    ]  # fmt: skip
    return 200, {"total_count": len(found), "workflow_runs": _page(found, call.query)}, {}


def run(hub: Hub, call: Call) -> Told:
    """One run."""
    for found in hub.runs:
        if found.number == int(call.parts["number"]) and found.event.repository == call.name:
            return 200, describe_run(hub, found), {}
    return 404, {"message": "Not Found"}, {}


def missing(hub: Hub, call: Call) -> Told:  # noqa: ARG001 - a route's shape
    """What this repository has not got."""
    return 404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}, {}


def _fork_of(hub: Hub, name: str, owner: str) -> str | None:
    if name.startswith(f"{owner}/"):
        return name
    found = hub.emulator.must("GET", f"/repos/{name}/forks", token=hub.admin)
    return next((str(fork["full_name"]) for fork in found if fork["owner"]["login"] == owner), None)


def _administration(hub: Hub, call: Call, told: Any) -> Told:
    permissions = call.who.permissions
    if call.who.login is None or (permissions is not None and "administration" not in permissions):
        return _forbidden(call, "administration=read")
    if permissions is None and not call.who.writes:
        return missing(hub, call)
    return 200, told, {}


def _forbidden(call: Call, needed: str) -> Told:
    if call.who.login is None:
        return 401, {"message": "Requires authentication"}, {}
    by_app = "Resource not accessible by integration"
    message = by_app if call.who.app else "Must have write access to Repository."
    told = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": "403"}
    return 403, told, {"X-Accepted-GitHub-Permissions": needed}


def _invalid(error: Mapping[str, str]) -> Told:
    told = {"message": "Validation Failed", "errors": [dict(error)], "status": "422"}
    return 422, told, {}


def _custom(message: str) -> dict[str, str]:
    return {"resource": "PullRequest", "code": "custom", "message": message}


def _page(found: list[Any], query: str) -> list[Any]:
    asked = {key: int(values[0]) for key, values in parse_qs(query).items() if key in {"page", "per_page"}}
    size, page = min(asked.get("per_page", 30), 100), asked.get("page", 1)
    return found[(page - 1) * size : page * size]


def _limits(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("x-")}


_REPOSITORY = r"/repos/(?P<owner>[^/]+)/(?P<name>[^/]+)"
_PULL = rf"{_REPOSITORY}/pulls/(?P<number>\d+)"
_REFS = rf"{_REPOSITORY}/git/refs"
ROUTES: list[tuple[str, str, Callable[[Hub, Call], Told]]] = [
    ("GET", rf"{_REPOSITORY}/commits/(?P<sha>[0-9a-f]{{40}})/pulls", pulls_of_commit),
    ("POST", rf"{_REPOSITORY}/pulls", open_pull),
    ("PATCH", _PULL, edit_pull),
    ("GET", _PULL, get_pull),
    ("PUT", rf"{_PULL}/merge", merge_pull),
    ("GET", rf"{_PULL}/files", pull_files),
    ("GET", rf"{_PULL}/commits", pull_commits),
    ("GET", rf"{_REPOSITORY}/compare/(?P<span>.+)", compare),
    ("POST", _REFS, move_ref),
    ("PATCH", rf"{_REFS}/(?P<ref>.+)", move_ref),
    ("DELETE", rf"{_REFS}/(?P<ref>.+)", move_ref),
    ("GET", rf"{_REPOSITORY}/rulesets", rulesets),
    ("GET", rf"{_REPOSITORY}/rulesets/(?P<number>\d+)", ruleset),
    ("GET", rf"{_REPOSITORY}/rules/branches/(?P<branch>.+)", branch_rules),
    ("GET", rf"{_REPOSITORY}/actions/permissions", actions_permissions),
    ("GET", rf"{_REPOSITORY}/actions/permissions/workflow", workflow_permissions),
    ("GET", rf"{_REPOSITORY}/actions/secrets", secret_names),
    ("GET", rf"{_REPOSITORY}/actions/variables", variables),
    ("GET", rf"{_REPOSITORY}/actions/workflows/(?P<file>[^/]+)", workflow),
    ("POST", rf"{_REPOSITORY}/actions/workflows/(?P<file>[^/]+)/dispatches", dispatch),
    ("GET", rf"{_REPOSITORY}/actions/workflows/(?P<file>[^/]+)/runs", runs),
    ("GET", rf"{_REPOSITORY}/actions/runs", runs),
    ("GET", rf"{_REPOSITORY}/actions/runs/(?P<number>\d+)", run),
    ("GET", rf"{_REPOSITORY}/(attestations/.*|pages|environments.*|branches/[^/]+/protection)", missing),
]
