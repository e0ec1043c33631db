"""Writes the events as GitHub's webhooks have them: what a job finds at GITHUB_EVENT_PATH."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local_github.bare import Change
from local_github.state import Event, Run

if TYPE_CHECKING:
    from local_github.hub import Hub


def push_event(hub: Hub, name: str, change: Change, login: str) -> Event:
    """Somebody pushed, or merged."""
    git = hub.repositories[name].git
    subject, author, email = git.run("show", "-s", "--format=%B%x1e%an%x1e%ae", change.new).split("\x1e")
    payload = {
        "ref": change.ref,
        "before": change.old,
        "after": change.new,
        "created": set(change.old) == {"0"},
        "deleted": False,
        "forced": False,
        "head_commit": {
            "id": change.new,
            "message": subject.strip(),
            "author": {"name": author, "email": email.strip()},
        },
        "repository": _repository(hub, name),
        "pusher": {"name": login},
        "sender": _person(login),
    }
    branch = change.ref.removeprefix("refs/heads/")
    return Event(name, "push", None, payload, change.ref, change.new, change.new, branch, login)


def pull_event(pull: Mapping[str, Any], action: str, login: str, merge: str, *, before: str | None = None) -> Event:
    """A pull request was opened, got commits, or was closed; `merge` is the commit at refs/pull/N/merge."""
    name, head = pull["base"]["repo"]["full_name"], pull["head"]["sha"]
    payload = {
        "action": action,
        "number": pull["number"],
        "pull_request": pull,
        "repository": pull["base"]["repo"],
        "sender": _person(login),
    }
    if before:
        payload |= {"before": before, "after": head}
    return Event(
        name,
        "pull_request",
        action,
        payload,
        f"refs/pull/{pull['number']}/merge",
        merge,
        head,
        pull["base"]["ref"],
        login,
        fork=pull["head"]["repo"]["full_name"] != name,
    )


def merge_group_event(pull: Mapping[str, Any], ref: str, commit: str, base: str, login: str) -> Event:
    """The merge queue asks for the checks of a group."""
    name = pull["base"]["repo"]["full_name"]
    group = {"head_sha": commit, "head_ref": ref, "base_sha": base, "base_ref": f"refs/heads/{pull['base']['ref']}"}
    payload = {
        "action": "checks_requested",
        "merge_group": group,
        "repository": pull["base"]["repo"],
        "sender": _person(login),
    }
    branch = pull["base"]["ref"]
    return Event(name, "merge_group", "checks_requested", payload, ref, commit, commit, branch, login)


def dispatch_event(hub: Hub, name: str, branch: str, file: str, *, inputs: Mapping[str, str], login: str) -> Event:
    """Somebody pressed "Run workflow"."""
    commit = hub.repositories[name].tip(branch) or ""
    payload = {
        "inputs": dict(inputs),
        "ref": f"refs/heads/{branch}",
        "workflow": f".github/workflows/{file}",
        "repository": _repository(hub, name),
        "sender": _person(login),
    }
    return Event(name, "workflow_dispatch", None, payload, f"refs/heads/{branch}", commit, commit, branch, login)


def run_event(hub: Hub, run: Run) -> Event:
    """A run is over: what `workflow_run` gets. A fork's run names no pull request, as on GitHub."""
    event, name = run.event, run.event.repository
    repository = _repository(hub, name)
    commit = hub.repositories[name].tip(repository["default_branch"]) or ""
    payload = {
        "action": "completed",
        "workflow_run": describe_run(hub, run),
        "workflow": {"name": run.workflow, "path": f".github/workflows/{run.file}"},
        "repository": repository,
        "sender": _person(event.actor),
    }
    branch = repository["default_branch"]
    return Event(
        name, "workflow_run", "completed", payload, f"refs/heads/{branch}", commit, commit, branch, event.actor
    )


def describe_run(hub: Hub, run: Run) -> dict[str, Any]:
    """A run as the API and the events show it."""
    event = run.event
    pull = event.payload.get("pull_request")
    here = _repository(hub, event.repository)
    source = pull["head"]["repo"] if pull else here
    pulls = []
    if pull and not event.fork:
        pulls = [{"number": pull["number"], "head": _side(pull["head"]), "base": _side(pull["base"])}]
    return {
        "id": run.number,
        "name": run.workflow,
        "path": f".github/workflows/{run.file}",
        "event": event.name,
        "status": "completed",
        "conclusion": run.conclusion,
        "head_branch": pull["head"]["ref"] if pull else event.branch,
        "head_sha": event.head,
        "run_number": run.number,
        "run_attempt": 1,
        "pull_requests": pulls,
        "actor": _person(event.actor),
        "triggering_actor": _person(event.actor),
        "html_url": f"{here['html_url']}/actions/runs/{run.number}",
        "repository": here,
        "head_repository": source,
        "display_title": pull["title"] if pull else run.workflow,
    }


def describe_workflow(hub: Hub, name: str, file: str) -> dict[str, Any] | None:
    """A workflow file of the default branch as the API shows it, if there is one."""
    path = f".github/workflows/{file}"
    if hub.repositories[name].git.show("refs/heads/main", path) is None:
        return None
    here = _repository(hub, name)
    return {"id": 1, "path": path, "state": "active", "url": f"{here['url']}/actions/workflows/{file}"}


def _side(side: Mapping[str, Any]) -> dict[str, Any]:
    repository = {"id": side["repo"]["id"], "name": side["repo"]["name"], "url": side["repo"]["url"]}
    return {"ref": side["ref"], "sha": side["sha"], "repo": repository}


def _repository(hub: Hub, name: str) -> Any:
    return hub.emulator.must("GET", f"/repos/{name}", token=hub.admin)


def _person(login: str) -> dict[str, Any]:
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}
