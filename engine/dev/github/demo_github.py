"""`make demo-github`: the loop with the real workflow files, on a GitHub that runs on this machine.

A person's pull request, a rejected one, a merge with its deployment, a fork's pull request with the proposal that
follows its merge, and a rollback. Then production: a summer of flights is answered, the daily look proposes a retrained
model, it rolls out as a canary, and a faulty one is taken off. Last the page of each pull request, as GitHub would show
it. Nothing outside demo/github/ is touched, and nothing is left running.
"""

from __future__ import annotations

import shutil
from typing import Any

from demo_github_production import play_production
from demo_github_stage import DEMO, MANIFEST, NAME, Stage, headline
from demo_words import ROOT, close_loop, give_up, good, note, shown, step
from local_github.github import local_github
from local_github.pages import write_pages
from local_github.processes import ServerError
from local_github.scratch import Clone, push_template
from local_github.tools import MissingToolError, find_tools
from mergeline.github.git import Git


def main() -> None:
    """Run the loop, and leave nothing running however it ends."""
    shutil.rmtree(DEMO, ignore_errors=True)
    try:
        with local_github(DEMO / "servers", prepare()) as github:
            play(Stage(github))
    except MissingToolError as error:
        give_up(str(error))
    except ServerError as error:
        give_up(str(error), "run it again; demo/github/servers holds the logs")
    except KeyboardInterrupt:
        give_up("stopped; nothing is left running", code=130)
    close_loop(
        f"every pull request as GitHub shows it   {shown(DEMO / 'pages' / 'index.html')}",
        f"the workflows that ran                  {shown(ROOT / '.github' / 'workflows')}",
        f"what each run said                      {shown(DEMO / 'logs')}",
    )


def prepare() -> Any:
    """Install what the local GitHub is made of."""
    step("the parts of a local GitHub: an API emulator from npm, Caddy, git, act")
    tools = find_tools()
    cml = tools.cml or "not on the PATH: the forge's own way of commenting is used"
    note(f"emulate, caddy and act are here; cml: {cml}")
    return tools


def play(stage: Stage) -> None:
    """All of it, in order."""
    put_template(stage)
    number = accepted(stage)
    rejected(stage)
    merge(stage, number)
    fork(stage)
    rollback(stage)
    play_production(stage)
    step("the page of each pull request")
    index = write_pages(stage.github, NAME, DEMO / "pages")
    good(f"written: {shown(index)}")


def put_template(stage: Stage) -> None:
    """The template as a repository with a protected main."""
    step(f"a repository {NAME} with a protected main")
    stage.github.create(NAME)
    push_template(stage.github, NAME, ROOT, DEMO / "template", {})
    if Git(ROOT).changed():
        note("your uncommitted changes are part of it")
    note("its tests/ is one small test here: the template's own suite would run for minutes on every pull request")
    ruleset = ROOT / ".github" / "rulesets" / "main.json"
    stage.github.import_ruleset(NAME, ruleset)
    note(f"main is protected by {shown(ruleset)}")
    code, words = Clone.make(stage.github, DEMO / "alice", NAME, "alice").attempt(
        "push", "origin", "HEAD:refs/heads/main", "--force"
    )
    if code == 0 and "up-to-date" not in words:
        give_up("main took a push that it should have refused")
    stage.github.take_as_deployed(NAME)  # the first push is no part of the loop
    good(f"{stage.github.url}/{NAME}, for as long as the demo runs")


def accepted(stage: Stage) -> int:
    """A person's pull request with a better model."""
    step("alice's pull request: model.arguments.max_iter 30 → 60")
    clone = stage.clone("alice")
    clone.set_params(max_iter="60")
    clone.push("sixty-trees", "Sixty trees instead of thirty")
    body = "Thirty trees were for a start. The gate will tell whether sixty are worth it."
    number = stage.open("sixty-trees", "alice", "Sixty trees", body)
    stage.settle()
    pull = stage.github.pull(NAME, number)
    stage.expect_check(pull, "success")
    comment = stage.expect_comment(number)
    good(f"comment by {comment['user']['login']}: {headline(comment['body'])}")
    good(f"check `mergeline` on {pull['head']['sha'][:7]}, which the bot pushed; version {stage.version(pull)}")
    return number


def rejected(stage: Stage) -> None:
    """One that the gate refuses."""
    step("carol's pull request learns too fast: model.arguments.learning_rate 0.1 → 1.0")
    clone = stage.clone("carol")
    clone.set_params(learning_rate="1.0")
    commit = clone.push("faster", "Learn faster")
    number = stage.open("faster", "carol", "Learn faster", "Ten times faster learning.")
    stage.settle()
    pull = stage.github.pull(NAME, number)
    stage.expect_check(pull, "failure")
    if pull["head"]["sha"] != commit:
        give_up("a rejected model changed the branch")
    good(f"comment: {headline(stage.expect_comment(number)['body'])}")
    stage.approve(number, "alice")
    status, words = stage.github.merge(NAME, number, by="carol")
    if status == 200:
        give_up("a rejected model was merged")
    good(f"merging it is refused: {words.splitlines()[-1]}")


def merge(stage: Stage, number: int) -> None:
    """The merge is the release; deploy.yml follows."""
    step(f"merge #{number}: the merge is the release")
    stage.press_merge(number, by="alice", approved_by="carol")
    stage.settle()
    good(f"main serves version {stage.version()}")


def fork(stage: Stage) -> None:
    """A fork's pull request: judged without rights, proposed after the merge."""
    step("bob's pull request from his fork: min_samples_leaf 20 → 40")
    fork = stage.github.fork(NAME, "bob").name
    clone = Clone.make(stage.github, DEMO / "bob", fork, "bob")
    clone.set_params(min_samples_leaf="40")
    clone.push("bigger-leaves", "Bigger leaves")
    number = stage.open("bob:bigger-leaves", "bob", "Bigger leaves", "From my fork, whose runs may write nothing.")
    stage.settle()
    stage.expect_check(stage.github.pull(NAME, number), "success")
    good(f"comment all the same: {headline(stage.expect_comment(number)['body'])}")
    step(f"merge #{number}: now main's dvc.lock is stale, and deploy.yml opens the proposal")
    stage.press_merge(number, by="alice", approved_by="carol")
    stage.settle()
    proposal = stage.proposal("deploy.yml")
    good(f"#{proposal['number']} by {proposal['user']['login']}: {proposal['title']}")
    stage.press_merge(proposal["number"], by="alice", approved_by="carol")
    stage.settle()
    good(f"merged; main serves version {stage.version()}")


def rollback(stage: Stage) -> None:
    """Back to the previous version, by a pull request."""
    served = stage.version()
    step(f"roll back: version {served} failed in production")
    reason = "Late flights were missed since this morning."
    stage.github.dispatch(NAME, "rollback.yml", by="alice", reason=reason)
    stage.settle()
    found = [pull for pull in stage.open_pulls() if MANIFEST in stage.changed(pull)]
    if not found:
        give_up("rollback.yml opened no pull request")
    stage.expect_check(found[-1], "success")
    good(f"#{found[-1]['number']}: {found[-1]['title']}")
    stage.press_merge(found[-1]["number"], by="alice", approved_by="carol")
    stage.settle()
    if stage.version() == served:
        give_up("the rollback changed nothing")
    good(f"main serves version {stage.version()} again, and what failed is under a hold")


if __name__ == "__main__":
    main()
