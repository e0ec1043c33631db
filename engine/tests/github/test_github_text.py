import html
import re
import urllib.parse
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mergeline.github.sanitize import PROSE_CHARACTERS, bytes_of, code_block, cut_markdown, defuse, foreign, item, quote

NOTICE = "*The rest is left out.*"

HTML = (
    "<div>",
    "<div title='",
    '<table><tr><td title="',
    "<a href='https://x.example'>",
    "<ruby><rp>",
    "<del>",
    "<s>",
    "<sub>",
    '<bdo dir="rtl">',
    "<picture><source>",
    "<svg>",
    "<math>",
    "<select>",
    "<xmp>",
    "<plaintext>",
    "<template>",
    "<iframe>",
    "<summary>",
    "<code>",
    "x <code>`</code>`",
    "<h1>",
    "<blockquote>",
    "<ul hidden>",
    "<details title='\n\nx",
    "<b>",
    "<q",
    "</x",
    "<details>" * 300,
    "<details open=''>",
    "<summary><b></summary>",
)
FENCES = (
    "```a`\n```\nb",
    "<details>\n```\n\nb",
    "<details>\n```\n\n```\nb",
    "- a\n  <details>\n```\nb",
    "a\u2028```\n\n```\nb",
    "a\x85~~~\n~~~",
    "> ```\nb",
    "\t```\n\n```",
    "[^1]: ```\n    b",
    "`" * 70 + "\nb",
    "a\r```\rb",
    "~~~ `\n```\n~~~\n```",
    "1. ```\n\n   ~~~\n```\n~~~",
)
PIECES = (
    "```",
    "~~~",
    "````",
    "\n",
    "\n\n",
    "- ",
    "> ",
    "  ",
    "    ",
    "<details>",
    "</details>",
    "<summary>",
    "</summary>",
    "<div>",
    "<a href='",
    "\t",
    "a",
    "`",
    "1. ",
    "\r",
    "\u2028",
    "<!--",
    "-->",
    "[^1]: ",
    "| a |\n|--|\n",
    "<code>",
    "</code>",
    "*",
    "<pre>",
    "<",
)


def around(text, more="\n\nours\n"):
    """The tags around our own word after a text, as a browser opens and closes them; None where it does not show."""
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(f"{text}{more}")

    class Open(HTMLParser):
        found = None

        def handle_starttag(self, tag, attrs):
            self.open = [*getattr(self, "open", []), *([] if tag in {"br", "hr", "img", "source"} else [tag])]

        def handle_endtag(self, tag):
            if tag in getattr(self, "open", []):
                while self.open.pop() != tag:
                    pass

        def handle_data(self, data):
            if data.strip() == "ours":
                self.found = [*self.open]

    parser = Open()
    parser.feed(page)
    return parser.found


class TestCutting:
    def test_a_short_text_stays_as_it_is(self):
        assert cut_markdown("short", 100, NOTICE) == "short"

    @given(st.text(alphabet="ab\n`~<>/details é漢", max_size=600), st.integers(200, 400))
    def test_the_result_never_exceeds_the_limit(self, text, limit):
        assert len(cut_markdown(text, limit, NOTICE)) <= max(limit, 0) or len(text) <= limit
        assert bytes_of(cut_markdown(text, limit, NOTICE, measure=bytes_of)) <= limit

    def test_a_million_characters_on_one_line_leave_the_notice(self):
        assert cut_markdown("x" * 1_000_000, 60_000, NOTICE).strip() == NOTICE

    @pytest.mark.parametrize("fence", ["```", "~~~~", "``````"])
    def test_the_notice_is_not_inside_a_code_block(self, fence):
        text = f"{fence}python\n" + "code\n" * 1000 + fence

        html = MarkdownIt("commonmark").render(cut_markdown(text, 1000, NOTICE))

        assert "<em>The rest is left out.</em>" in html

    def test_the_notice_is_not_inside_details_that_nobody_opened(self):
        text = "<details><summary>all</summary>\n\n" + "line\n" * 1000 + "</details>\n"

        cut = cut_markdown(text, 1000, NOTICE)

        assert cut.index("</details>") < cut.index(NOTICE)

    def test_whole_lines_stay(self):
        cut = cut_markdown("| a | b |\n" * 500, 1000, NOTICE)

        assert set(cut.splitlines()) == {"| a | b |", "", NOTICE}


