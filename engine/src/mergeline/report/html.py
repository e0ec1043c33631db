"""Writes a document as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources
from itertools import count as counter

from mergeline.report.charts import bar_svg, chart_svg, legend_html, range_svg
from mergeline.report.document import (
    Alert,
    Bar,
    Block,
    Chart,
    CodeBlock,
    Column,
    Details,
    Document,
    Facts,
    Heading,
    Items,
    Line,
    Paragraph,
    Piece,
    Range,
    State,
    Table,
)

TAGS = {"code": "code", "bold": "strong", "muted": "small"}
ALERT_WORDS = {"NOTE": "Note", "WARNING": "Warning", "CAUTION": "Caution"}


def render(document: Document) -> str:
    """The whole document: no script, nothing fetched, readable in light, in dark, on a phone and on paper."""
    title = "".join(piece.text for piece in document.title if not isinstance(piece, Bar | Range))
    ids = counter(1)
    body = "\n".join(_block(block, ids) for block in document.blocks)
    return frame(title, document.state, _line(document.title), _line(document.why), body)


def frame(title: str, state: State, heading: str, why: str, body: str) -> str:
    """A page around a verdict and a body; all but the title are HTML already.

    The content security policy allows the one style sheet by its hash and nothing else.
    """
    style = resources.files("mergeline.report").joinpath("page.css").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<header class="verdict {state}">
<h1>{heading}</h1>
<p>{why}</p>
</header>
{body}
</main>
</body>
</html>
"""


def _block(block: Block, ids: counter[int]) -> str:  # noqa: PLR0911 - one return a kind of block
    match block:
        case Heading():
            return f"<h2>{_line(block.line)}</h2>"
        case Paragraph():
            return f"<p>{_line(block.line)}</p>"
        case Facts():
            pairs = (f"<div><dt>{escape(name)}</dt><dd>{_line(value)}</dd></div>" for name, value in block.items)
            return f'<dl class="facts">{"".join(pairs)}</dl>'
        case Items():
            return f"<ul>{''.join(f'<li>{_line(item)}</li>' for item in block.lines)}</ul>"
        case Alert():
            items = "".join(f"<li>{_line(item)}</li>" for item in block.lines)
            name = ALERT_WORDS[block.kind]
            return f'<section class="alert {block.kind.lower()}"><strong>{name}</strong><ul>{items}</ul></section>'
        case Table():
            return _table(block)
        case CodeBlock():
            return f'<pre tabindex="0"><code>{escape(chr(10).join(block.lines))}</code></pre>'
        case Chart():
            return f"<figure>{legend_html(block)}{chart_svg(block, f'chart{next(ids)}')}</figure>"
        case Details():
            inner = "\n".join(_block(part, ids) for part in block.blocks)
            return f"<details><summary>{_line(block.summary)}</summary>\n{inner}\n</details>"


def _table(block: Table) -> str:
    heads = "".join(f'<th scope="col"{_kind(column)}>{escape(column.name)}</th>' for column in block.columns)
    rows = "".join(f"<tr>{_row(block.columns, row)}</tr>\n" for row in block.rows)
    caption = escape(block.caption)
    kind = "scroll numbers" if all(column.numeric for column in block.columns) else "scroll"
    return (
        f'<div class="{kind}" role="region" tabindex="0" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>"
    )


def _row(columns: tuple[Column, ...], row: tuple[Line, ...]) -> str:
    first = f'<th scope="row"{_kind(columns[0])}>{_line(row[0])}</th>'
    return first + "".join(
        f"<td{_kind(column)}>{_line(cell)}</td>" for column, cell in zip(columns[1:], row[1:], strict=True)
    )


def _kind(column: Column) -> str:
    return ' class="number"' if column.numeric else ""


def _line(pieces: Line) -> str:
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: Piece) -> str:
    if isinstance(piece, Bar):
        return bar_svg(piece)
    if isinstance(piece, Range):
        return range_svg(piece)
    tag = TAGS.get(piece.style)
    return f"<{tag}>{escape(piece.text)}</{tag}>" if tag else escape(piece.text)
