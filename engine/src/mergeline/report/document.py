"""The document that every report is: a small tree of plain text, tables and charts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

NAME_LIMIT = 80
PROSE_LIMIT = 600
COMMAND_LIMIT = 500

_FILLERS = frozenset("\u034f\u115f\u1160\u3164\uffa0\u2800")
"""Characters that show as nothing, although Unicode counts them as letters, marks or symbols."""

Style = Literal["plain", "joined", "bold", "code", "muted"]
State = Literal["accepted", "rejected", "inconclusive"]
AlertKind = Literal["NOTE", "WARNING", "CAUTION"]


def visible(text: str, limit: int) -> str:
    """One line of `text` in which every character shows, at most `limit` characters long.

    Controls, direction overrides and zero-width characters become their code point (`‹U+202E›`), so that what
    a reviewer sees is what is there; a longer text loses its middle.
    """
    shown = "".join(_visible_character(character) for character in text[: 4 * limit])
    shown = re.sub(r"\s+", " ", shown).strip()
    if len(text) <= 4 * limit and len(shown) <= limit:
        return shown or "(empty)"
    head = limit * 2 // 3
    tail = shown[-(limit - head - 1) :] if len(text) <= 4 * limit else ""
    return shown[:head] + "…" + tail


def _visible_character(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn"} or character in _FILLERS:
        return f"‹U+{ord(character):04X}›"
    return character


@dataclass(frozen=True, slots=True)
class Span:
    """Some text in one style."""

    text: str
    style: Style = "plain"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that fills `share` (0 to 1) of its width."""

    share: float


@dataclass(frozen=True, slots=True)
class Range:
    """A value with its interval on a line from 0 to 1, and the places on that line to compare it with."""

    low: float
    value: float
    high: float
    marks: tuple[float, ...]


Piece = Span | Bar | Range
Line = tuple[Piece, ...]


def line(*pieces: str | Piece) -> Line:
    """A line of text; a bare string is plain prose."""
    made = tuple(prose(piece) if isinstance(piece, str) else piece for piece in pieces)
    blank = all(isinstance(piece, Span) and not piece.text.strip() for piece in made)
    return (Span(visible("", PROSE_LIMIT)),) if blank else made


def prose(text: str) -> Span:
    """Running text. A space at its end keeps it apart from its neighbour."""
    return Span(_spaced(text))


def _spaced(text: str) -> str:
    if not text.strip():
        return " "
    return (" " if text[0] == " " else "") + visible(text, PROSE_LIMIT) + (" " if text[-1] == " " else "")


def bold(text: str) -> Span:
    """Text that must be seen first."""
    return Span(visible(text, PROSE_LIMIT), "bold")


def joined(text: str) -> Span:
    """Running text that stays on one line with what stands before it in a table's cell."""
    return Span(_spaced(text), "joined")


def muted(text: str) -> Span:
    """Text that may be skipped; in a table's cell it is joined too."""
    return Span(_spaced(text), "muted")


def code(text: str) -> Span:
    """A name or value, exactly as it is in the data or the params."""
    return Span(visible(text, NAME_LIMIT), "code")


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    line: Line


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One line of running text."""

    line: Line


@dataclass(frozen=True, slots=True)
class Facts:
    """A few key figures, each with its name."""

    items: tuple[tuple[str, Line], ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A bulleted list."""

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that the reader must not miss."""

    kind: AlertKind
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column; numbers stand on the right."""

    name: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first cell of a row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Line, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"the table {self.caption!r} has a row of another length than its head")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Lines to copy as they are."""

    language: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One line: the points as measured, and their values at the chart's `grid`."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    sampled: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over numbers; `grid` is evenly spaced, for renderers that can draw nothing else; `whole` counts in x."""

    title: str
    x_label: str
    y_label: str
    grid: tuple[float, ...]
    series: tuple[ChartSeries, ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Details:
    """A part that folds, `open` at first or not. Where room is short, the one with the lowest `rank` goes first."""

    summary: Line
    blocks: tuple[Block, ...]
    rank: int = field(default=0)
    open: bool = False


Block = Heading | Paragraph | Facts | Items | Alert | Table | CodeBlock | Chart | Details


@dataclass(frozen=True, slots=True)
class Document:
    """A verdict or a title, the sentence that explains it, and the rest."""

    title: Line
    why: Line
    state: State
    blocks: tuple[Block, ...]


Cell = str | Piece | Line


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table; a column whose name ends in `>` holds numbers, and a cell may be one piece of text."""
    heads = tuple(Column(visible(name.removesuffix(">"), NAME_LIMIT), name.endswith(">")) for name in columns)
    cells = (tuple(cell if isinstance(cell, tuple) else line(cell) for cell in row) for row in rows)
    return Table(visible(caption, NAME_LIMIT * 2), heads, tuple(cells))


Row = TypeVar("Row")


def first_open(
    rows: Sequence[Row], shown: int, make: Callable[[Sequence[Row]], Block], rest: Callable[[int], str], rank: int
) -> list[Block]:
    """The first rows in the open and the others folded.

    Args:
        rows: one or more.
        shown: how many of them are open.
        make: writes some of them.
        rest: the summary of so many others.
        rank: of the folded part.
    """
    folded = rows[shown:]
    others = [Details(line(rest(len(folded))), (make(folded),), rank=rank)] if folded else []
    return [make(rows[:shown]), *others]
