"""Renders Markdown as GitHub shows it in a comment: tables, folded parts, alerts, charts; nothing that could run."""

from __future__ import annotations

import re
from html import escape

from mergeline.report.document import Chart, ChartSeries
from mergeline.report.html import chart_html

# What GitHub's sanitiser lets through (github.com/gjtorikian/html-pipeline), as far as comments here use it.
_ALLOWED = re.compile(
    "a|b|blockquote|br|code|del|details|div|em|h[1-6]|hr|i|img|kbd|li|ol|p|pre|s|samp|small|span|strike|strong|sub|"
    "summary|sup|table|tbody|td|tfoot|th|thead|tr|tt|ul|var"
)
_ALERT = re.compile(r"<blockquote>\s*<p>\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\](?:<br\s*/?>|\s)*")
_TASK = re.compile(r"<li>(<p>)?\[( |x|X)\] ")
_SIGNS = {"NOTE": "ⓘ", "TIP": "💡", "IMPORTANT": "❗", "WARNING": "⚠", "CAUTION": "🛑"}
_MERMAID = re.compile(r'<pre><code class="language-mermaid">(.*?)</code></pre>', re.DOTALL)


def render(text: str) -> str:
    """The Markdown as HTML."""
    from markdown_it import MarkdownIt

    engine = MarkdownIt("commonmark", {"html": True, "breaks": True}).enable(["table", "strikethrough"])
    html = str(engine.render(text))
    html = re.sub(r"<!--.*?-->", "", html, flags=re.DOTALL)
    html = re.sub(r"</?([a-zA-Z][\w-]*)[^>]*>", _harmless, html)
    html = _alerts(html)
    html = _TASK.sub(_task, html)
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return _MERMAID.sub(lambda found: _chart(found[1]), html)


def _harmless(tag: re.Match[str]) -> str:
    if not _ALLOWED.fullmatch(tag[1].lower()):
        return escape(tag[0])
    if re.search(r"\son\w+\s*=|javascript:|\sstyle\s*=\s*\"(?!text-align:)", tag[0], re.IGNORECASE):
        return f"<{'/' if tag[0].startswith('</') else ''}{tag[1]}>"
    return tag[0]


def _alerts(html: str) -> str:
    """Alerts are quotes that begin with their kind in brackets."""
    parts, place = [], 0
    for found in _ALERT.finditer(html):
        kind = found[1]
        end = html.index("</blockquote>", found.end())
        title = f'<p class="alert-title">{_SIGNS[kind]} {kind.title()}</p>'
        parts += [html[place : found.start()], f'<div class="alert {kind.lower()}">{title}<p>', html[found.end() : end]]
        parts.append("</div>")
        place = end + len("</blockquote>")
    return "".join([*parts, html[place:]])


def _task(found: re.Match[str]) -> str:
    ticked = "" if found[2] == " " else " checked"
    return f'<li class="task">{found[1] or ""}<input type="checkbox" disabled{ticked}> '


def _chart(source: str) -> str:
    """A mermaid chart, drawn as the report's own page draws it; another kind of diagram stays as its source."""
    from html import unescape

    text = unescape(source)
    if "xychart-beta" not in text:
        return f"<pre><code>{source}</code></pre>"
    title = re.search(r'title "([^"]*)"', text)
    x_axis = re.search(r'x-axis "([^"]*)" ([-\d.]+) --> ([-\d.]+)', text)
    y_axis = re.search(r'y-axis "([^"]*)"', text)
    lines = [tuple(float(y) for y in line.split(",")) for line in re.findall(r"line \[([^\]]*)\]", text)]
    if not (x_axis and lines):
        return f"<pre><code>{source}</code></pre>"
    low, high, count = float(x_axis[2]), float(x_axis[3]), len(lines[0])
    grid = tuple(low + (high - low) * place / max(1, count - 1) for place in range(count))
    chart = Chart(
        title[1] if title else "",
        x_axis[1],
        y_axis[1] if y_axis else "",
        grid,
        tuple(ChartSeries(f"line {number}", grid, line, line) for number, line in enumerate(lines, 1)),
    )
    name = f"chart-{abs(hash(source)):x}"
    return f"<section><strong>{escape(chart.title)}</strong>{chart_html(chart, name)}</section>"
