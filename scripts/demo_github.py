"""`make demo-github`: the loop with the real workflow files, on a GitHub that runs on this machine.

A person's pull request, a rejected one, a merge with its deployment, a fork's pull request with the proposal that
follows its merge, and a rollback; then the page of each pull request as GitHub would show it. Nothing outside
demo/github/ is touched, and nothing is left running.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console

from local_github.github import LocalGitHub, local_github
from local_github.pages import write_pages
from local_github.processes import ServerError
from local_github.runner import Actions
from local_github.scratch import Clone, push_template
from local_github.state import Run
from local_github.tools import MissingToolError, find_tools
from local_github.warm import warm_environment
from mergeline.forge.git import Git

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo" / "github"
NAME = "acme/flights"
MANIFEST = "deploy/manifest.yaml"
STARTED = time.monotonic()
console = Console(highlight=False)


def main() -> None:
    """Run the loop, and leave nothing running however it ends."""
    shutil.rmtree(DEMO, ignore_errors=True)
    try:
        with local_github(DEMO / "servers", prepare()) as github:
            Demo(github).run()
    except MissingToolError as error:
        give_up(str(error))
    except ServerError as error:
        give_up(str(error), "run it again; demo/github/servers holds the logs")
    except KeyboardInterrupt:
        give_up("stopped; nothing is left running", code=130)
    console.print(f"\n[bold green]The loop is closed[/] in {time.monotonic() - STARTED:.0f} s. What to look at now:")
    for line in (
        f"every pull request as GitHub shows it   {shown(DEMO / 'pages' / 'index.html')}",
        f"the workflows that ran                  {shown(ROOT / '.github' / 'workflows')}",
        f"what each run said                      {shown(DEMO / 'logs')}",
    ):
        console.print(f"  {line}", soft_wrap=True)


def prepare() -> Any:
    """Install what the local GitHub is made of."""
    step("the parts of a local GitHub: an API emulator from npm, Caddy, git, act")
    tools = find_tools()
    cml = tools.cml or "not on the PATH: the forge's own way of commenting is used"
    note(f"emulate, caddy and act are here; cml: {cml}")
    return tools


class Demo:
    """The steps, each telling what it shows."""

    def __init__(self, github: LocalGitHub) -> None:
        self.github = github
        caches = {name: str(DEMO / "caches" / name.lower()) for name in ("MYPY_CACHE_DIR", "RUFF_CACHE_DIR")}
        warm_from(ROOT / ".mypy_cache", Path(caches["MYPY_CACHE_DIR"]))
        self.actions = Actions(github, environment=caches, told=tell_run, venv=warm_environment())

    def run(self) -> None:
        """All of it, in order."""
        self.push_template()
        number = self.accepted()
        self.rejected()
        self.merge(number)
        self.fork()
        self.rollback()
        step("the page of each pull request")
        index = write_pages(self.github, NAME, DEMO / "pages")
        good(f"written: {shown(index)}")

    def push_template(self) -> None:
        """The template as a repository with a protected main."""
        step(f"a repository {NAME} with a protected main")
        self.github.create(NAME)
        push_template(self.github, NAME, ROOT, DEMO / "template", {})
        if Git(ROOT).changed():
            note("your uncommitted changes are part of it")
        note("its tests/ is one small test here: the template's own suite would run for minutes on every pull request")
        ruleset = ROOT / ".github" / "rulesets" / "main.json"
        self.github.import_ruleset(NAME, ruleset)
        note(f"main is protected by {shown(ruleset)}")
        code, words = Clone.make(self.github, DEMO / "alice", NAME, "alice").attempt(
            "push", "origin", "HEAD:refs/heads/main", "--force"
        )
        if code == 0 and "up-to-date" not in words:
            give_up("main took a push that it should have refused")
        self.github.take_as_deployed(NAME)  # the first push is no part of the loop
        good(f"{self.github.url}/{NAME}, for as long as the demo runs")

    def accepted(self) -> int:
        """A person's pull request with a better model."""
        step("alice's pull request: model.arguments.max_iter 30 → 60")
        clone = self.clone("alice")
        clone.set_params(max_iter="60")
        clone.push("sixty-trees", "Sixty trees instead of thirty")
        body = "Thirty trees were for a start. The gate will tell whether sixty are worth it."
        number = self.open("sixty-trees", "alice", "Sixty trees", body)
        self.settle()
        pull = self.github.pull(NAME, number)
        self.expect_check(pull, "success")
        comment = self.expect_comment(number)
        good(f"comment by {comment['user']['login']}: {headline(comment['body'])}")
        good(f"check `mergeline` on {pull['head']['sha'][:7]}, which the bot pushed; version {self.version(pull)}")
        return number

    def rejected(self) -> None:
        """One that the gate refuses."""
        step("carol's pull request learns too fast: model.arguments.learning_rate 0.1 → 1.0")
        clone = self.clone("carol")
        clone.set_params(learning_rate="1.0")
        commit = clone.push("faster", "Learn faster")
        number = self.open("faster", "carol", "Learn faster", "Ten times faster learning.")
        self.settle()
        pull = self.github.pull(NAME, number)
        self.expect_check(pull, "failure")
        if pull["head"]["sha"] != commit:
            give_up("a rejected model changed the branch")
        good(f"comment: {headline(self.expect_comment(number)['body'])}")
        self.approve(number, "alice")
        status, words = self.github.merge(NAME, number, by="carol")
        if status == 200:
            give_up("a rejected model was merged")
        good(f"merging it is refused: {words.splitlines()[-1]}")

    def merge(self, number: int) -> None:
        """The merge is the release; deploy.yml follows."""
        step(f"merge #{number}: the merge is the release")
        self.press_merge(number, by="alice", approved_by="carol")
        self.settle()
        good(f"main serves version {self.version()}")

    def fork(self) -> None:
        """A fork's pull request: judged without rights, proposed after the merge."""
        step("bob's pull request from his fork: min_samples_leaf 20 → 40")
        fork = self.github.fork(NAME, "bob").name
        clone = Clone.make(self.github, DEMO / "bob", fork, "bob")
        clone.set_params(min_samples_leaf="40")
        clone.push("bigger-leaves", "Bigger leaves")
        number = self.open("bob:bigger-leaves", "bob", "Bigger leaves", "From my fork, whose runs may write nothing.")
        self.settle()
        self.expect_check(self.github.pull(NAME, number), "success")
        good(f"comment all the same: {headline(self.expect_comment(number)['body'])}")
        step(f"merge #{number}: now main's dvc.lock is stale, and deploy.yml opens the proposal")
        self.press_merge(number, by="alice", approved_by="carol")
        self.settle()
        found = [pull for pull in self.open_pulls() if pull["user"]["login"].endswith("[bot]")]
        if not found:
            give_up("no proposal was opened for the fork's model")
        proposal = found[0]
        self.expect_check(proposal, "success")
        good(f"#{proposal['number']} by {proposal['user']['login']}: {proposal['title']}")
        self.press_merge(proposal["number"], by="alice", approved_by="carol")
        self.settle()
        good(f"merged; main serves version {self.version()}")

    def rollback(self) -> None:
        """Back to the previous version, by a pull request."""
        served = self.version()
        step(f"roll back: version {served} failed in production")
        reason = "Late flights were missed since this morning."
        self.github.dispatch(NAME, "rollback.yml", by="alice", reason=reason)
        self.settle()
        found = [pull for pull in self.open_pulls() if MANIFEST in self.changed(pull)]
        if not found:
            give_up("rollback.yml opened no pull request")
        self.expect_check(found[-1], "success")
        good(f"#{found[-1]['number']}: {found[-1]['title']}")
        self.press_merge(found[-1]["number"], by="alice", approved_by="carol")
        self.settle()
        if self.version() == served:
            give_up("the rollback changed nothing")
        good(f"main serves version {self.version()} again, and what failed is under a hold")

    # -- what the steps are made of -----------------------------------------------------------------------------------

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

    def changed(self, pull: dict[str, Any]) -> list[str]:
        """The paths that a pull request changes."""
        files = self.github.hub.repositories[NAME].files(pull["base"]["sha"], pull["head"]["sha"])
        return [file.path for file in files]

    def version(self, pull: dict[str, Any] | None = None) -> int:
        """The version that main, or a pull request's branch, serves."""
        commit = pull["head"]["sha"] if pull else "refs/heads/main"
        text = self.github.hub.repositories[NAME].git.show(commit, MANIFEST)
        return int(yaml.safe_load(text or "")["spec"]["stable"]["version"])


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


def step(title: str) -> None:
    """Begin a step, and say how far into the demo it is."""
    console.print(f"\n[bold cyan]▸ {title}[/] [dim]({time.monotonic() - STARTED:.0f} s)[/]", soft_wrap=True)


def note(line: str) -> None:
    """A detail."""
    console.print(f"  {line}", soft_wrap=True, style="dim")


def good(line: str) -> None:
    """What a step has shown."""
    console.print(f"  [green]✓[/] {line}", soft_wrap=True)


def shown(path: Path) -> str:
    """The path as a person at the root would type it."""
    return os.path.relpath(path, ROOT)


def give_up(what: str, mend: str = "", code: int = 1) -> NoReturn:
    """End the demo with a reason."""
    console.print(f"\n[bold red]demo-github:[/] {what}" + (f"\n  mend: {mend}" if mend else ""), soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
