"""Writes a document as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from mergeline.report.charts import draw
from mergeline.report.document import Chart, Document, Span, State

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE, TEMPLATES = "mergeline.report", "templates"


def render(document: Document) -> str:
    """The whole document: no script, nothing fetched, readable in light, in dark, on a phone and on paper."""
    title = "".join(piece.text for piece in document.title if isinstance(piece, Span))
    return fill("document.html.jinja", title, document.state, document=document)


def fill(template: str, title: str, state: State, **values: Any) -> str:
    """A page made of a template that extends `frame.html.jinja`; every value is escaped.

    The content security policy allows the one style sheet by its hash and nothing else.
    """
    style = resources.files(PACKAGE).joinpath(TEMPLATES, "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    found = _environment().get_template(template)
    return found.render(title=title, state=state, style=style, style_digest=digest, **values)


def chart_html(chart: Chart, name: str) -> str:
    """The chart with its legend; `name` makes its ids unique on the page."""
    drawings: Any = _environment().get_template("drawings.html.jinja").module
    return str(drawings.figure_of(chart, name))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(PACKAGE, TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"kind": lambda part: type(part).__name__.lower(), "drawn": draw}
    return environment
