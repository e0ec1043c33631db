"""The HTML page stands alone, runs nothing, and can be read by everyone."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from report_parsing import inner_text, parse_markdown, parse_page
from report_samples import make_input

from mergeline.evaluate.results import GateOutcome
from mergeline.params import Task
from mergeline.report import html, markdown
from mergeline.report.compose import compose
from mergeline.report.document import Bar, Block, Chart, CodeBlock, Details, Document, Facts, Line, Range, Span, Table
from mergeline.report.inputs import ReportInput

EVERY = [make_input(task, outcome) for task in Task for outcome in GateOutcome]


def page_of(subject: ReportInput) -> str:
    return html.render(compose(subject))


@pytest.mark.parametrize("subject", EVERY)
def test_the_page_asks_nobody_for_anything_and_runs_nothing(subject):
    page = parse_page(page_of(subject))
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in {"src", "href", "style", "srcset", "action"}}
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "a",
    }
    values = [value or "" for _, attributes in page.tags for value in attributes.values()]
    assert not [value for value in values if re.search(r"https?:|//|javascript:|url\(", value)]
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_the_policy_allows_the_one_style_sheet_and_nothing_else():
    page = parse_page(page_of(make_input()))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]


@pytest.mark.parametrize("subject", EVERY)
def test_every_table_has_heads_and_every_chart_a_title_and_a_description(subject):
    text = page_of(subject)
    page = parse_page(text)
    assert page.badly_nested == []
    assert page.open_tags == []
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [svg for svg in page.all("svg") if "aria-hidden" not in svg]
    assert len(charts) == len(subject.evaluation.curves)
    for chart in charts:
        assert chart["role"] == "img"
        assert set((chart["aria-labelledby"] or "").split()) <= set(ids)


def test_the_page_is_made_for_phones_and_for_both_colour_schemes():
    page = parse_page(page_of(make_input()))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert "prefers-color-scheme: dark" in page.style
    assert page.all("html") == [{"lang": "en"}]


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_and_lines_stand_out_from_their_ground(scheme):
    blocks = re.findall(r":root \{(.*?)\}", parse_page(page_of(make_input())).style, flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", blocks[scheme]))
    for ground in ("ground", "raised"):
        for ink in ("ink", "quiet", "good", "bad", "unsure", "note"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for number in range(1, 9):
            assert contrast(colours[f"s{number}"], colours[ground]) >= 3, (number, ground)


def lines_of(block: Block) -> list[Line]:
    match block:
        case Table():
            return [cell for row in block.rows for cell in row] + [(Span(column.name),) for column in block.columns]
        case Facts():
            return [found for name, value in block.items for found in ((Span(name),), value)]
        case Details():
            return [block.summary, *(found for inner in block.blocks for found in lines_of(inner))]
        case CodeBlock():
            return [(Span(found),) for found in block.lines]
        case Chart():
            return [(Span(found.name),) for found in block.series if len(block.series) > 1]
        case _:
            return list(block.lines) if hasattr(block, "lines") else [block.line]


def facts_of(document: Document) -> list[str]:
    lines = [document.title, document.why, *(found for block in document.blocks for found in lines_of(block))]
    spans = [piece for found in lines for piece in found if not isinstance(piece, Bar | Range)]
    return [word for span in spans for word in span.text.split()]


@pytest.mark.parametrize("subject", EVERY)
def test_the_page_and_the_comment_carry_the_same_facts(subject):
    document = compose(subject)
    tokens = parse_markdown(markdown.render(document))
    in_comment = " ".join(
        inner_text(token) if token.children else re.sub(r"<[^>]*>", "", token.content).replace("&amp;", "&")
        for token in tokens
    )
    in_page = parse_page(html.render(document)).text
    facts = facts_of(document)
    assert len(facts) > 500
    assert [word for word in facts if word not in in_comment] == []
    assert [word for word in facts if word not in in_page] == []


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(GateOutcome.BETTER, "accepted"), (GateOutcome.WORSE, "rejected"), (GateOutcome.INCONCLUSIVE, "inconclusive")],
)
def test_the_verdict_colours_the_head_of_the_page(outcome, state):
    assert parse_page(page_of(make_input(outcome=outcome))).all("header") == [{"class": f"verdict {state}"}]
