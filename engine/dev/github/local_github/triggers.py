"""Decides which workflows an event starts: the `on:` of each file, as GitHub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from local_github.state import Event

_DEFAULT_TYPES = {"pull_request": ("opened", "synchronize", "reopened")}


def triggers(workflow: Mapping[Any, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The events of a workflow with their filters. YAML 1.1 reads the key `on` as true."""
    found = workflow.get("on", workflow.get(True))
    if isinstance(found, str):
        return {found: {}}
    if isinstance(found, list):
        return {name: {} for name in found}
    return {name: filters or {} for name, filters in (found or {}).items()}


def starts(workflow: Mapping[Any, Any], event: Event, changed: Iterable[str]) -> bool:
    """Whether the event starts the workflow; `changed` are the paths that it changes."""
    filters = triggers(workflow).get(event.name)
    if filters is None:
        return False
    types = filters.get("types", _DEFAULT_TYPES.get(event.name))
    if types and event.action and event.action not in types:
        return False
    branch = event.branch
    if event.name == "workflow_run":
        run = event.payload["workflow_run"]
        if run["name"] not in filters.get("workflows", ()):
            return False
        branch = run["head_branch"]
    if event.name == "push" and not event.ref.startswith("refs/heads/"):
        return False
    return _allowed(filters, "branches", [branch]) and _allowed(filters, "paths", list(changed))


def _allowed(filters: Mapping[str, Any], key: str, names: list[str]) -> bool:
    wanted, ignored = filters.get(key), filters.get(f"{key}-ignore")
    if wanted is not None:
        return any(_matches(wanted, name) for name in names)
    if ignored is not None:
        return not all(_matches(ignored, name) for name in names)
    return True


def _matches(patterns: Iterable[str], name: str) -> bool:
    """The last pattern that matches counts; one with `!` takes away."""
    found = False
    for pattern in patterns:
        if re.fullmatch(_expression(pattern.removeprefix("!")), name):
            found = not pattern.startswith("!")
    return found


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return "".join({"**": ".*", "*": "[^/]*", "?": "."}.get(part, re.escape(part)) for part in parts)
