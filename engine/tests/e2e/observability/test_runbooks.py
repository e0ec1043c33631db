from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from metric_tools import REPOSITORY, alerts, needs, ran
from typer.main import get_command

from mergeline.cli.verbs import app

FOLDER = REPOSITORY / "docs" / "runbooks"
PAGES = {path: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
SECTIONS = ["What it means", "Look", "Mend", "Take it back"]


def called(text: str) -> list[list[str]]:
    """Every call of `mergeline` in consoles and in sentences, as words."""
    lines = re.findall(r"(?m)^\$ (mergeline .+)$", text) + re.findall(r"`(mergeline [a-z][^`]*)`", text)
    return [shlex.split(line.split(";")[0], comments=True)[1:] for line in lines]


def asked(text: str) -> list[str]:
    """Every query."""
    return re.findall(r"promtool query instant \S+ '(.+)'", text)


def test_every_alert_has_a_page_and_every_page_an_alert():
    named = {REPOSITORY / rule["annotations"]["runbook"]: name for name, rule in alerts().items()}
    assert len(named) == len(alerts())
    assert set(named) == set(PAGES)
    for path, name in named.items():
        severity = alerts()[name]["labels"]["severity"]
        assert PAGES[path].startswith(f"# {name}\n\n**{severity.capitalize()}.** ")


def test_the_table_of_alerts_has_each_with_its_severity_and_its_page():
    table = re.findall(r"(?m)^\| \[(\w+)\]\(([\w/.-]+)\) \| (\w+) \|", (FOLDER.parent / "operate.md").read_text())
    rules = {name: (rule["annotations"]["runbook"], rule["labels"]["severity"]) for name, rule in alerts().items()}
    assert {name: (f"docs/{page}", severity) for name, page, severity in table} == rules


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_what_it_means_where_to_look_how_to_mend_and_how_to_take_back(path):
    assert re.findall(r"(?m)^## (.+)$", PAGES[path]) == SECTIONS
    look = PAGES[path].partition("## Look")[2].partition("## Mend")[0]
    assert "```console\n$ " in look


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_of_a_page_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", PAGES[path]):
        found = path.parent / target
        assert found.exists()
        headings = re.findall(r"(?m)^#+ (.+)$", found.read_text())
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_of_a_page_exist_with_their_options(path):
    for words in called(PAGES[path]):
        command, place = get_command(app), 0
        while (verbs := getattr(command, "commands", None)) is not None:
            command, place = verbs[words[place]], place + 1
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words[place:] if word.startswith("--")} <= known, words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_and_params_that_a_page_names_exist(path):
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for place in re.findall(r"(?<![\w/])deploy/[\w./-]+\w", PAGES[path]):
        assert (REPOSITORY / place).exists() or place == "deploy/signing.pub", place
    for name in re.findall(r"`((?:serve|watch|gate|release|data)\.[\w.]+)", PAGES[path]):
        value = params
        for part in name.split("."):
            assert part in value, name
            value = value[part]


@needs("promtool")
def test_queries_of_the_pages_can_be_asked(tmp_path: Path):
    queries = [query for text in PAGES.values() for query in asked(text)]
    assert len(queries) > 20
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "asked.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    result = ran("promtool", "check", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr
