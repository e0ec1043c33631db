"""Puts the jobs of called workflows in the place of their callers: act ends a whole run where a called job fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from local_github.expressions import as_expression, in_expressions
from local_github.triggers import triggers

Workflow = dict[Any, Any]
Jobs = dict[str, dict[str, Any]]
Permissions = Mapping[str, str]
LOCAL = "./.github/workflows/"
HIDDEN = "local-github "
"""How the names begin of jobs that only hold a call together; no check shows them."""
_SKIPPED = '{"result": "skipped", "outputs": {}}'
_RANK = {"none": 0, "read": 1, "write": 2}
_ALL = ("actions", "attestations", "checks", "contents", "deployments", "issues", "packages", "pages",
        "pull-requests", "statuses")  # fmt: skip


class InvalidWorkflowError(Exception):
    """GitHub would refuse to start this workflow."""


def declared(value: Any, around: Permissions) -> Permissions:
    """What `permissions:` grants; where it is not written, what holds around it."""
    if value is None:
        return around
    if isinstance(value, str):
        return dict.fromkeys(_ALL, {"read-all": "read", "write-all": "write"}.get(value, "none"))
    return {name: str(level) for name, level in value.items()}


def flat_jobs(workflow: Workflow, read: Callable[[str], Workflow], default: Permissions) -> Jobs:
    """All jobs of a workflow and of those it calls, each with its permissions and the name that GitHub shows.

    Args:
        workflow: a parsed workflow file.
        read: gives the parsed workflow file of a name in .github/workflows.
        default: what a job may do where nothing is declared.

    Raises:
        InvalidWorkflowError: a called job asks for more than its caller may give.
    """
    return _flatten(workflow, read, default, limit=None, prefix="", shown="")


def _flatten(
    workflow: Workflow,
    read: Callable[[str], Workflow],
    around: Permissions,
    *,
    limit: Permissions | None,
    prefix: str,
    shown: str,
) -> Jobs:
    outer = declared(workflow.get("permissions"), around)
    found: Jobs = {}
    own = set(workflow["jobs"])
    for key, written in workflow["jobs"].items():
        job = _settled(written, own, prefix)
        job["permissions"] = wanted = dict(declared(job.get("permissions"), outer))
        job["name"] = shown + str(job.get("name", key))
        over = [name for name, level in wanted.items() if limit is not None and _exceeds(name, level, limit)]
        if over:
            raise InvalidWorkflowError(f"the job {job['name']} asks for {', '.join(over)}, and its caller may not")
        if str(job.get("uses", "")).startswith(LOCAL):
            found |= _called(prefix + key, job, read)
        else:
            found[prefix + key] = job
    return found


def _called(key: str, job: dict[str, Any], read: Callable[[str], Workflow]) -> Jobs:
    """A gate with the caller's condition, the called jobs behind it, and one job that ends as they do."""
    called = read(job["uses"].removeprefix(LOCAL))
    job = _first_of_matrix(job)
    gate, prefix = f"{key}__gate", f"{key}__"
    jobs: Jobs = {
        gate: {
            "name": f"{HIDDEN}{gate}",
            "runs-on": "ubuntu-latest",
            "needs": job.get("needs", []),
            "permissions": {},
            "steps": [{"run": "true"}],
            **({"if": job["if"]} if "if" in job else {}),
        }
    }
    inner = _flatten(called, read, {}, limit=job["permissions"], prefix=prefix, shown=f"{job['name']} / ")
    call = triggers(called).get("workflow_call", {})
    for name, written in inner.items():
        found = _filled(written, job, call)
        found["if"] = f"${{{{ !cancelled() && needs.{gate}.result == 'success' && ({_condition(found)}) }}}}"
        # What the caller hands over may come from the jobs that it waited for.
        found["needs"] = list(dict.fromkeys([*_list(found.get("needs")), gate, *_list(job.get("needs"))]))
        jobs[name] = found
    outputs = {
        name: re.sub(r"\bjobs\.(\w[\w-]*)\.", rf"needs.{prefix}\1.", str(output["value"]))
        for name, output in (call.get("outputs") or {}).items()
    }
    ran = " || ".join(f"needs.{name}.result != 'skipped'" for name in inner)
    jobs[key] = {
        "name": f"{HIDDEN}{key}",
        "runs-on": "ubuntu-latest",
        "needs": [gate, *inner],
        "if": f"${{{{ always() && needs.{gate}.result == 'success' && ({ran}) }}}}",
        "permissions": {},
        "outputs": outputs,
        "steps": [
            {"run": "false", "if": "contains(needs.*.result, 'failure') || contains(needs.*.result, 'cancelled')"}
        ],
    }
    return jobs


