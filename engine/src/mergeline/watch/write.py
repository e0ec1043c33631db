"""Writes what was found: JSON for machines, Markdown for comments, a page for people, metrics for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mergeline.files import write_json, write_text

if TYPE_CHECKING:
    from mergeline.watch.results import Watched


class Written(NamedTuple):
    """Where the files are."""

    verdict: Path
    markdown: Path
    page: Path
    metrics: Path


def write_watched(watched: Watched, folder: Path) -> Written:
    """Write `watch.json`, `watch.md`, `watch.html` and `mergeline_watch.prom`, each whole or not at all.

    Raises:
        OSError: the folder is not writable.
    """
    from mergeline.report import html, markdown
    from mergeline.watch import prometheus
    from mergeline.watch.report import compose

    written = Written(*(folder / name for name in ("watch.json", "watch.md", "watch.html", "mergeline_watch.prom")))
    document = compose(watched)
    write_json(written.verdict, watched.model_dump(mode="json"))
    write_text(written.markdown, markdown.render(document))
    write_text(written.page, html.render(document))
    write_text(written.metrics, prometheus.render(watched))
    return written
