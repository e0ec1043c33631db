"""What docs/ link to is there in the repositories that are made from the template, too."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LEFT_OUT = {
    pattern.lstrip("/")
    for pattern in yaml.safe_load((ROOT / "copier.yml").read_text())["_exclude"]
    if pattern.startswith("/")
}


def dead_links(text: str, page: Path) -> list[str]:
    targets = {link: (page.parent / link).resolve().relative_to(ROOT) for link in LINK.findall(text)}
    return [
        link
        for link, path in targets.items()
        if not (ROOT / path).exists() or not LEFT_OUT.isdisjoint(map(str, (path, *path.parents)))
    ]


def test_a_link_that_a_made_repository_has_no_file_for_is_found():
    page = ROOT / "docs" / "serve.md"
    text = "[a](../engine/benchmarks/README.md#serving) [b](nothing.md) [c](watch.md#x) [d](https://a.b/c) [e](#here)"
    assert dead_links(text, page) == ["../engine/benchmarks/README.md", "nothing.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_relative_link_of_the_docs_is_dead_in_a_made_repository(page):
    assert dead_links(page.read_text(), page) == []
