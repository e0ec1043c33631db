"""The pull request that brings a newer template, and the issue where the token may change no workflow file.

The template here is four files: the whole one, with its verdict on the model, is upgraded in tests/e2e/template.
"""

import copier
import pytest

from copier_template import WORKFLOW, Template
from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git
from mergeline.template.upgrade import BRANCH, COMMAND, ISSUE, upgrade_by_pull_request

REFUSES_WORKFLOWS = f"""#!/bin/sh
git diff --quiet main "$3" -- .github/workflows && exit 0
echo 'refusing to allow a GitHub App to create or update workflow `{WORKFLOW}` without `workflows` permission' >&2
exit 1
"""


class Team:
    """A template, a repository that was made from it, and the forge that this is pushed to."""

    def __init__(self, folder):
        files = {"Makefile": "one:\n", "pyproject.toml": "[tool.ours]\n", WORKFLOW: "name: watch\n"}
        self.template = Template(folder / "template", files)
        copier.run_copy(str(self.template.git.folder), folder / "team", defaults=True, quiet=True, vcs_ref="HEAD")
        self.git, self.forge = Git.init(folder / "team"), ForgeWithButtons.create(folder / "forge")
        self.git.run("remote", "add", "origin", self.forge.url)
        self.commit("Ours", "Makefile.ours", "ours:\n")

    def commit(self, message, name, text, branch="main"):
        (self.git.folder / name).write_text(text)
        self.git.run("add", "--all")
        self.git.commit(message, ".")
        self.git.run("push", "--quiet", "origin", f"HEAD:{branch}")

    def upgrade(self):
        return upgrade_by_pull_request(self.git.folder, "", lambda _: None)

    def shown(self, name):
        return self.forge.git.show(BRANCH, name)


@pytest.fixture
def team(tmp_path):
    return Team(tmp_path)


def test_there_is_one_pull_request_and_each_newer_template_updates_it(team):
    assert not team.upgrade().upgrade.is_new
    team.template.newer({"Makefile": "two:\n", WORKFLOW: "name: watch all\n"})
    told = team.upgrade()
    [pull] = team.forge.list_open()
    assert (told.number, told.note, pull.branch, pull.labels) == (pull.number, "", BRANCH, ("template",))
    assert (team.shown("Makefile"), team.shown(WORKFLOW)) == ("two:\n", "name: watch all\n")
    assert team.shown("Makefile.ours") == "ours:\n"
    assert "**Not judged yet**" in pull.body  # its environment cannot be locked here, and that stops nothing
    assert "What changes" in pull.body
    assert team.upgrade().note == "unchanged"

    team.template.newer({"Makefile": "three:\n"})
    assert team.upgrade().number == pull.number
    assert team.shown("Makefile") == "three:\n"
    assert team.forge.merge(pull.number)
    assert not team.upgrade().upgrade.is_new


def test_lines_that_both_changed_are_marked_in_it_and_what_people_commit_to_it_stays(team):
    team.commit("Our goal", "Makefile", "mine:\n")
    team.template.newer({"Makefile": "two:\n"})
    told = team.upgrade()
    assert told.upgrade.conflicts == ("Makefile",)
    assert "<<<<<<< " in team.shown("Makefile")
    assert "**1 file has conflicts**" in team.forge.get(told.number).body
    team.git.fetch("origin", BRANCH)
    team.git.run("switch", "--quiet", "--detach", f"origin/{BRANCH}")
    team.commit("Choose", "Makefile", "mine:\ntwo:\n", BRANCH)
    team.template.newer({"Makefile": "three:\n"})
    told = team.upgrade()
    assert told.note.startswith("left alone: people have committed to the branch")
    assert team.shown("Makefile") == "mine:\ntwo:\n"


def test_where_the_token_may_change_no_workflow_an_issue_asks_for_it_until_it_is_there(team):
    hook = team.forge.git.folder / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(REFUSES_WORKFLOWS)
    hook.chmod(0o755)
    team.template.newer({WORKFLOW: "name: watch all\n"})
    told = team.upgrade()
    assert told.note == "an issue asks for it: the token may not push workflow files"
    assert team.forge.list_open() == ()
    issue = team.forge.open_or_update_issue(ISSUE, "seen", "")
    assert told.url == issue.url
    assert team.upgrade().url == issue.url
    text = (team.forge.folder / "issues" / f"{ISSUE}.yaml").read_text()
    assert COMMAND in text
    assert "docs/upgrade.md" in text

    hook.unlink()  # from a person's machine
    told = team.upgrade()
    assert told.number == 1
    text = (team.forge.folder / "issues" / f"{ISSUE}.yaml").read_text()
    assert "is_open: false" in text
    assert "The pull request is open: " in text
