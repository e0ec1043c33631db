"""Writes values as YAML in flow style."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./:@+-]*")
_NUMBER_LIKE = re.compile(
    r"[0-9._]+([eE][-+]?[0-9]+)?"
    r"|0[xob][0-9A-Fa-f_]+"
    r"|[0-9][0-9_]*(:[0-9.]+)+"  # minutes and seconds, in YAML 1.1
    r"|[0-9]{4}-.*"  # a date
)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf"}
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def flow(value: Any, lines: Sequence[Sequence[str]] = (), indent: int = 0, newline: str = "\n") -> str:
    """`value` in flow style; a mapping is broken after each group of keys in `lines`."""
    if isinstance(value, Mapping):
        groups = [[key for key in line if key in value] for line in lines] or [list(value)]
        rows = [", ".join(f"{scalar(key)}: {flow(value[key])}" for key in group) for group in groups if group]
        return "{" + f",{newline}{' ' * (indent + 1)}".join(rows) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: Any, style: str | None = None) -> str:
    """One value as YAML: a text keeps the quotes `style` that were there, and has them where it needs them."""
    if isinstance(value, str):
        return _text(value, style)
    if isinstance(value, float):
        digits = repr(value)
        return digits if "." in digits or "e" not in digits else digits.replace("e", ".0e")
    return json.dumps(value)


def _text(value: str, style: str | None) -> str:
    """A text: plain only where YAML 1.1 and 1.2 both read it as the same text."""
    if style == "'" and value.isascii() and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    plain = _PLAIN.fullmatch(value) and not _NUMBER_LIKE.fullmatch(value) and not value.endswith(":")
    if plain and style not in ("'", '"') and value.lower() not in _WORDS:
        return value
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
