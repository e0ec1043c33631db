"""An upgrade keeps what is the team's and the bytes of its champion, and says where both have changed a line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mergeline.image.build import find_uv

pytestmark = pytest.mark.slow(minutes=4)
ROOT = Path(__file__).parents[4]
EARLIER = "5bf5850"
"""A commit of this repository; what was made from it must be upgradable for ever."""


def run(*command, cwd):
    foreign = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    environment["UV"] = str(Path(find_uv()).absolute())
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder, message):
    run("git", "add", "--all", cwd=folder)
    run("git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", message, cwd=folder)


def replace(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text, (path, old)
        text = text.replace(old, new)
    path.write_text(text)


def upgrade(folder, template):
    return run(sys.executable, "-m", "mergeline.cli", "upgrade", "--source", str(template), cwd=folder)


@pytest.fixture
def template(tmp_path):
    """A clone of this repository, at the earlier commit."""
    run("git", "clone", "--quiet", str(ROOT), "template", cwd=tmp_path)
    run("git", "branch", "newest", cwd=tmp_path / "template")
    run("git", "checkout", "--quiet", "-b", "earlier", EARLIER, cwd=tmp_path / "template")
    return tmp_path / "template"


@pytest.fixture
def team(tmp_path, template):
    """Made from it, and then changed by a team: another package, a dependency, a step, params, and a page deleted."""
    uv, folder = find_uv(), tmp_path / "team"
    run(uv, "sync", "--project", "engine", "--locked", "--quiet", cwd=template)
    run("engine/.venv/bin/mergeline", "new", str(folder), "--defaults", "--data", "recipe=iris", cwd=template)
    run("git", "mv", "src/team", "src/flowers", cwd=folder)
    run("git", "rm", "--quiet", "docs/retrain.md", cwd=folder)
    replace(folder / "params.yaml", ("team.schema", "flowers.schema"), ("team.model", "flowers.model"))
    replace(folder / "params.yaml", ("cool_down: 3d", "cool_down: 5d"))
    replace(folder / "dvc.yaml", ("src/team", "src/flowers"))
    replace(
        folder / "pyproject.toml", ("src/team", "src/flowers"), ("dependencies = [", 'dependencies = ["humanize>=4", ')
    )
    checks = folder / ".github" / "workflows" / "checks.yml"
    checks.write_text(checks.read_text() + "      - name: Our own step\n        run: echo ours\n")
    run(uv, "lock", "--quiet", cwd=folder)
    run(uv, "sync", "--locked", "--quiet", cwd=folder)
    run(".venv/bin/mergeline", "propose", cwd=folder)
    commit(folder, "Ours")
    return folder


def test_an_upgrade_keeps_what_is_the_teams_and_says_what_becomes_of_the_champion_and_where_both_changed_a_line(
    team, template
):
    was = yaml.safe_load((team / "deploy" / "manifest.yaml").read_text())["spec"]["stable"]["digest"]
    run("git", "checkout", "--quiet", "newest", cwd=template)
    said = upgrade(team, template)
    assert "The champion's bytes are unchanged" in said
    assert "conflict" not in said
    assert yaml.safe_load((team / "deploy" / "manifest.yaml").read_text())["spec"]["stable"]["digest"] == was
    assert "Our own step" in (team / ".github" / "workflows" / "checks.yml").read_text()
    assert "humanize" in (team / "pyproject.toml").read_text()
    assert "cool_down: 5d" in (team / "params.yaml").read_text()
    assert [path.name for path in (team / "src").iterdir()] == ["flowers"]
    assert not (team / "docs" / "retrain.md").exists()
    assert (team / "docs" / "upgrade.md").exists()
    commit(team, "Upgrade")
    run(find_uv(), "sync", "--locked", "--quiet", cwd=team)
    run(".venv/bin/mergeline", "verify", cwd=team)
    assert "up to date" in upgrade(team, template)

    replace(template / "engine/src/mergeline/model/environment.py", ("TRAINING_FORMAT = 1", "TRAINING_FORMAT = 2"))
    commit(template, "Another training format")
    said = upgrade(team, template)
    assert "New bytes: this proposes them as a release. accepted. " in said
    assert "quivalent" in said
    now = yaml.safe_load((team / "deploy" / "manifest.yaml").read_text())["spec"]
    assert now["stable"]["digest"] != was == now["previous"]["digest"]
    commit(team, "Upgrade to another training format")
    run(find_uv(), "sync", "--locked", "--quiet", cwd=team)
    run(".venv/bin/mergeline", "verify", cwd=team)

    replace(team / "Makefile", ("http://127.0.0.1:3000", "http://127.0.0.1:4000"))
    commit(team, "Our port")
    replace(template / "Makefile", ("http://127.0.0.1:3000", "http://127.0.0.1:5000"))
    commit(template, "Another port")
    said = upgrade(team, template)
    assert "conflict, marked inline: Makefile" in said
    assert "<<<<<<< " in (team / "Makefile").read_text()
    assert "The champion's bytes are unchanged" in said
