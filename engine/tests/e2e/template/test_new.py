"""A repository that is made by a recipe works: its tests pass, and its model is proposed again unchanged."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mergeline.image.build import find_uv
from toy_data import orders

pytestmark = pytest.mark.slow
ENGINE = Path(__file__).parents[3]
LARGEST = 2_000
"""Lines of what a team gets, without docs, what is made (the lock, the schemas), the store and vendor/."""
MADE = {"uv.lock", "manifest.schema.json", "params.schema.json"}


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


@pytest.mark.parametrize("recipe", ["iris", "digits", "diabetes", "fraud"])
def test_a_recipe_gives_a_repository_whose_tests_pass_and_whose_model_stays_when_it_is_proposed_again(tmp_path, recipe):
    folder = tmp_path / f"my-{recipe}"
    done = new(folder, f"recipe={recipe}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stable(folder)["version"] == 1
    assert "next: commit" not in done.stdout  # it is committed already
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


def test_a_failure_half_way_goes_on_with_the_same_command(tmp_path, csv):
    from mergeline.template.new import is_unfinished

    folder = tmp_path / "orders"
    leaking = pd.read_csv(csv).assign(paid_back=lambda rows: rows["returned"].astype(int))
    leaking.to_csv(csv, index=False)
    answers = ("recipe=blank", f"file={csv}", "target=returned")
    done = new(folder, *answers)
    assert done.returncode == 1
    assert "paid_back: leak" in done.stderr
    assert "correct what is named" in done.stderr
    assert is_unfinished(folder)
    params = folder / "params.yaml"
    params.write_text(re.sub(r"metadata: \[[^]]*\]", "metadata: [paid_back]", params.read_text()))
    again = new(folder, *answers)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "metadata: [paid_back]" in params.read_text()
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""
    assert not is_unfinished(folder)
    assert str(csv) not in (folder / ".copier-answers.yml").read_text()


def test_a_copy_made_on_github_is_adopted_in_place(tmp_path):
    folder = tmp_path / "button"
    run("git", "clone", "--quiet", str(ENGINE.parent), str(folder), cwd=tmp_path)
    shutil.rmtree(folder / ".git")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    run("git", *identity, "commit", "--quiet", "--message", "Initial commit", cwd=folder)
    command = [sys.executable, "-m", "mergeline.cli", "adopt", "orders", "--defaults",
               "--data", "recipe=iris", "--data", "owner=@acme/models"]  # fmt: skip
    environment = {**os.environ, "UV": str(Path(find_uv()).absolute())}
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "mine.csv").write_text("x\n1\n")
    refused = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "it holds data that are not the template's" in refused.stderr
    (folder / "data" / "mine.csv").unlink()
    (folder / "data").rmdir()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stable(folder)["version"] == 1
    assert not [name for name in ("engine", "copier.yml", "CHANGELOG.md", ".github/workflows/engine.yml", "src/flights")
                if (folder / name).exists()]  # fmt: skip
    assert "@acme/models" in (folder / ".github" / "CODEOWNERS").read_text()
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""
    run(str(folder / ".venv" / "bin" / "pytest"), cwd=folder)
    run(str(folder / ".venv" / "bin" / "mergeline"), "verify", cwd=folder)
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "it is a team's own repository already" in again.stderr


def code_lines(path):
    """Lines that are neither blank nor a comment, as cloc counts them."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return sum(bool(line) and (path.suffix == ".md" or not line.startswith("#")) for line in lines)


def test_what_a_team_gets_is_small_and_names_nothing_of_ours(tmp_path):
    """The template is rendered alone here: what comes after it is what a recipe brings."""
    from mergeline.template.new import adapt, render, template_root

    folder = tmp_path / "orders"
    answers = render(template_root(), folder, {"name": "orders", "owner": "@acme/models"}, defaults=True)
    adapt(template_root(), folder, answers._replace(engine="registry"))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in MADE]
    assert not (folder / "engine").exists()
    assert not (folder / "src" / "flights").exists()
    lines = sum(code_lines(path) for path in files if "docs" not in path.relative_to(folder).parts)
    assert lines < LARGEST
    named = [path for path in files if path.suffix in {".toml", ".yml"} and "flights" in path.read_text()]
    assert named == []
    assert "@acme/models" in (folder / ".github" / "CODEOWNERS").read_text()
