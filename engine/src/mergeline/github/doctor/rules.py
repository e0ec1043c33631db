"""Compares the rules that hold for the base branch with those that the ruleset's file asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergeline.github.doctor.there import Rule


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
