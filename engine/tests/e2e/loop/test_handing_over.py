"""A proposal that is handed over from the job that makes it to the job that writes it down, with the real pipeline."""

import shutil
import time

import pytest
import yaml
from loop_project import Project

from forge_with_buttons import ForgeWithButtons
from mergeline.ci.bundle import read_bundle
from mergeline.ci.comment_text import CommentContext, say
from mergeline.github.git import Git
from mergeline.manifest.schema import read_manifest

pytestmark = pytest.mark.slow


class Loop:
    """A person's clone, and the jobs of a workflow, each in a clone of its own."""

    def __init__(self, project: Project) -> None:
        self.project, self.git = project, project.git
        self.place = project.root.parent
        self.forge = ForgeWithButtons(self.place / "forge")

    def clone(self, name: str, commit: str) -> Project:
        folder = self.place / name
        shutil.rmtree(folder, ignore_errors=True)
        git = Git.clone(self.forge.url, folder)
        git.run("checkout", "--quiet", commit)
        return Project(folder)

    def branch(self, name: str, file: str | None = None, text: str = "mine", **params):
        """A pull request of a branch from main that changes params, or one file."""
        self.git.run("fetch", "--quiet", "origin")
        self.git.run("switch", "--quiet", "--force-create", name, "origin/main")
        return self.push(name, file, text, **params)

    def push(self, name: str, file: str | None = None, text: str = "mine", **params):
        if file:
            (self.project.root / file).write_text(text)
        if params:
            self.project.set_params(**params)
        self.git.commit("Change", file or "params.yaml")
        self.git.push("origin", name, expected=self.git.remote_head("origin", name))
        return self.forge.open_or_update(name, "main", name, "words")

    def reproduce(self, pull, code: int = 0):
        """The job that runs the branch's code."""
        job = self.clone("reproduce", pull.head)
        done = job.mergeline("ci", "bundle", str(self.place / "proposal"), "--pull", str(pull.number), code=code)
        assert job.git.changed() == ()
        return read_bundle(self.place / "proposal"), done

    def apply(self, pull, code: int = 0):
        """The job that runs main's code."""
        job = self.clone("apply", "origin/main")
        folder = str(self.place / "proposal")
        return job.mergeline("ci", "apply", folder, "--pull", str(pull.number), "--head", pull.head, code=code)

    def main(self):
        return read_manifest(self.clone("seen", "origin/main").root / "deploy" / "manifest.yaml").spec


@pytest.fixture
def loop(released):
    return Loop(released)


def test_a_push_that_changes_no_input_of_the_model_is_judged_without_running_anything(loop):
    pull = loop.branch("docs", "README.md")
    start = time.monotonic()
    bundle, done = loop.reproduce(pull)
    assert time.monotonic() - start < 15
    assert bundle.state == "unchanged"
    assert "reproducing" not in done.stderr
    assert "nothing" in loop.apply(pull).stdout
    assert loop.forge.get(pull.number).head == pull.head


def test_a_better_model_is_committed_to_the_branch_and_the_merge_releases_it(loop):
    pull = loop.branch("better", model={"arguments": {"C": 0.9}})
    bundle, _ = loop.reproduce(pull)
    assert (bundle.state, bundle.summary.version) == ("proposed", 2)
    assert bundle.summary.digest in bundle.report
    assert "applied" in loop.apply(pull).stdout
    loop.forge.merge(pull.number)
    released = loop.clone("released", "origin/main")
    released.mergeline("verify", "--before", "HEAD^1")
    assert loop.main().stable.evidence.pull == pull.number
    assert released.run("dvc", "pull", "--quiet").returncode == 0
    assert "up to date" in released.run("dvc", "status").stdout


def test_the_proposal_of_its_own_commit_changes_nothing(loop):
    pull = loop.branch("better", model={"arguments": {"C": 0.9}})
    loop.reproduce(pull)
    loop.apply(pull)
    pull = loop.forge.get(pull.number)
    bundle, done = loop.reproduce(pull)
    assert bundle.state == "proposed"
    assert "trained:" not in done.stderr
    assert "nothing" in loop.apply(pull).stdout
    assert loop.forge.get(pull.number).head == pull.head


def test_what_another_pull_request_released_meanwhile_is_the_champion(loop):
    one = loop.branch("one", model={"arguments": {"C": 0.9}})
    two = loop.branch("two", "src/toy/extra.py", "WORD = 1\n")
    loop.reproduce(one)
    loop.apply(one)
    early, _ = loop.reproduce(two)
    loop.forge.merge(one.number)
    assert early.state in {"unchanged", "proposed"}
    late, done = loop.reproduce(two)
    assert "merging main in" in done.stderr
    assert late.summary.base == loop.forge.git.find("main")
    if late.state == "proposed":
        loop.apply(two)
        loop.forge.merge(two.number)
        assert loop.main().previous.evidence.pull == one.number


def test_libraries_that_main_changed_are_told_before_anything_is_trained(loop):
    pull = loop.branch("mine", model={"arguments": {"C": 0.9}})
    loop.branch("theirs", "uv.lock", "version = 1\n")
    loop.git.run("push", "--quiet", "origin", "theirs:main")
    bundle, done = loop.reproduce(pull, code=1)
    assert bundle.state == "failed"
    assert "other libraries in uv.lock" in bundle.summary.error.what
    assert "reproducing" not in done.stderr


