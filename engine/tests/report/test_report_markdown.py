"""A report fits in a comment, and loses whole parts when it must."""

from __future__ import annotations

import re

import pytest
from report_parsing import parse_markdown, tables
from report_samples import make_input

from mergeline.evaluate.results import GateOutcome, Importance, Status
from mergeline.report import html, markdown
from mergeline.report.card import compose_card
from mergeline.report.compose import compose
from mergeline.report.document import Bar, Details, Document, Items, Paragraph, Range, line, table
from mergeline.report.inputs import ReportInput
from mergeline.report.markdown import range_text


def large_input(name: str) -> ReportInput:
    """200 columns, 500 slices, 60 failed checks, all with long names."""
    sample = make_input(outcome=GateOutcome.WORSE)
    comparison = sample.verdict.comparison
    assert comparison is not None
    slices = tuple(
        comparison.slices[place % 19].model_copy(update={"column": name, "value": f"{name}{place}"})
        for place in range(500)
    )
    check = sample.verdict.checks[0].model_copy(
        update={"status": Status.FAIL, "name": name * 5, "case": None, "meaning": name * 20}
    )
    verdict = sample.verdict.model_copy(
        update={
            "comparison": comparison.model_copy(update={"slices": slices}),
            "checks": (check,) * 60,
            "headline": name * 30,
        }
    )
    evaluation = sample.evaluation.model_copy(
        update={
            "importance": tuple(Importance(feature=f"{name}{n}", loss=1 / (n + 1), deviation=0.1) for n in range(200)),
            "curves": sample.evaluation.curves * 6,
        }
    )
    return sample.model_copy(
        update={
            "verdict": verdict,
            "evaluation": evaluation,
            "changes": sample.changes * 40,
            "notices": (name * 30,) * 40,
            "name": name,
        }
    )


@pytest.mark.parametrize("name", ["a column with a long name", "|`*_<@#", "𝒳|\u202e", "`` ` ```" * 20, "字" * 90])
def test_two_hundred_columns_and_five_hundred_slices_fit_in_a_comment(name):
    subject = large_input(name)
    for document in (compose(subject), compose_card(subject)):
        text = markdown.render(document)
        assert len(text) <= len(text.encode()) < 60_000
        assert text.count("<details") == text.count("</details>")
        widths = [{len(row) for row in table} for table in tables(parse_markdown(text))]
        assert all(len(width) == 1 for width in widths)


def test_what_is_left_out_is_the_least_important_and_is_named():
    text = markdown.render(compose(large_input("a column with a long name")), limit=30_000)
    assert len(text.encode()) <= 30_000
    assert (
        "> [!NOTE]\n> Left out, because a comment has a limit; the HTML report has them: 🔍 What the model leans"
        in text
    )
    assert "<summary>🔍" not in text
    assert "### Checks" in text
    assert "### Curves" not in text


def test_a_long_folded_table_stops_after_whole_rows_and_says_how_many_follow():
    block = Details(line("long"), (table("long", ("Name", "Number>"), [(line("a"), line("1"))] * 500),))
    text = markdown.render(Document(line("t"), line("w"), "accepted", (block,)))
    (shown,) = tables(parse_markdown(text))
    assert len(shown) == 41
    assert "460 more rows in the HTML report." in text
    page = html.render(Document(line("t"), line("w"), "accepted", (block,)))
    assert page.count("<tr>") == 501


def test_parts_go_by_rank_and_the_last_of_equals_first():
    def part(name: str, rank: int) -> Details:
        return Details(line(name), (Items((line("x" * 550),) * 7),), rank)

    document = Document(line("t"), line("w"), "accepted", (part("a", 5), part("b", 1), part("c", 1)))
    assert re.findall("<summary>(.)", markdown.render(document)) == ["a", "b", "c"]
    assert re.findall("<summary>(.)", markdown.render(document, limit=11_000)) == ["a", "b"]
    assert re.findall("<summary>(.)", markdown.render(document, limit=7_500)) == ["a"]


def test_where_nothing_is_folded_what_stands_last_goes():
    blocks = tuple(Paragraph(line(f"{place} " + "x" * 500)) for place in range(40))
    text = markdown.render(Document(line("title"), line("why"), "accepted", blocks), limit=8_000)
    assert text.startswith("## title\nwhy\n\n0 xxx")
    assert len(text.encode()) <= 8_000
    assert "39 xxx" not in text
    assert "more parts" in text


def test_small_reports_lose_nothing():
    text = markdown.render(compose(make_input()))
    assert "Left out" not in text
    assert len(text.encode()) < 30_000


def test_an_interval_is_drawn_with_its_marks():
    assert range_text(Range(0.0, 0.5, 1.0, (0.25,))) == "━━━━┿━━●━━━━━━━"
    assert range_text(Range(0.5, 0.5, 0.5, (0.0, 1.0))) == "┊······●······┊"


def test_a_bar_fills_its_share():
    document = Document(line("t"), line("w"), "accepted", (table("bars", ("Name", "Bar"), [(line("a"), (Bar(0.3),))]),))
    assert tables(parse_markdown(markdown.render(document)))[0][1] == ["a", "███░░░░░░░"]


def test_headings_of_the_card_are_one_level_above_those_of_the_report():
    tokens = parse_markdown(markdown.render(compose_card(make_input()), level=1))
    levels = [token.tag for token in tokens if token.type == "heading_open"]
    assert levels[0] == "h1"
    assert set(levels[1:]) == {"h2"}
