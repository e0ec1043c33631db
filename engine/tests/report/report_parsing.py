"""Reads written reports back with a real CommonMark parser and a real HTML parser."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

OUR_HTML = re.compile(r"<details(?: open)?><summary>(?P<summary>[^\n]*)</summary>\n?|</details>\n?")
LIVE = re.compile(
    r"[@#$]|https?:|www\.|\bgh-\d|:[\w+-]+:|//|\w+@\w|(?<![0-9a-z])[0-9a-f]{7,40}(?![0-9a-z])", re.IGNORECASE
)
"""What GitHub turns into a mention, a reference, a link, an emoji or mathematics once Markdown has become text."""


def parse_markdown(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def inner_text(token: Token) -> str:
    """What a reader sees of an inline token."""
    return "".join(child.content for child in token.children or []).replace("\u00a0", " ")


def live_text(tokens: list[Token]) -> list[str]:
    """The stretches of text, outside code, that would come alive on GitHub."""
    texts = [c.content for t in tokens for c in t.children or [] if c.type == "text"]
    texts += [unescape(re.sub(r"<code>.*?</code>|<[^>]*>", "", t.content)) for t in tokens if t.type == "html_block"]
    return [text for text in texts if LIVE.search(text)]


def foreign_markup(tokens: list[Token]) -> list[str]:
    """Links, images and HTML that we did not write."""
    found = [
        child.type
        for token in tokens
        for child in token.children or []
        if child.type not in {"text", "code_inline", "strong_open", "strong_close", "softbreak"}
    ]
    for token in tokens:
        if token.type == "html_block":
            match = OUR_HTML.fullmatch(token.content)
            summary = re.sub(r"</?code>", "", match["summary"] or "") if match else "<"
            found += [token.content] if "<" in summary or ">" in summary else []
    return found


def tables(tokens: list[Token]) -> list[list[list[str]]]:
    """The text of every cell of every table."""
    found: list[list[list[str]]] = []
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in {"th_open", "td_open"} and after is not None:
            found[-1][-1].append(inner_text(after).strip())
    return found


def headings(tokens: list[Token]) -> list[str]:
    """What every heading says, from the top."""
    return [inner_text(after) for token, after in pairwise(tokens) if token.type == "heading_open"]


@dataclass
class Page(HTMLParser):
    """The tags, attributes and text of an HTML page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)
    text: str = ""
    style: str = ""
    badly_nested: list[str] = field(default_factory=list)

    VOID = ("meta", "link", "br")

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.badly_nested.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] == "style":
            self.style += data
        else:
            self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def parse_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page