class TestDefusing:
    @pytest.mark.parametrize(
        "mention",
        ["@octocat", "**@org/team**", "`@octocat", "_@octocat_", "&#64;octocat", "&#x40;octocat", "&commat;octocat",
         "@&#111;ctocat", "x<!-- -->@octocat", "@<!-- -->octocat", "\\@octocat"],
    )  # fmt: skip
    def test_nobody_is_notified(self, mention):
        shown = MarkdownIt("commonmark", {"html": True}).render(defuse(mention))

        assert "\u200b" in shown
        assert "@o" not in html.unescape(shown)

    @pytest.mark.parametrize(
        "reference",
        ["&#35;12", "&#x23;12", "&num;12", "#&#49;2", "GH&#45;12", "[a](https://github.com/o/r/issues&sol;12)",
         "[a](https://github.com/o/r/issues\\/12)", "[a](https://github.com/o/r\\/issues/12)", "/discussions/12"],
    )  # fmt: skip
    def test_what_the_renderer_makes_of_it_is_no_reference_either(self, reference):
        shown = html.unescape(MarkdownIt("commonmark", {"html": True}).render(defuse(reference)))

        assert not re.search(r"(#|GH-|/(issues|pull|discussions)/)\d", urllib.parse.unquote(shown).replace("<", " <"))

    @pytest.mark.parametrize(
        "report",
        ["<details><summary>x</summary>", "<details>\n`</details>`", "<details open>\n\n```\n</details>\n",
         "```\n<details>", "~~~~\nx", "<details><details><details>", "a <DETAILS\n>", "`" * 40, "<?php", "<!DOCTYPE",
         "<![CDATA[ x", "<pre>", "<details>\n<TextArea>", "<script>", "x\n<STYLE >"],
    )  # fmt: skip
    def test_what_a_report_opens_ends_with_it(self, report):
        assert around(foreign(report)) == ["p"]

    @pytest.mark.parametrize("tag", HTML)
    def test_html_that_is_not_our_reports_opens_nothing(self, tag):
        assert around(foreign(tag)) == ["p"]
        assert around(foreign(f"a\n\n{tag}\n\nb")) == ["p"]

    @pytest.mark.parametrize("report", FENCES)
    def test_a_fence_that_only_some_readers_see_ends_with_the_report(self, report):
        assert around(foreign(report)) == ["p"]
        assert around(cut_markdown(foreign(report + "\n" + "line\n" * 999), 2000, "ours"), "") == ["p"]

    @given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
    def test_whatever_a_report_is_made_of_ends_with_it(self, report):
        assert around(foreign(report)) == ["p"]
        whole = foreign("line\n" * 200 + report + "\n" + "line\n" * 200)
        assert around(cut_markdown(whole, 1000, "ours"), "") == ["p"]

    @pytest.mark.parametrize(
        "report",
        ["[gate]: https://x.example", "[gate]:\n  https://x.example 'title'", "> [gate]: https://x.example",
         "- a\n  [gate]: <https://x.example>", "[ga\\te]: /x\n[gate]: /x", "[GATE]: /x", "[^gate]: a\n\n    b"],
    )  # fmt: skip
    def test_a_report_makes_no_link_of_a_word_of_ours(self, report):
        shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"{item('the [gate] changes')}\n\n{foreign(report)}")
        assert "<a" not in shown

    @pytest.mark.parametrize("text", ["[run](https://x.example)", "[run][x]\n\n[x]: /y", "[a [b](/x)](/y)", "![a][x]"])
    def test_no_link_of_a_strangers_looks_like_one_of_ours(self, text):
        for shown in (foreign(text), item(text)):
            assert "<a" not in MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(shown)

    def test_words_of_ours_between_two_values_of_a_strangers_are_not_struck_out(self):
        shown = MarkdownIt("gfm-like", {"linkify": False}).render(item("gate.a ~~x and gate.b changed y~~"))
        assert "<s>" not in shown

    def test_mathematics_do_not_reach_from_one_models_report_into_what_is_said_of_the_next(self):
        assert "$$" not in foreign("$$\n\\begin{align}") + foreign("$$$")

    def test_what_our_reports_fold_stays_folded(self):
        report = (
            "<details open><summary>a <code>b</code> &amp; c</summary>\n\n```mermaid\nx < y\n```\n\n</details>\n\n1 < 2"
        )
        assert foreign(report).startswith(report)

    def test_no_picture_comes_out_of_a_report(self):
        shown = MarkdownIt("commonmark", {"html": True}).render(foreign("![a](https://x.example/a.png) <img src=x>"))
        assert "<img" not in shown

    @pytest.mark.parametrize(
        "words", ["a\n\n### ✅ Accepted", "a\n```\nb", "a\n===", "a\n\n> b", "a\n- [ ] b", "<h1>a", "a\r\r# b"]
    )
    def test_a_name_in_a_sentence_of_ours_begins_no_block(self, words):
        shown = MarkdownIt("commonmark", {"html": True}).render("\n".join([item(f"❌ x: {words}"), item("ours")]))
        assert set(re.findall(r"<(\w+)", shown)) == {"ul", "li"}
        assert shown.count("<li>") == 2

    def test_a_reference_makes_no_link(self):
        assert "#1" not in defuse("see #1 and owner/repo#12")
        assert defuse("# 1 heading") == "# 1 heading"

    @pytest.mark.parametrize("text", ["GH-12", "gh-12", "https://github.com/o/r/issues/12", "o/r/pull/12#note"])
    def test_a_reference_in_other_words_makes_no_link_either(self, text):
        assert defuse(text).replace("\u200b", "") == text
        assert "\u200b12" in defuse(text)
        assert defuse("GH-actions, high-12") == "GH-actions, high-12"

    def test_hidden_text_goes_even_where_it_does_not_end(self):
        assert defuse("a<!-- mergeline:report -->b<!-- and the rest") == "ab"

    @pytest.mark.parametrize("text", ["<!<!-- x -->-- mergeline:report -->", "<<!-- x -->!-- a -->", "<!-<!-- -->- b"])
    def test_hidden_text_goes_even_where_another_one_is_in_its_marks(self, text):
        assert "<!--" not in defuse(text)

    def test_control_and_direction_characters_go(self):
        assert defuse("a\x00b\x1bc\u202ed\u2066e\tf\n") == "abcde\tf\n"

    def test_words_numbers_and_tables_stay(self):
        text = "| `roc_auc` ↑ | 0.7611 \\[0.7551, 0.7668\\] |\n> [!NOTE]\n> é 漢 🎉\n"

        assert defuse(text) == text

    def test_doing_it_twice_is_doing_it_once(self):
        assert defuse(defuse("@a #1 &#64;b")) == defuse("@a #1 &#64;b")


@given(st.text(alphabet="`a\n ", max_size=60))
def test_no_text_ends_its_code_block(text):
    html = MarkdownIt("commonmark").render(code_block(text) + "\n\nafter")

    assert html.endswith("<p>after</p>\n")
    assert html.count("<pre>") == 1


@given(st.text(alphabet="`ab @#1\n", max_size=400))
def test_quoted_sentences_keep_their_words_in_lines_that_need_no_scrolling(text):
    quoted = quote(text)
    lines = quoted.splitlines()[1:-1]

    assert " ".join("\n".join(lines).split()) == " ".join(defuse(text).split())
    assert all(len(line) <= PROSE_CHARACTERS or " " not in line.strip() for line in lines)
    assert MarkdownIt("commonmark").render(quoted + "\n\nafter").endswith("<p>after</p>\n")