def _first_of_matrix(job: dict[str, Any]) -> dict[str, Any]:
    """The call with the first values of its matrix: act has no matrix of calls, and none of our stories needs more."""
    matrix = job.get("strategy", {}).get("matrix", {})

    def fill(expression: str) -> str:
        return re.sub(
            r"\bmatrix\.(\w+)",
            lambda found: f"{_or_none(as_expression(matrix[found[1]]))}[0]" if found[1] in matrix else found[0],
            expression,
        )

    return dict(in_expressions({key: part for key, part in job.items() if key != "strategy"}, fill))


def _or_none(expression: str) -> str:
    """The list of a matrix: act works it out before it looks whether the job is skipped, and then there is none."""
    return re.sub(r"\bfromJSON\((.*)\)", r"""fromJSON(\1 || '[""]')""", expression)


def _condition(job: Mapping[str, Any]) -> str:
    """When a called job runs, among the jobs of its own file: `success()` would look at the caller's needs as well."""
    needs = _list(job.get("needs"))
    good = " && ".join(f"needs.{name}.result == 'success'" for name in needs) or "true"
    bad = " || ".join(f"needs.{name}.result == 'failure'" for name in needs) or "false"
    if "if" not in job:
        return good
    written = as_expression(job["if"], bare=True)
    if not re.search(r"\b(success|failure|always|cancelled)\(\)", written):
        return f"({good}) && ({written})"
    return re.sub(r"\bfailure\(\)", f"({bad})", re.sub(r"\bsuccess\(\)", f"({good})", written))


def _filled(job: dict[str, Any], caller: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """The called job with the caller's inputs and secrets in the place of their names."""
    given = {
        name: caller.get("with", {}).get(
            name, told.get("default", {"number": 0, "boolean": False}.get(told["type"], ""))
        )
        for name, told in (call.get("inputs") or {}).items()
    }
    secrets = caller.get("secrets", {})

    def fill(expression: str) -> str:
        expression = re.sub(
            r"(?<![\w.])inputs\.(\w[\w-]*)",
            lambda found: f"({as_expression(given[found[1]])})" if found[1] in given else "null",
            expression,
        )
        if secrets == "inherit":
            return expression
        return re.sub(
            r"\bsecrets\.(?!GITHUB_TOKEN\b)(\w+)",
            lambda found: f"({as_expression(secrets[found[1]])})" if found[1] in secrets else "''",
            expression,
        )

    return dict(in_expressions(job, fill))


def _settled(job: Mapping[str, Any], own: set[str], prefix: str) -> dict[str, Any]:
    """The job with its siblings under their new names; `toJSON(needs)` still tells the old ones.

    act leaves the outputs of a skipped job as the expressions that were written; on GitHub they are empty.
    """
    needs = _list(job.get("needs"))
    # In a format string braces are doubled.
    pairs = ", ".join(f'"{name}": {{{place}}}' for place, name in enumerate(needs))
    told = ", ".join(
        f"needs.{prefix}{name}.result == 'skipped' && '{_SKIPPED}' || toJSON(needs.{prefix}{name})" for name in needs
    )
    whole = f"format('{{{{{pairs}}}}}', {told})" if needs else "'{}'"

    def settle(expression: str) -> str:
        expression = re.sub(
            r"\bneeds\.(\w[\w-]*)(\.outputs\.\w[\w-]*)?",
            lambda found: _need(f"needs.{prefix if found[1] in own else ''}{found[1]}", found[2]),
            expression,
        )
        return re.sub(r"\btoJSON\(needs\)", lambda _: whole, expression, flags=re.IGNORECASE)

    settled = dict(in_expressions(dict(job), settle))
    if "uses" not in job and "strategy" in job:
        settled["strategy"] = in_expressions(settled["strategy"], _or_none)
    if needs:
        settled["needs"] = [prefix + name for name in needs]
    return settled


def _need(job: str, output: str | None) -> str:
    return f"({job}.result != 'skipped' && {job}{output} || '')" if output else job


def _exceeds(name: str, level: str, limit: Permissions) -> bool:
    return _RANK[level] > _RANK[limit.get(name, "none")]


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])