def test_a_rejected_model_is_handed_over_with_its_report_and_no_files(loop):
    pull = loop.branch("worse", model={"arguments": {"C": 1e-6}})
    bundle, _ = loop.reproduce(pull)
    assert (bundle.state, bundle.summary.version, bundle.objects) == ("rejected", None, ())
    assert bundle.report.startswith("## ")
    assert "nothing" in loop.apply(pull).stdout


def comment_of(bundle):
    return say(bundle.summary, bundle.report, None, CommentContext()).text


def test_a_stage_that_fails_says_why_in_the_comment(loop):
    pull = loop.branch("broken", model={"factory": "toy.model:nothing"})
    bundle, _ = loop.reproduce(pull, code=1)
    assert bundle.state == "failed"
    assert "toy.model" in comment_of(bundle)
    assert "nothing" in bundle.summary.error.what


def test_params_with_a_wrong_key_say_so_in_the_comment(loop):
    pull = loop.branch("typo", gate={"margn": 0.1})
    bundle, _ = loop.reproduce(pull, code=1)
    assert "did you mean `margin`?" in comment_of(bundle)


def test_what_is_not_committed_is_not_proposed(loop):
    pull = loop.branch("mine", model={"arguments": {"C": 0.9}})
    job = loop.clone("reproduce", pull.head)
    job.set_params(model={"arguments": {"C": 0.8}})
    done = job.mergeline("ci", "bundle", str(loop.place / "proposal"), code=1)
    assert "not committed: params.yaml" in done.stderr
    assert yaml.safe_load((job.root / "params.yaml").read_text())["model"]["arguments"] == {"C": 0.8}


def test_after_a_rollback_everything_but_the_held_model_goes_on(loop):
    pull = loop.branch("better", model={"arguments": {"C": 0.9}})
    loop.reproduce(pull)
    loop.apply(pull)
    loop.forge.merge(pull.number)
    operator = loop.clone("operator", "main")
    operator.mergeline("rollback", "charged twice", "--pull-request")
    (back,) = loop.forge.list_open()
    assert loop.reproduce(back)[0].state == "held"
    loop.forge.merge(back.number)
    assert loop.main().stable.version == 1
    docs = loop.branch("docs", "README.md")
    assert loop.reproduce(docs)[0].state == "held"
    words = loop.branch("words", evaluation={"resamples": 300})
    bundle, _ = loop.reproduce(words)
    assert bundle.state == "held"
    assert "applied" in loop.apply(words).stdout  # dvc.lock has the new evaluation, and the manifest stays
    again = loop.branch("again", model={"arguments": {"C": 0.8}})
    assert loop.reproduce(again)[0].summary.version == 3
    loop.apply(again)
    loop.forge.merge(again.number)
    assert (loop.main().stable.version, loop.main().previous.version) == (3, 1)


def test_a_release_is_undone_by_one_revert(loop):
    before = loop.main().stable
    pull = loop.branch("better", model={"arguments": {"C": 0.9}})
    loop.reproduce(pull)
    loop.apply(pull)
    loop.forge.merge(pull.number, squash=True)
    loop.git.run("fetch", "--quiet", "origin")
    loop.git.run("switch", "--quiet", "--force-create", "undo", "origin/main")
    loop.git.run("revert", "--no-edit", "HEAD", settings=loop.git.identity())
    loop.git.push("origin", "undo", expected=None)
    undo = loop.forge.open_or_update("undo", "main", "Undo", "words")
    bundle, _ = loop.reproduce(undo)
    assert (bundle.state, bundle.summary.headline) == ("unchanged", "takes production back to version 1")
    loop.apply(undo)
    assert loop.forge.get(undo.number).head == undo.head
    loop.forge.merge(undo.number)
    assert loop.main().stable == before
    loop.clone("verified", "origin/main").mergeline("verify", "--before", "HEAD^1")


def test_a_branch_that_newly_makes_a_held_model_is_refused(loop):
    pull = loop.branch("better", model={"arguments": {"C": 0.9}})
    digest = loop.reproduce(pull)[0].summary.digest
    text = (loop.clone("seen", "origin/main").root / "deploy" / "manifest.yaml").read_text()
    held = text.replace("holds: []", f"holds: [{{digest: {digest}, reason: it lost money}}]")
    loop.branch("hold", "deploy/manifest.yaml", held)
    loop.git.run("push", "--quiet", "origin", "hold:main")
    bundle, _ = loop.reproduce(pull, code=1)
    assert "is under a hold: it lost money" in bundle.summary.error.what


def test_what_a_fork_brought_is_proposed_on_main_afterwards(loop):
    pull = loop.branch("from-a-fork", model={"arguments": {"C": 0.9}})
    loop.forge.merge(pull.number)
    head = loop.forge.git.find("main")
    docs = loop.branch("docs", "README.md")
    assert loop.reproduce(docs)[0].state == "unchanged"  # it is main's own model, and no branch's
    job = loop.clone("stale", head)
    job.mergeline("ci", "bundle", str(loop.place / "proposal"))
    shutil.copytree(loop.place / "proposal", loop.place / "handed")
    apply = loop.clone("apply", "origin/main")
    arguments = ("ci", "apply", str(loop.place / "handed"), "--branch", "propose/stale-lock", "--head", head)
    assert "applied" in apply.mergeline(*arguments).stdout
    assert "nothing" in apply.mergeline(*arguments).stdout
    (own,) = [found for found in loop.forge.list_open() if found.branch == "propose/stale-lock"]
    assert loop.reproduce(own)[0].state == "proposed"
    assert "nothing" in loop.apply(own).stdout
    loop.forge.merge(own.number)
    assert loop.main().stable.evidence.pull == own.number
    loop.clone("released", "origin/main").mergeline("verify", "--before", head)
