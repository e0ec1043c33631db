"""Decides what a ruleset, as it is imported into GitHub, allows on a branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

PASSING = frozenset({"success", "neutral", "skipped"})


class Rules(NamedTuple):
    """What holds for one branch; without a ruleset nothing does."""

    pull_request: bool = False
    approvals: int = 0
    checks: tuple[str, ...] = ()
    up_to_date: bool = False
    no_force: bool = False
    no_deletion: bool = False


def rules_for(rulesets: Sequence[Mapping[str, Any]], branch: str, default: str = "main") -> Rules:
    """What active rulesets ask of a branch, all together."""
    found = Rules()
    for ruleset in rulesets:
        if ruleset.get("enforcement") != "active" or not _applies(ruleset, branch, default):
            continue
        for rule in ruleset.get("rules", ()):
            found = _with(found, rule["type"], rule.get("parameters", {}))
    return found


def push_refusal(rules: Rules, *, deletes: bool, forced: bool, creates: bool) -> str | None:
    """Why a push to the branch is refused, or None."""
    if deletes:
        return "Cannot delete this branch" if rules.no_deletion else None
    if forced and rules.no_force:
        return "Cannot force-push to this branch"
    if creates:
        return None
    if rules.pull_request:
        return "Changes must be made through a pull request."
    if rules.checks:
        return f'Required status check "{rules.checks[0]}" is expected.'
    return None


def merge_refusal(rules: Rules, conclusions: Mapping[str, str | None], *, behind: bool, approvals: int) -> str | None:
    """Why a pull request may not be merged now, or None; `conclusions` are those of its newest commit."""
    for check in rules.checks:
        if check not in conclusions:
            return f'Required status check "{check}" is expected.'
        if conclusions[check] not in PASSING:
            return f'Required status check "{check}" is {conclusions[check] or "in progress"}.'
    if behind and rules.up_to_date:
        return "The head branch is not up to date with the base branch."
    if approvals < rules.approvals:
        return f"At least {rules.approvals} approving review is required by reviewers with write access."
    return None


def _applies(ruleset: Mapping[str, Any], branch: str, default: str) -> bool:
    names = ruleset.get("conditions", {}).get("ref_name", {})
    return _matches(names.get("include", ()), branch, default) and not _matches(
        names.get("exclude", ()), branch, default
    )


def _matches(patterns: Sequence[str], branch: str, default: str) -> bool:
    for pattern in patterns:
        if pattern == "~ALL" or (pattern == "~DEFAULT_BRANCH" and branch == default):
            return True
        if fnmatchcase(f"refs/heads/{branch}", pattern):
            return True
    return False


def _with(rules: Rules, kind: str, parameters: Mapping[str, Any]) -> Rules:
    match kind:
        case "pull_request":
            count = int(parameters.get("required_approving_review_count", 0))
            return rules._replace(pull_request=True, approvals=max(rules.approvals, count))
        case "required_status_checks":
            names = tuple(check["context"] for check in parameters["required_status_checks"])
            strict = bool(parameters.get("strict_required_status_checks_policy"))
            return rules._replace(checks=rules.checks + names, up_to_date=rules.up_to_date or strict)
        case "non_fast_forward":
            return rules._replace(no_force=True)
        case "deletion":
            return rules._replace(no_deletion=True)
        case _:
            return rules
