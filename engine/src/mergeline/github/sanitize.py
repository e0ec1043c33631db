"""Cuts Markdown to what GitHub takes, and takes the sting out of text that strangers wrote."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

COMMENT_CHARACTERS = 60_000
"""GitHub refuses a comment of more than 65,536 characters; the rest is for the marker and what clients add."""
SUMMARY_BYTES = 1_000_000
"""GitHub drops the whole summary of a step that is larger than 1 MiB."""

PROSE_CHARACTERS = 100
"""Where a line of prose is wrapped: about as much as a comment shows."""

_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_DETAILS = re.compile(r"<(?P<close>/?)details\b", re.IGNORECASE)
_MENTION = re.compile(r"@(?!\u200b)")
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot);)(?=#|[A-Za-z])")
"""What the renderer would make characters of, which then mention and refer like any others."""
_REFERENCE = re.compile(r"(?:(?<!&)#|\bGH-|[\\/](?:issues|pull|discussions)\\?/)(?=\d)", re.IGNORECASE)
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_RAW = re.compile(r"<(?=[?!]|(?:pre|script|style|textarea)\b)", re.IGNORECASE)
"""What begins HTML that ends at a word of its own, and nowhere if that does not come."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def bytes_of(text: str) -> int:
    """The length of `text` in UTF-8."""
    return len(text.encode("utf-8", errors="replace"))


def cut_markdown(text: str, limit: int, notice: str, *, measure: Callable[[str], int] = len) -> str:
    """`text` if it is short enough, or as many whole lines of it as fit, and `notice` below them.

    A code block or a `<details>` that was open at the cut is closed, so that the notice can be read.

    Args:
        text: Markdown.
        limit: the most that the result may have, by `measure`.
        notice: what is told in place of the rest.
        measure: counts a text; characters if not given.
    """
    if measure(text) <= limit:
        return text
    end = "\n\n" + notice
    room = limit - measure(end) - 64  # what closes two dozen blocks at most; see _closing
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        room -= measure(line)
        if room < 0:
            break
        kept.append(line)
    return "".join(kept).rstrip() + _closing(kept)[:64] + end


def _closing(lines: list[str]) -> str:
    """What closes the code block and the `<details>` that are open after these lines."""
    fence, details = "", 0
    for line in lines:
        found = _FENCE.match(line.rstrip("\n"))
        if found and not fence:
            fence = found["fence"]
        elif found and found["fence"].startswith(fence) and not found["info"].strip():
            fence = ""
        elif not fence:
            for tag in _DETAILS.finditer(line):
                details = max(0, details + (-1 if tag["close"] else 1))
    return (f"\n{fence}" if fence else "") + "\n</details>" * min(details, 2)


def defuse(text: str) -> str:
    """Text from a branch that nobody has reviewed yet, so that it notifies nobody and hides nothing.

    Mentions and references keep their look and lose their effect; hidden comments go (a marker of ours could be
    among them), and so do control characters and those that change the direction of writing.
    """
    plain = _CONTROL.sub("", text)
    while (shorter := _HIDDEN.sub("", plain)) != plain:  # what stood around a comment can make another one
        plain = shorter
    return _REFERENCE.sub("\\g<0>\u200b", _MENTION.sub("@\u200b", _ENTITY.sub("&\u200b", plain)))


def foreign(text: str) -> str:
    """Markdown from a branch that nobody has reviewed, so that it ends where it ends: what it opens is closed.

    Each `<details>` is closed whether it looks closed or not, for a tag in code closes nothing; one more is ignored.
    """
    lines = _RAW.sub("&lt;", defuse(text)).strip().splitlines(keepends=True)
    fence, _, _ = _closing(lines).partition("\n</details>")
    opened = sum(not tag["close"] for line in lines for tag in _DETAILS.finditer(line))
    return "".join(lines) + fence + (f"\n\n{'</details>' * min(opened, 200)}" if opened else "")


def code_block(text: str) -> str:
    """`text` as a code block that it cannot end itself."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.strip()}\n{fence}"


def quote(text: str) -> str:
    """Sentences from outside as they are: a code block, whose long lines are wrapped, for GitHub does not wrap them."""
    lines = [
        textwrap.fill(line, PROSE_CHARACTERS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in defuse(text).splitlines()
    ]
    return code_block("\n".join(lines))
