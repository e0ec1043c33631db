"""Changes the expressions of a workflow file, wherever they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


def in_expressions(value: Any, change: Callable[[str], str], *, key: str = "") -> Any:
    """The same value with every expression changed; what stands under `if` is one without its braces too."""
    if isinstance(value, dict):
        return {name: in_expressions(part, change, key=str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [in_expressions(part, change) for part in value]
    if not isinstance(value, str):
        return value
    if key == "if" and "${{" not in value:
        return change(value)
    return _EXPRESSION.sub(lambda found: "${{" + change(found[1]) + "}}", value)


def as_expression(value: Any, *, bare: bool = False) -> str:
    """A value of YAML as the expression that gives it.

    Args:
        value: what is written: text with or without expressions, a number, true or false.
        bare: whether text without braces is an expression already, as under `if`.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return "null" if value is None else str(value)
    whole = re.fullmatch(r"\s*\$\{\{(.*?)\}\}\s*", value, re.DOTALL)
    if whole and "${{" not in whole[1]:
        return whole[1].strip()
    if "${{" not in value:
        return value if bare else _quoted(value)
    parts: list[str] = []
    text, place = "", 0
    for found in _EXPRESSION.finditer(value):
        text += _braces(value[place : found.start()]) + f"{{{len(parts)}}}"
        parts.append(found[1].strip())
        place = found.end()
    return f"format({_quoted(text + _braces(value[place:]))}, {', '.join(parts)})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
