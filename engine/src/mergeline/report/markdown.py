"""Writes a document as GitHub-flavoured Markdown that fits in a comment."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mergeline.report import document
from mergeline.report.charts import legend, mermaid
from mergeline.report.document import Bar, Block, Chart, Details, Document, Line, Range, Span, Style, Table, bold
from mergeline.report.words import count

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


LIMIT = 60_000
"""Bytes of UTF-8, so that it holds however the characters are counted."""

ROWS_SHOWN = 40
BAR_WIDTH = 10
RANGE_WIDTH = 15
NOTE_ROOM = 3_000


@dataclass(frozen=True, slots=True)
class _Part:
    """A rendered block; `rank` is None where it is not folded."""

    text: str
    block: Block

    @property
    def rank(self) -> int | None:
        return self.block.rank if isinstance(self.block, Details) else None


def render(report: Document, *, level: int = 2, limit: int = LIMIT) -> str:
    """The whole document, at most `limit` bytes long.

    Where it would be longer, whole folded parts go, the least important first, then what stands last; a
    note says what is missing.
    """
    top = f"{_heading(report.title, level)}\n{inline(_spans(report.why))}"
    parts = [_Part(_block(block, level + 1), block) for block in report.blocks]
    room = limit - _size(top) - 4
    dropped: list[_Part] = []
    while sum(_size(part.text) + 2 for part in parts) > room - (NOTE_ROOM if dropped else 0):
        gone = _least(parts)
        parts.remove(gone)
        dropped.append(gone)
    kept = [part.text for part, after in zip(parts, [*parts[1:], None], strict=True) if not _orphan(part, after)]
    if dropped:
        kept.append(_missing(dropped))
    return "\n\n".join([top, *kept]) + "\n"


def _size(text: str) -> int:
    return len(text.encode())


def _least(parts: list[_Part]) -> _Part:
    """The folded part with the lowest rank, the last of equals; the last part where none is folded."""
    folded = [part for part in parts if part.rank is not None]
    return min(reversed(folded), key=lambda part: part.rank or 0) if folded else parts[-1]


def _orphan(part: _Part, after: _Part | None) -> bool:
    return isinstance(part.block, document.Heading) and (after is None or isinstance(after.block, document.Heading))


def _missing(dropped: list[_Part]) -> str:
    names = [inline(_spans(part.block.summary)) for part in dropped if isinstance(part.block, Details)][:8]
    more = len(dropped) - len(names)
    if more:
        names.append(count(more, "more part"))
    return "> [!NOTE]\n> Left out, because a comment has a limit; the HTML report has them: " + "; ".join(names) + "."


def _block(block: Block, level: int) -> str:  # noqa: PLR0911 - one return a kind of block
    match block:
        case document.Heading():
            return _heading(block.line, level)
        case document.Paragraph():
            return inline(_spans(block.line))
        case document.Facts():
            return " · ".join(f"{inline((bold(name),))}: {inline(_spans(value))}" for name, value in block.items)
        case document.Items():
            return "\n".join(f"- {inline(_spans(item))}" for item in block.lines)
        case document.Alert():
            lines = [inline(_spans(item)) for item in block.lines]
            listed = lines if len(lines) == 1 else [f"- {item}" for item in lines]
            return "\n".join(f"> {item}" for item in [f"[!{block.kind}]", *listed])
        case Table():
            return _table(block)
        case document.CodeBlock():
            return fenced("\n".join(block.lines), block.language)
        case Chart():
            key = legend(block)
            chart = fenced(mermaid(block), "mermaid")
            return f"{inline(key)}\n\n{chart}" if len(block.series) > 1 else chart
        case Details():
            body = "\n\n".join(_folded(inner, level + 1) for inner in block.blocks)
            opened = " open" if block.open else ""
            return f"<details{opened}><summary>{raw_html(_spans(block.summary))}</summary>\n\n{body}\n\n</details>"


def _heading(pieces: Line, level: int) -> str:
    """A heading is bold as it is."""
    spans = (Span(span.text, "plain" if span.style == "bold" else span.style) for span in _spans(pieces))
    return f"{'#' * level} {inline(tuple(spans))}"


def _folded(block: Block, level: int) -> str:
    if not isinstance(block, Table) or len(block.rows) <= ROWS_SHOWN:
        return _block(block, level)
    shown = Table(block.caption, block.columns, block.rows[:ROWS_SHOWN])
    return f"{_table(shown)}\n\n{count(len(block.rows) - ROWS_SHOWN, 'more row')} in the HTML report."


def _table(block: Table) -> str:
    heads = [inline((Span(column.name),), cell=True) for column in block.columns]
    rules = ["--:" if column.numeric else ":--" for column in block.columns]
    rows = [[_cell(cell) for cell in row] for row in block.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rules, *rows])


def _cell(cell: Line) -> str:
    drawn = [_drawing(piece) for piece in cell if not isinstance(piece, Span)]
    return " ".join(part for part in [inline(_spans(cell), cell=True), *drawn] if part)


def _drawing(piece: Bar | Range) -> str:
    if isinstance(piece, Bar):
        filled = round(piece.share * BAR_WIDTH)
        return f"`{'█' * filled}{'░' * (BAR_WIDTH - filled)}`"
    return f"`{range_text(piece)}`"


def range_text(piece: Range) -> str:
    """The interval as one line of characters: `┊` a mark, `━` the interval, `●` the value."""

    def place(share: float) -> int:
        return min(RANGE_WIDTH - 1, max(0, round(share * (RANGE_WIDTH - 1))))

    cells = ["·"] * RANGE_WIDTH
    for mark in piece.marks:
        cells[place(mark)] = "┊"
    for at in range(place(piece.low), place(piece.high) + 1):
        cells[at] = "┿" if cells[at] == "┊" else "━"
    cells[place(piece.value)] = "●"
    return "".join(cells)


def _spans(pieces: Line) -> tuple[Span, ...]:
    return tuple(piece for piece in pieces if isinstance(piece, Span))
