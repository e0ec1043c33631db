"""Text from data, params and branches stays text, whatever it holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_parsing import foreign_markup, live_text, parse_markdown, parse_page, tables
from report_samples import CHANGES, LINEAGE, make_input

from mergeline.evaluate.results import Curve, Estimate, GateOutcome, SliceChange
from mergeline.model.lineage import Change
from mergeline.report import html, markdown
from mergeline.report.card import compose_card
from mergeline.report.compose import compose
from mergeline.report.document import Details, Document, Heading, Items, Paragraph, Span, code, line, prose, table
from mergeline.report.inputs import ReportInput

ATTACKS = (
    "|", "||", "\\|", "\\", "`", "``", "```", "~~~", "\n", "\r\n", "\n\n", "\t", "</details>", "<details>", "<!-- -->",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td>", "</style>", "&lt;", "&#64;", "&",
    "@octocat", "@org/team", "#12", "owner/repo#12", "owner/repo@8c1f0a2b8c1f0a2b", "GH-12", "JIRA-7",
    "https://evil.example/a", "http://evil.example", "www.evil.example", "ftp://evil.example", "me@evil.example",
    "mailto:me@evil.example", "[text](https://evil.example)", "![image](//evil.example/x.png)", "[text]: /url",
    "[^1]", "[ ]", "- [x] ", "1. ", "# ", "===", "---", "***", "**", "__", "~~", "*a*", "_a_", "> ", "> [!NOTE]",
    ":tada:", "$x^2$", "$$",
    "8c1f0a2b8c1f0a2b8c1f0a2b8c1f0a2b8c1f0a2b", "javascript:alert(1)", '"', "'", "]", "%%{init: {}}%%",
    "%% comment", "end", "xychart-beta", "click a href", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\x00",
    "\x1b[31m", "\ud800", "\u2028", "\u115f", "e\u0301", "العربية", "x" * 200, " ", "a", "UA",
)  # fmt: skip
hostile = st.lists(st.one_of(st.sampled_from(ATTACKS), st.text(max_size=6)), min_size=1, max_size=5).map("".join)


@given(st.lists(st.tuples(hostile, hostile, hostile), min_size=1, max_size=3), st.tuples(hostile, hostile, hostile))
def test_a_table_keeps_its_shape_and_shows_each_cell_as_it_is(rows, heads):
    block = table("a table", heads, [[line(code(a)), line(b), line("= ", code(c), ", so")] for a, b, c in rows])
    tokens = parse_markdown(markdown.render(Document(line("title"), line("why"), "accepted", (block,))))
    shown = [[column.name for column in block.columns]]
    shown += [["".join(p.text for p in cell if isinstance(p, Span)).strip() for cell in row] for row in block.rows]
    assert tables(tokens) == [shown]
    assert foreign_markup(tokens) == []
    assert live_text(tokens) == []


@given(hostile, hostile, hostile)
def test_prose_headings_lists_and_summaries_show_text_as_it_is(first, second, third):
    blocks = (
        Heading(line(first)),
        Paragraph(line(second)),
        Items((line(third), line(code(third), prose(" and "), code(first)))),
        Details(line(second, " ", code(third)), (Paragraph(line(first)),)),
    )
    tokens = parse_markdown(markdown.render(Document(line(first), line(second), "rejected", blocks)))
    assert [token.type for token in tokens if token.level == 0 and token.nesting >= 0 and token.type != "inline"] == [
        "heading_open", "paragraph_open", "heading_open", "paragraph_open", "bullet_list_open",
        "html_block", "paragraph_open", "html_block",
    ]  # fmt: skip
    assert foreign_markup(tokens) == []
    assert live_text(tokens) == []


def poisoned(bad: str) -> ReportInput:
    """A judged model in which every text that can come from outside is `bad`."""
    sample = make_input(outcome=GateOutcome.WORSE)
    comparison = sample.verdict.comparison
    assert comparison is not None
    slices = tuple(
        SliceChange.model_validate(change.model_dump() | {"column": bad, "value": bad}) for change in comparison.slices
    )
    checks = tuple(
        check.model_copy(
            update={
                "name": bad,
                "value": bad,
                "bound": bad,
                "meaning": bad,
                "names": dict.fromkeys(check.names, bad),
            }
        )
        for check in sample.verdict.checks
    )
    verdict = sample.verdict.model_copy(
        update={
            "headline": bad,
            "checks": checks,
            "comparison": comparison.model_copy(update={"slices": slices}),
        }
    )
    told = sample.evaluation
    confusion = told.confusion
    assert confusion is not None
    holdout = told.holdout.model_copy(update={"partitions": (bad,), "first": bad, "last": bad})
    evaluation = told.model_copy(
        update={
            "holdout": holdout,
            "slices": tuple(found.model_copy(update={"column": bad, "value": bad}) for found in told.slices),
            "importance": tuple(found.model_copy(update={"feature": bad}) for found in told.importance),
            "stress": tuple(found.model_copy(update={"name": bad, "error": bad}) for found in told.stress),
            "fairness": tuple(
                found.model_copy(
                    update={
                        "column": bad,
                        "gaps": {bad: 0.1},
                        "groups": tuple(group.model_copy(update={"group": bad}) for group in found.groups),
                    }
                )
                for found in told.fairness
            ),
            "confusion": confusion.model_copy(update={"labels": (bad, bad + "2")}),
            "curves": tuple(poisoned_curve(curve, bad) for curve in told.curves),
        }
    )
    return sample.model_copy(
        update={
            "name": bad,
            "evaluation": evaluation,
            "verdict": verdict,
            "changes": tuple(
                Change(kind=change.kind, what=bad, before=bad, after=bad) for change in (*CHANGES, *CHANGES, *CHANGES)
            ),
            "lineage": LINEAGE.model_copy(
                update={"training": {"model": {bad: bad}}, "libraries": {bad: bad}, "partitions": (bad,), "data": bad}
            ),
            "base_commit": bad,
            "commands": (bad, bad),
            "notices": (bad,),
        }
    )


def poisoned_curve(curve: Curve, bad: str) -> Curve:
    series = tuple(found.model_copy(update={"name": bad}) for found in curve.series)
    return curve.model_copy(update={"title": bad, "x_label": bad, "y_label": bad, "series": series})


def shape(text: str) -> list[tuple[str, int]]:
    """The blocks of a Markdown text and how wide each row is, without what they say."""
    return [(t.type, t.level) for t in parse_markdown(text) if t.type not in {"inline", "html_block"}]


PLAIN_SHAPE = shape(markdown.render(compose(poisoned("plain"))))
PLAIN_PAGE = parse_page(html.render(compose(poisoned("plain"))))


@settings(max_examples=settings().max_examples // 5)
@given(hostile)
def test_a_report_of_hostile_names_has_the_shape_of_a_report_of_plain_names(bad):
    subject = poisoned(bad)
    for document, level in ((compose(subject), 2), (compose_card(subject), 1)):
        text = markdown.render(document, level=level)
        tokens = parse_markdown(text)
        assert foreign_markup(tokens) == []
        assert live_text(tokens) == []
        assert text.count("\n<details") == text.count("\n</details>")
    assert shape(markdown.render(compose(subject))) == PLAIN_SHAPE


@settings(max_examples=settings().max_examples // 5)
@given(hostile)
def test_a_page_of_hostile_names_has_the_tags_of_a_page_of_plain_names(bad):
    page = parse_page(html.render(compose(poisoned(bad))))
    plain = PLAIN_PAGE
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in page.tags] == [sorted(attributes) for _, attributes in plain.tags]
    assert page.badly_nested == []


CHART_LINE = re.compile(
    r"""%%\{init:\ \{'themeVariables':\ \{'xyChart':\ \{'plotColorPalette':\ '[#0-9a-f,\ ]+'\}\}\}\}%%
      | xychart-beta
      | \ \ title\ "[\w\ .,()+=/°’-]+"
      | \ \ [xy]-axis\ "[\w\ .,()+=/°’-]+"\ -?[\d.]+\ -->\ -?[\d.]+
      | \ \ line\ \[-?[\d.]+(,\ -?[\d.]+)*\]""",
    re.VERBOSE,
)


@settings(max_examples=settings().max_examples // 5)
@given(hostile)
def test_a_chart_holds_nothing_but_numbers_and_harmless_labels(bad):
    tokens = parse_markdown(markdown.render(compose(poisoned(bad))))
    charts = [token.content for token in tokens if token.type == "fence" and token.info == "mermaid"]
    assert len(charts) == 4
    for chart in charts:
        assert [found for found in chart.splitlines() if not CHART_LINE.fullmatch(found)] == []


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\x00", "\x1b", "\u115f", "\ud800"]
)
def test_a_character_that_does_not_show_becomes_its_code_point(hidden):
    assert code(f"late{hidden}arrival").text == f"late‹U+{ord(hidden):04X}›arrival"
    for written in (markdown.render(compose(poisoned(hidden))), html.render(compose(poisoned(hidden)))):
        assert hidden not in written


def test_a_very_long_name_loses_its_middle_and_keeps_its_ends():
    shown = code("begin" + "x" * 500_000 + "end").text
    assert len(shown) <= 80
    assert shown.startswith("beginxxx")
    assert "…" in shown
    assert code("begin" + "x" * 100 + "end").text.endswith("xend")


def test_an_empty_name_is_named():
    assert code("").text == "(empty)"
    assert code(" \n ").text == "(empty)"


def test_a_code_block_is_not_closed_by_backticks_in_a_command():
    subject = make_input(commands=("echo '```'", "echo '`````'"))
    fences = [t for t in parse_markdown(markdown.render(compose(subject))) if t.type == "fence" and t.info == "bash"]
    assert [fence.content for fence in fences] == ["echo '```'\necho '`````'\n"]


def test_an_estimate_that_is_no_number_is_called_undefined():
    subject = make_input()
    comparison = subject.verdict.comparison
    assert comparison is not None
    broken = comparison.metrics[0].model_copy(update={"gain": Estimate(value=float("nan"))})
    verdict = subject.verdict.model_copy(
        update={"comparison": comparison.model_copy(update={"metrics": (broken, *comparison.metrics[1:])})}
    )
    text = markdown.render(compose(subject.model_copy(update={"verdict": verdict})))
    assert "undefined" in text
    assert "nan" not in text
