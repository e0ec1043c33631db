import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mergeline.cli.verbs import app
from mergeline.evaluate.results import Status
from mergeline.github.doctor import examine
from mergeline.github.doctor_clone import examine_clone
from mergeline.github.git import Git

ROOT = Path(__file__).parents[3]
OWNERS = "/.github/ @acme/maintainers\n/deploy/ @acme/maintainers\n"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The template's own files, in a clone without a remote."""
    for name in ("GITHUB_TOKEN", "GH_TOKEN", "GH_HOST", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = Git.init(tmp_path / "clone")
    for name in ("params.yaml", "deploy/manifest.yaml", ".dvc/config"):
        (git.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, git.folder / name)
    shutil.copytree(ROOT / ".github", git.folder / ".github")
    (git.folder / ".github" / "CODEOWNERS").write_text(OWNERS)
    (git.folder / "store").mkdir()
    git.commit("first", ".")
    return git.folder


def finding(folder, name):
    return next(found for found in examine_clone(folder) if found.name == name)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_fresh_copy_of_the_template_has_no_fault(clone):
    found = examine_clone(clone)

    assert [(one.name, one.value) for one in found if one.status is Status.FAIL] == []


def test_every_fault_and_doubt_says_how_to_fix_it(clone):
    shutil.rmtree(clone / ".github")
    shutil.rmtree(clone / "store")
    (clone / "deploy" / "manifest.yaml").unlink()
    edit(clone / "params.yaml", "learning_rate: 0.1 ", "learning_rate: [ ")

    found = [one for one in examine_clone(clone) if one.status in {Status.FAIL, Status.WARN}]

    assert {one.name for one in found} >= {
        "params.yaml",
        "manifest",
        "store",
        "workflows",
        "code owners",
        "ruleset file",
    }
    assert all(one.hint for one in found)


class TestTheStore:
    @pytest.mark.parametrize("url", ["/srv/models", "~/models", "C:\\models"])
    def test_a_path_of_this_machine_is_a_fault_where_jobs_on_github_must_read_it(self, clone, url):
        Git(clone).run("remote", "add", "origin", "https://github.com/acme/orders.git")
        edit(clone / ".dvc" / "config", "../store", url)

        assert finding(clone, "store").status is Status.FAIL
        assert "no job on GitHub can read it" in finding(clone, "store").meaning

    def test_without_github_a_folder_of_this_machine_is_as_good_as_another(self, clone, tmp_path):
        Git(clone).run("remote", "add", "origin", str(tmp_path / "repository.git"))
        edit(clone / ".dvc" / "config", "../store", str(tmp_path / "models"))
        assert finding(clone, "store").value.endswith("there is no such folder")
        (tmp_path / "models").mkdir()
        assert finding(clone, "store").status is Status.PASS

    def test_a_remote_one_that_does_not_answer_is_a_fault(self, clone):
        edit(clone / ".dvc" / "config", "../store", "https://127.0.0.1:1/models")

        assert finding(clone, "store").status is Status.FAIL

    def test_one_that_answers_passes(self, clone):
        import fsspec

        fsspec.filesystem("memory").makedirs("/doctor-models", exist_ok=True)
        edit(clone / ".dvc" / "config", "../store", "memory://doctor-models")

        assert finding(clone, "store").status is Status.PASS

    def test_none_at_all_is_a_fault(self, clone):
        (clone / ".dvc" / "config").unlink()

        assert finding(clone, "store").hint.startswith("dvc remote add")


class TestTheRemote:
    def test_a_password_in_the_address_is_a_fault_and_is_not_shown(self, clone):
        Git(clone).run("remote", "add", "origin", "https://alice:ghp_secret@github.com/acme/models")

        found = finding(clone, "remote")

        assert found.status is Status.FAIL
        assert "ghp_secret" not in found.model_dump_json()

    def test_a_clone_without_main_is_a_fault(self, clone):
        Git(clone).run("branch", "-m", "master")

        assert finding(clone, "base branch").status is Status.FAIL


class TestOwners:
    @pytest.mark.parametrize(
        "text", ["", "# nobody\n", "/docs/ @acme/writers\n", "/.github/ @a/b\n", "/.github/\n/deploy/ @a/b\n"]
    )
    def test_what_releases_must_be_owned(self, clone, text):
        (clone / ".github" / "CODEOWNERS").write_text(text)

        assert finding(clone, "code owners").status is Status.FAIL

    @pytest.mark.parametrize("text", ["* @acme/all\n", "/.github @a\n/deploy/** @b\n", OWNERS])
    def test_any_pattern_that_covers_it_will_do(self, clone, text):
        (clone / ".github" / "CODEOWNERS").write_text(text)

        assert finding(clone, "code owners").status is Status.PASS

    def test_the_templates_own_owner_is_a_doubt(self, clone):
        shutil.copy(ROOT / ".github" / "CODEOWNERS", clone / ".github" / "CODEOWNERS")

        assert finding(clone, "code owners").status is Status.WARN


class TestSigning:
    def test_a_policy_without_its_key_is_a_fault(self, clone):
        edit(clone / "params.yaml", 'policy: "off"', "policy: required")
        assert "mergeline keys" in finding(clone, "signing key").hint

        (clone / "deploy" / "signing.pub").write_text("key")
        assert finding(clone, "signing key").status is Status.PASS


class TestAnOldGit:
    def test_it_is_a_fault(self, clone, tmp_path, monkeypatch):
        folder = tmp_path / "bin"
        folder.mkdir()
        real = shutil.which("git")
        script = f'#!/bin/sh\n[ "$1" = version ] && echo git version 2.37.9 || exec {real} "$@"\n'
        (folder / "git").write_text(script)
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

        assert finding(clone, "git").status is Status.FAIL

    def test_none_at_all_is_a_fault_and_no_crash(self, clone, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))

        assert finding(clone, "git").value == "missing"


class TestTheVerb:
    @pytest.fixture
    def run(self, monkeypatch):
        """Runs the verb in a folder."""

        def run(folder, *arguments):
            monkeypatch.chdir(folder)
            return CliRunner().invoke(app, ["doctor", *arguments])

        return run

    def test_without_a_fault_it_ends_with_0_and_says_what_was_not_looked_at(self, clone, run):
        done = run(clone)

        assert done.exit_code == 0, done.output
        assert "there is no remote" in done.output

    def test_with_a_fault_it_ends_with_1_and_the_hint_is_on_the_screen(self, clone, run):
        (clone / ".github" / "CODEOWNERS").write_text("")

        done = run(clone)

        assert done.exit_code == 1
        assert "add a line to .github/CODEOWNERS" in done.output

    def test_machines_get_the_hint_as_a_field(self, clone, run):
        (clone / ".github" / "CODEOWNERS").write_text("")

        found = {one["name"]: one for one in json.loads(run(clone, "--json").stdout)}

        assert found["code owners"]["status"] == "fail"
        assert found["code owners"]["hint"].startswith("add a line")

    def test_it_runs_in_a_folder_that_is_nothing(self, tmp_path, run):
        done = run(tmp_path)

        assert done.exit_code == 1
        assert isinstance(done.exception, SystemExit)


class TestWithoutAToken:
    def test_the_settings_are_skipped_with_how_to_get_one(self, clone):
        Git(clone).run("remote", "add", "origin", "https://github.com/acme/models")

        last = examine(clone)[-1]

        assert last.status is Status.SKIP
        assert "gh auth token" in last.hint

    def test_another_host_is_skipped(self, clone):
        Git(clone).run("remote", "add", "origin", "https://gitlab.com/acme/models")

        assert "no GitHub" in examine(clone)[-1].value
