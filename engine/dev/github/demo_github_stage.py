"""What the scenes of `make demo-github` are made of: people's clones, pull requests, runs and merges."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from demo_words import ROOT, console, give_up, note
from local_github.github import LocalGitHub
from local_github.runner import Actions
from local_github.scratch import Clone
from local_github.state import Run
from local_github.warm import warm_environment
from mergeline.documents import parse
from mergeline.manifest.schema import Manifest, Spec

DEMO = ROOT / "demo" / "github"
NAME = "acme/flights"
MANIFEST = "deploy/manifest.yaml"


class Stage:
    """One repository on the local GitHub, the people who work there, and its Actions."""

    def __init__(self, github: LocalGitHub) -> None:
        self.github = github
        caches = {name: str(DEMO / "caches" / name.lower()) for name in ("MYPY_CACHE_DIR", "RUFF_CACHE_DIR")}
        warm_from(ROOT / ".mypy_cache", Path(caches["MYPY_CACHE_DIR"]))
        self.actions = Actions(github, environment=caches, told=tell_run, venv=warm_environment())

    def clone(self, login: str) -> Clone:
        """A person's clone at main's newest commit."""
        folder = DEMO / login
        if not folder.exists():
            return Clone.make(self.github, folder, NAME, login)
        clone = Clone(self.github, folder, NAME, login)
        clone.update()
        return clone

    def open(self, head: str, login: str, title: str, body: str) -> int:
        """Open a pull request; its number."""
        number = int(self.github.open_pull(NAME, head, by=login, title=title, body=body)["number"])
        note(f"#{number} is open; its workflows run now")
        return number

    def settle(self) -> None:
        """Let everything run that has been started, and keep what it said."""
        logs = DEMO / "logs"
        logs.mkdir(exist_ok=True)
        for run in self.actions.settle():
            (logs / f"{run.number}-{run.workflow}.log").write_text(run.log, encoding="utf-8")

    def press_merge(self, number: int, *, by: str, approved_by: str) -> None:
        """Approve and merge."""
        self.approve(number, approved_by)
        status, words = self.github.merge(NAME, number, by=by)
        if status != 200:
            give_up(f"#{number} could not be merged: {words}")

    def approve(self, number: int, by: str) -> None:
        """Approve, where the author is somebody else."""
        if self.github.pull(NAME, number)["user"]["login"] != by:
            self.github.approve(NAME, number, by=by)

    def expect_check(self, pull: dict[str, Any], conclusion: str) -> None:
        """The required check of a pull request ended as it must."""
        found = self.github.checks(NAME, self.github.pull(NAME, pull["number"])["head"]["sha"]).get("mergeline")
        if found is None or found["conclusion"] != conclusion:
            ended = found["conclusion"] if found else "missing"
            give_up(f"the check `mergeline` of #{pull['number']} is {ended}, not {conclusion}", "see demo/github/logs")

    def expect_comment(self, number: int) -> dict[str, Any]:
        """The one comment of the bot."""
        comments = self.github.comments(NAME, number)
        if len(comments) != 1:
            give_up(f"#{number} has {len(comments)} comments instead of one", "see demo/github/logs")
        return comments[0]

    def open_pulls(self) -> list[dict[str, Any]]:
        """The open pull requests, oldest first."""
        found = self.github.api.pages(f"/repos/{NAME}/pulls?state=open", token=self.github.hub.admin)
        return sorted(found, key=lambda pull: int(pull["number"]))

    def proposal(self, workflow: str) -> dict[str, Any]:
        """The one pull request that a workflow opened, its required check green."""
        found = [pull for pull in self.open_pulls() if pull["user"]["login"].endswith("[bot]")]
        if len(found) != 1:
            give_up(f"{workflow} left {len(found)} pull requests open instead of one", "see demo/github/logs")
        self.expect_check(found[0], "success")
        return found[0]

    def changed(self, pull: dict[str, Any]) -> list[str]:
        """The paths that a pull request changes."""
        files = self.github.hub.repositories[NAME].files(pull["base"]["sha"], pull["head"]["sha"])
        return [file.path for file in files]

    def version(self, pull: dict[str, Any] | None = None) -> int:
        """The version that main, or a pull request's branch, calls stable."""
        stable = self.spec(pull["head"]["sha"] if pull else "refs/heads/main").stable
        return stable.version if stable else 0

    def spec(self, commit: str = "refs/heads/main") -> Spec:
        """What a commit's manifest asks for."""
        return parse(self.github.hub.repositories[NAME].git.show(commit, MANIFEST) or "", Manifest, MANIFEST).spec


def tell_run(run: Run) -> None:
    """One line for a workflow run, with its jobs."""
    signs = {"success": "[green]✓[/]", "failure": "[red]✗[/]", "cancelled": "[red]✗[/]"}
    ran = [job for job in run.jobs if job.conclusion != "skipped"]
    jobs = [f"{signs[job.conclusion]} {job.name} {job.seconds:.0f} s" for job in ran]
    if len(ran) < len(run.jobs):
        jobs.append(f"[dim]{len(run.jobs) - len(ran)} skipped[/]")
    told = f"  [dim]{run.file} on {run.event.name}, {run.seconds:.0f} s:[/] {', '.join(jobs)}"
    console.print(told, soft_wrap=True)


def headline(comment: str) -> str:
    """The heading of a report."""
    return next((line.lstrip("# ") for line in comment.splitlines() if line.startswith("#")), comment[:80])


def warm_from(source: Path, target: Path) -> None:
    """Let a cache begin with what this clone has, as a runner's restored cache does."""
    if source.is_dir():
        shutil.copytree(source, target)
