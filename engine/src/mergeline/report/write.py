"""Writes the reports of one judged model into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mergeline.files import write_text
from mergeline.report import html, markdown
from mergeline.report.card import compose_card, front_matter
from mergeline.report.compose import compose
from mergeline.report.inputs import ReportInput


class Reports(NamedTuple):
    """Where the reports are: the comment, the page and the model card."""

    markdown: Path
    page: Path
    card: Path


def write_reports(subject: ReportInput, folder: Path) -> Reports:
    """Write `report.md`, `report.html` and `model-card.md`, each whole or not at all.

    Raises:
        OSError: the folder is not writable.
    """
    reports = Reports(folder / "report.md", folder / "report.html", folder / "model-card.md")
    document = compose(subject)
    write_text(reports.markdown, markdown.render(document))
    write_text(reports.page, html.render(document))
    write_text(reports.card, front_matter(subject) + markdown.render(compose_card(subject), level=1))
    return reports
