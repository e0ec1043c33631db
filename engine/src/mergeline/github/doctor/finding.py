"""One finding of the doctor."""

from __future__ import annotations

from mergeline.evaluate.results import Check, Status


class Finding(Check):
    """A check with the command or the click that fixes it; `hint` is empty where there is nothing to do."""

    hint: str = ""


def passed(name: str, value: str, bound: str = "") -> Finding:
    """Nothing to do."""
    return Finding(name=name, status=Status.PASS, value=value, bound=bound, meaning="")


def failed(name: str, value: str, bound: str, meaning: str, hint: str) -> Finding:
    """Something does not work, or is not safe, until it is fixed."""
    return Finding(name=name, status=Status.FAIL, value=value, bound=bound, meaning=meaning, hint=hint)


def warned(name: str, value: str, bound: str, meaning: str, hint: str) -> Finding:
    """Something works worse than it could."""
    return Finding(name=name, status=Status.WARN, value=value, bound=bound, meaning=meaning, hint=hint)


def skipped(name: str, why: str, hint: str = "") -> Finding:
    """Something could not be looked at, or does not count here."""
    return Finding(name=name, status=Status.SKIP, value=why, bound="", meaning=why, hint=hint)
