"""The local GitHub and a forge in a folder, for every test here that needs one."""

import os

import pytest
from github_fixtures import hub, models  # noqa: F401 - fixtures

from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git


@pytest.fixture
def nobody_is_configured(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def forge(tmp_path):
    made = ForgeWithButtons.create(tmp_path / "forge")
    work = Git.init(tmp_path / "work")
    (work.folder / "file").write_text("a\nb\nc\n")
    work.commit("first", "file")
    work.push(made.url, "main", expected=None)
    return made


@pytest.fixture
def work(tmp_path, forge):
    return Git(tmp_path / "work")
