"""Turns plain text into Markdown that shows exactly that text, whatever it holds."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from mergeline.report.document import Span, Style

RISKY = re.compile(
    r"""[@#$\\`]              # mentions, references, mathematics, escapes, code
      | :\S                   # emoji shortcodes and schemes
      | //|www\.              # addresses
      | &\S                   # entities
      | [a-z][a-z0-9]*-\d     # references to other trackers, such as GH-12
      | (?<![0-9a-z])[0-9a-f]{7,40}(?![0-9a-z])  # commits""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words that GitHub turns into something else after it has parsed the Markdown, so that no escape stops it.

It leaves code alone, so such a word is shown as code.
"""

MARKUP = re.compile(r"([*_\[\]<>|~&])")
BLOCK_START = re.compile(r"^(\d+(?=[.)](?: |$))|(?=[-+=]))")
"""Where a line would begin a list, a rule or an underlined heading."""

UNBROKEN = "\u00a0"
"""A space that no line breaks at: an interval in a cell stays in one piece."""

Atom = tuple[Style, str]


def inline(spans: tuple[Span, ...], *, cell: bool = False) -> str:
    """Spans as one line of Markdown; in a table's `cell` a pipe in code needs an escape too."""
    written = []
    for style, text in _merged(_atoms(spans)):
        if style == "code":
            written.append(_code(text, cell=cell))
        elif style in {"joined", "muted"} and cell:
            written.append(MARKUP.sub(r"\\\1", text).replace(" ", UNBROKEN))
        elif style == "bold":
            inner = MARKUP.sub(r"\\\1", text)
            body = inner.strip(" ")
            start, end = inner[: len(inner) - len(inner.lstrip(" "))], inner[len(inner.rstrip(" ")) :]
            written.append(f"{start}**{body}**{end}" if body else inner)
        else:
            written.append(MARKUP.sub(r"\\\1", text))
    found = "".join(written).strip(" ")
    return found if cell else BLOCK_START.sub(r"\1\\", found)


def raw_html(spans: tuple[Span, ...]) -> str:
    """Spans as the text of an HTML element that stands in Markdown."""
    written = []
    for style, text in _merged(_atoms(spans)):
        escaped = html.escape(text, quote=False)
        written.append(f"<code>{escaped}</code>" if style == "code" else escaped)
    return "".join(written).strip(" ")


def fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _atoms(spans: tuple[Span, ...]) -> Iterator[Atom]:
    """Words and the spaces between them, the risky words as code."""
    for style, text in _merged((span.style, span.text) for span in spans):
        if style == "code":
            yield style, text
            continue
        for word in re.split(r"( +)", text):
            yield ("code" if RISKY.search(word) else style), word


def _merged(atoms: Iterator[Atom]) -> list[Atom]:
    """Neighbours of one style as one: two runs of code must not touch, and no risky word hides in two halves."""
    merged: list[Atom] = []
    for style, text in atoms:
        if not text:
            continue
        if merged and merged[-1][0] == style:
            merged[-1] = (style, merged[-1][1] + text)
        else:
            merged.append((style, text))
    return merged


def _code(text: str, *, cell: bool) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    shown = text.replace("|", "\\|") if cell else text
    return f"{fence}{pad}{shown}{pad}{fence}"
