"""A repository that is made by a recipe works: its tests pass, and its model is proposed again unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mergeline.image.build import find_uv
from toy_data import orders

ENGINE = Path(__file__).parents[3]
LARGEST = 2_000
"""Lines of what a team gets: everything but locks, docs, and what the store and vendor/ hold."""


def run(*command, cwd, code=0):
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def new(folder, *data):
    """Make a repository, and ask nothing."""
    answers = [part for answer in data for part in ("--data", answer)]
    environment = {**os.environ, "UV": str(Path(find_uv()).absolute())}
    command = [sys.executable, "-m", "mergeline.cli", "new", str(folder), "--defaults", *answers]
    return subprocess.run(command, cwd=ENGINE, env=environment, capture_output=True, text=True, check=False)


def stable(folder):
    return yaml.safe_load((folder / "deploy" / "manifest.yaml").read_text())["spec"]["stable"]


@pytest.fixture
def csv(tmp_path):
    """A team's own file: orders, and whether they were returned."""
    path = tmp_path / "orders.csv"
    orders("2024-01", 1500).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("recipe", ["iris", "digits", "diabetes"])
def test_a_recipe_gives_a_repository_whose_tests_pass_and_whose_model_stays_when_it_is_proposed_again(tmp_path, recipe):
    folder = tmp_path / f"my-{recipe}"
    done = new(folder, f"recipe={recipe}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stable(folder)["version"] == 1
    tools = folder / ".venv" / "bin"
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""
    run(str(tools / "pytest"), cwd=folder)
    run(str(tools / "ruff"), "check", ".", cwd=folder)
    run(str(tools / "ruff"), "format", "--check", ".", cwd=folder)
    again = run(str(tools / "mergeline"), "propose", cwd=folder)
    assert "unchanged" in again.stdout.lower() or "already" in again.stdout.lower(), again.stdout
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""


def test_a_file_of_the_teams_own_becomes_a_repository_and_what_was_guessed_is_said(tmp_path, csv):
    folder = tmp_path / "orders"
    done = new(folder, "recipe=blank", f"file={csv}", "target=returned")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stable(folder)["version"] == 1
    readme = (folder / "README.md").read_text()
    assert "task: binary" in readme
    assert "`order` names a row" in readme
    run(str(folder / ".venv" / "bin" / "pytest"), cwd=folder)


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine\n")
    done = new(tmp_path)
    assert done.returncode == 1
    assert "there is something in it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_a_team_gets_is_small_and_names_nothing_of_ours(tmp_path):
    """The template is rendered alone here: what comes after it is what a recipe brings."""
    from mergeline.template.new import adapt, render, template_root

    folder = tmp_path / "orders"
    answers = render(template_root(), folder, {"name": "orders", "owner": "@acme/models"}, defaults=True)
    adapt(template_root(), folder, answers._replace(engine="registry"))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "uv.lock"]
    assert not (folder / "engine").exists()
    assert not (folder / "src" / "flights").exists()
    lines = sum(len(path.read_text().splitlines()) for path in files if "docs" not in path.relative_to(folder).parts)
    assert lines < LARGEST
    named = [path for path in files if path.suffix in {".toml", ".yml"} and "flights" in path.read_text()]
    assert named == []
    assert "@acme/models" in (folder / ".github" / "CODEOWNERS").read_text()
