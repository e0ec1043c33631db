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

_FENCE = re.compile("`{3,}|~{3,}")
_DETAILS = re.compile(r"<details\b", re.IGNORECASE)
_MAX_DETAILS = 100
"""Folded parts in one text: a report has some twenty."""
_MENTION = re.compile(r"@(?!\u200b)")
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot);)(?=#|[A-Za-z])")
"""What the renderer would make characters of, which then mention and refer like any others."""
_REFERENCE = re.compile(r"(?:(?<!&)#|\bGH-|[\\/](?:issues|pull|discussions)\\?/)(?=\d)", re.IGNORECASE)
_HIDDEN = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_SUMMARY = r"<summary>(?:[^<`\r\n]|<code>[^<`\r\n]*</code>)*</summary>|<code>[^<`\r\n]*</code>"
_TAG = re.compile(
    rf"(</?details>|<details open>|{_SUMMARY})|<(?=[A-Za-z/?!])|!(?=\[)|\](?=[(\[]|:(?!:))|\$(?=\$)|~(?=~)"
)
"""The HTML that our reports write, whole; or what begins any other, an image, a link, the target of a link or the text
of a footnote, mathematics of several lines, words that are struck out: our reports have none of those. Others would
stay open, hide what follows or turn it around, and pictures and links can look like ours, or make links of our words.
"""
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
    room = limit - measure(end) - len(_closing(text))
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        room -= measure(line)
        if room < 0:
            break
        kept.append(line)
    shown = "".join(kept).rstrip()
    return shown + _closing(shown) + end


def _closing(text: str) -> str:
    """What ends the code block and the `<details>` that may be open at the end of a text.

    Which fences open and which close depends on lists, quotes and HTML around them. So none is counted: a comment that
    holds a fence ends the block that is open, and is nothing where none is.
    """
    runs: dict[str, int] = {}
    for found in _FENCE.findall(text):
        runs[found[0]] = max(runs.get(found[0], 0), len(found))
    ends = "".join(f"\n\n<!--\n{character * count}\n-->" for character, count in runs.items())
    opened = len(_DETAILS.findall(text))
    return ends + (f"\n\n{'</details>' * opened}" if opened else "")


def defuse(text: str) -> str:
    """Text from a branch that nobody has reviewed yet, so that it notifies nobody and hides nothing.

    Mentions and references keep their look and lose their effect; hidden comments go (a marker of ours could be
    among them), and so do control characters and those that change the direction of writing.
    """
    plain = _HIDDEN.sub("", _CONTROL.sub("", text))
    plain = plain.replace("<!--", "<\u200b!--")  # what stood around one can make another one
    return _REFERENCE.sub("\\g<0>\u200b", _MENTION.sub("@\u200b", _ENTITY.sub("&\u200b", plain)))


def foreign(text: str) -> str:
    """Markdown from a branch that nobody has reviewed, so that it ends where it ends: what it opens is closed.

    Each `<details>` is closed whether it looks closed or not, for a tag in code closes nothing; one more is ignored.
    """
    plain = _without_markup(defuse(text).strip())
    return plain + _closing(plain)


def item(text: str) -> str:
    """Our own sentence as an item of a list: a name or a value in it that strangers chose begins no block of its own.

    Further lines stay lines of the item.
    """
    first, *more = [line.strip() for line in _without_markup(defuse(text)).splitlines() if line.strip()] or [""]
    return "\n  \u200b".join((f"- {first}", *more))


def _without_markup(plain: str) -> str:
    few = len(_DETAILS.findall(plain)) <= _MAX_DETAILS
    return _TAG.sub(lambda found: found[1] if found[1] and few else f"{found[0][0]}\u200b{found[0][1:]}", plain)


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
