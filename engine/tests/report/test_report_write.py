"""The reports of one model are three files in one folder."""

from __future__ import annotations

from report_samples import make_input

from mergeline.report import html, markdown
from mergeline.report.compose import compose
from mergeline.report.write import write_reports


def test_comment_page_and_card_are_written_into_the_folder(tmp_path):
    subject = make_input()
    reports = write_reports(subject, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "model-card.md",
        "report.html",
        "report.md",
    ]
    assert reports.markdown.read_text(encoding="utf-8") == markdown.render(compose(subject))
    assert reports.page.read_text(encoding="utf-8") == html.render(compose(subject))
    assert "\n---\n\n# Model card: `flights` version 8\n" in reports.card.read_text(encoding="utf-8")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    one = write_reports(make_input(), tmp_path / "one")
    two = write_reports(make_input(), tmp_path / "two")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_newer_report_takes_the_place_of_the_older_one(tmp_path):
    write_reports(make_input(), tmp_path)
    reports = write_reports(make_input(notices=("MLflow did not answer.",)), tmp_path)
    assert "MLflow did not answer." in reports.markdown.read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 3
