"""Puts a template repository onto the local GitHub, and lets people work on clones of it."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from local_github.github import LocalGitHub

NO_TEAM_HAS = ("copier.yml", ".github/workflows/engine.yml")
SMALL_TEST = '''"""A few seconds of tests in the place of the template's own suite."""

from mergeline.manifest.schema import read_manifest
from mergeline.params import read_params


def test_the_manifest_is_this_models_own():
    assert read_manifest().metadata.name == read_params().name
'''


class Clone:
    """A person's clone, with the person's own credentials, which are in no file."""

    def __init__(self, github: LocalGitHub, folder: Path, name: str, login: str) -> None:
        self.github, self.folder, self.name, self.login = github, folder, name, login

    @classmethod
    def make(cls, github: LocalGitHub, folder: Path, name: str, login: str) -> Clone:
        """Clone a repository into `folder`."""
        clone = cls(github, folder, name, login)
        folder.mkdir(parents=True)
        clone.git("init", "--quiet", "--initial-branch=main")
        clone.git("remote", "add", "origin", github.remote(name))
        clone.git("config", "user.name", login)
        clone.git("config", "user.email", f"{login}@example.com")
        clone.update()
        return clone

    def update(self) -> None:
        """Go to the newest main."""
        self.git("fetch", "--quiet", "--prune", "origin")
        self.git("checkout", "--quiet", "--force", "-B", "main", "origin/main")

    def git(self, *arguments: str) -> str:
        """Run git as this person.

        Raises:
            AssertionError: it failed.
        """
        code, words = self.attempt(*arguments)
        if code:
            raise AssertionError(f"git {' '.join(arguments)}: {words}")
        return words

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """Run git as this person: its exit code and its words."""
        return git_with_token(self.github, self.folder, self.github.token(self.login), *arguments)

    def set_params(self, **numbers: str) -> None:
        """Edit numbers of params.yaml, as a person would."""
        path = self.folder / "params.yaml"
        text = path.read_text(encoding="utf-8")
        for key, value in numbers.items():
            text, found = re.subn(rf"(?m)^( +{key}: )\S+", rf"\g<1>{value}", text)
            if found != 1:
                raise AssertionError(f"{key} is {found} times in params.yaml")
        path.write_text(text, encoding="utf-8")

    def push(self, branch: str, message: str) -> str:
        """Commit everything on `branch`, and push it; the commit."""
        self.git("switch", "--quiet", "--force-create", branch)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", branch)
        return self.git("rev-parse", "HEAD")


def git_with_token(github: LocalGitHub, folder: Path, token: str, *arguments: str) -> tuple[int, str]:
    """Run git with a token in the environment: its exit code and its words."""
    credential = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    settings = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{github.url}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {credential}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **github.environment(), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def push_template(github: LocalGitHub, name: str, source: Path, place: Path, replaced: Mapping[str, str]) -> None:
    """Make `name` a copy of the repository at `source`, as its files are now.

    The history is kept: the lineage of a model names commits. The suite in tests/ gives way to one small test, for the
    suite would run for every pull request. What no team has is left out: the engine's workflow, which would run its
    whole suite at each push to main, and copier.yml, by which a copy that nobody has adopted is known, and releases
    nothing. Other files may be replaced too.

    Args:
        github: the local GitHub.
        name: the repository's full name.
        source: the folder of a clone with work in it.
        place: a folder for the copy, not there yet.
        replaced: the text of files that differ from those at `source`.
    """

    def git(*arguments: str) -> str:
        settings = {"GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-c", "user.name=alice", "-c", "user.email=alice@example.com", *arguments]
        done = subprocess.run(
            command, cwd=place, env={**os.environ, **settings}, capture_output=True, text=True, check=True
        )
        return done.stdout

    place.mkdir(parents=True)
    git("clone", "--quiet", "--no-checkout", f"file://{source}", ".")
    git("checkout", "--quiet", "-B", "main", "HEAD")
    for path in git("ls-files", "-z").split("\0"):
        (place / path).unlink(missing_ok=True) if path else None
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for path in subprocess.run(listed, cwd=source, capture_output=True, text=True, check=True).stdout.split("\0"):
        if path and (source / path).is_file() and not path.startswith("tests/") and path not in NO_TEAM_HAS:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / path, place / path)
    for path, text in {"tests/test_manifest.py": SMALL_TEST, **replaced}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text, encoding="utf-8")
    git("add", "--all", "--force", "--", "tests")
    git("add", "--all")
    git("commit", "--quiet", "--message", "What this clone holds now, with a small tests folder")
    code, words = git_with_token(
        github, place, github.hub.admin, "push", "--quiet", github.remote(name), "HEAD:refs/heads/main"
    )
    if code:
        raise AssertionError(words)
