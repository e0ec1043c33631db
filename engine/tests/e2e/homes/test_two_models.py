"""Two models in one repository: each is made, judged, released, served and rolled back by itself."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from serve_process import running

from forge_with_buttons import ForgeWithButtons
from mergeline.ci.bundle import read_bundle
from mergeline.github.git import Git
from mergeline.manifest.schema import read_manifest
from mergeline.serve.run import open_listener

pytestmark = pytest.mark.slow
MANIFEST = "deploy/manifest.yaml"
IRIS = "models/iris"


def home_files(root, home=""):
    """What a proposal of a home may change."""
    names = ("dvc.lock", "data.dvc", MANIFEST, "params.yaml")
    return {name: (root / home / name).read_bytes() for name in names}


def changed(git, commit, parent):
    """The paths that a commit changes, without the store's objects."""
    names = git.run("diff", "--name-only", parent, commit).splitlines()
    return sorted(name for name in names if not name.startswith("store/"))


def test_a_new_model_is_a_home_with_a_first_accepted_version(project, two_models):
    told = (two_models / "said.txt").read_text()
    assert "accepted" in told
    assert "--model iris --pull-request" in told
    assert read_manifest(project.root / IRIS / MANIFEST).spec.stable.version == 1
    assert read_manifest(project.root / MANIFEST).metadata.name == "orders"
    assert "src/iris" in project.git.run("ls-files", "src")
    assert "models/iris" in (project.root / "tests" / "test_iris.py").read_text()
    lines = project.mergeline("verify", "--all").stdout
    assert "orders: stable: digest" in lines
    assert "iris: stable: digest" in lines


def test_a_name_that_is_taken_leaves_everything_as_it_was(project):
    done = project.mergeline("new-model", "iris", "--recipe", "iris", code=1)
    assert "is there already" in done.stderr
    assert project.git.changed() == ()


def test_a_proposal_of_one_leaves_the_other_as_it_was(project):
    before = home_files(project.root)
    project.tune("iris", model={"seed": 3, "arguments": {"C": 0.5}}, gate={"margin": 0.5})
    project.mergeline("propose", "--model", "iris")
    assert read_manifest(project.root / IRIS / MANIFEST).spec.stable.version == 2
    assert home_files(project.root) == before
    assert all(name.startswith((IRIS, "store/")) for name in project.git.changed())
    assert not (project.root / IRIS / "store").exists()


def test_a_verb_acts_on_the_home_that_one_stands_in_and_an_unknown_name_lists_those_there_are(project):
    inside = TwoModelsIn(project)
    assert json.loads(inside.mergeline("gate", "--json").stdout)["challenger_digest"]
    done = project.mergeline("gate", "--model", "irsi", code=1)
    assert "there are: --model orders, --model iris" in done.stderr


class TwoModelsIn:
    """The verbs as called in models/iris."""

    def __init__(self, project):
        self.project = project

    def mergeline(self, *arguments):
        here, self.project.root = self.project.root, self.project.root / IRIS
        try:
            return self.project.mergeline(*arguments, settings={"PYTHONPATH": str(here / "src")})
        finally:
            self.project.root = here


class TestInOnePullRequest:
    @pytest.fixture
    def jobs(self, project):
        return Jobs(project)

    def test_of_a_change_of_one_only_that_one_is_made(self, jobs):
        pull = jobs.branch("iris-alone", iris={"model": {"seed": 3}})
        assert jobs.scope(pull) == ["iris"]

    def test_a_change_of_shared_code_makes_all(self, jobs):
        assert jobs.scope(jobs.branch("shared", file="pyproject.toml")) == ["orders", "iris"]

    def test_both_are_committed_at_once_told_in_one_comment_and_concluded_in_one_check(self, jobs):
        pull = jobs.branch(
            "both",
            orders={"model": {"arguments": {"C": 0.9}}},
            iris={"model": {"arguments": {"C": 0.5}}, "gate": {"margin": 0.5}},
        )
        assert jobs.scope(pull) == ["orders", "iris"]
        digests = {name: jobs.reproduce(pull, name).digest for name in ("orders", "iris")}
        job = jobs.clone("apply", "origin/main")
        told = job.mergeline(
            "ci", "apply", str(jobs.bundles), "--pull", str(pull.number), "--head", pull.head, "--json"
        )
        applied = json.loads(told.stdout)
        [commit] = {one["commit"] for one in applied.values()}
        assert {name: one["digest"] for name, one in applied.items()} == digests
        git = jobs.forge.git
        assert git.find(f"{commit}^1") == pull.head
        assert changed(git, commit, pull.head) == [MANIFEST, "dvc.lock", f"{IRIS}/{MANIFEST}", f"{IRIS}/dvc.lock"]

        job.mergeline("ci", "comment", str(jobs.bundles), "--pull", str(pull.number))
        [comment] = (jobs.forge.folder / "pulls" / str(pull.number) / "comments").iterdir()
        text = comment.read_text()
        assert text.startswith("### 2 models")
        assert all(f"## `{name}`" in text and digests[name] in text for name in digests)

        needs = {
            "plan": {"result": "success", "outputs": {"models": json.dumps(list(digests))}},
            "tests": {"result": "success", "outputs": {}},
            "reproduce": {"result": "success", "outputs": {"head": pull.head}},
            "propose": {
                "result": "success",
                "outputs": {"outcome": "applied", "commit": commit, "digest": " ".join(digests.values())},
            },
        }
        payload = jobs.place / "event.json"
        payload.write_text(json.dumps({"inputs": {"pull": str(pull.number)}}))
        job.mergeline(
            "ci", "check", str(jobs.bundles), settings={"NEEDS": json.dumps(needs), "GITHUB_EVENT_PATH": str(payload)}
        )
        [check] = (jobs.forge.folder / "checks" / commit).iterdir()
        assert "success: true" in check.read_text()

        jobs.forge.merge(pull.number)
        jobs.clone("merged", "origin/main").mergeline("verify", "--all", "--before", "HEAD^1")

    def test_a_rollback_of_one_is_a_pull_request_about_that_one(self, jobs):
        jobs.project.tune("iris", model={"arguments": {"C": 0.5}}, gate={"margin": 0.5})
        jobs.project.mergeline("propose", "--model", "iris")
        jobs.project.commit_all("A second version of iris")
        jobs.project.mergeline("rollback", "--model", "iris", "--pull-request", "it failed")
        [pull] = jobs.forge.list_open()
        assert pull.branch == "rollback/iris-2"
        assert changed(jobs.forge.git, pull.head, "main") == [f"{IRIS}/{MANIFEST}"]
        [check] = (jobs.forge.folder / "checks" / pull.head).iterdir()
        assert "success: true" in check.read_text()


class Jobs:
    """A person's clone, and the jobs of a workflow, each in a clone of its own."""

    def __init__(self, project):
        self.project, self.git, self.place = project, project.git, project.root.parent
        self.forge = ForgeWithButtons(self.place / "forge")
        self.bundles = self.place / "proposal"

    def clone(self, name, commit):
        folder = self.place / name
        shutil.rmtree(folder, ignore_errors=True)
        git = Git.clone(self.forge.url, folder)
        git.run("checkout", "--quiet", commit)
        return type(self.project)(folder)

    def branch(self, name, *, file=None, **models):
        """A pull request of a branch that changes the params of models, or one file."""
        self.git.run("switch", "--quiet", "--force-create", name, "origin/main")
        if file:
            (self.project.root / file).write_text("# mine\n")
        for model, sections in models.items():
            self.project.tune(model, **sections)
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", "--message", "Change", settings=self.git.identity())
        self.git.push("origin", name, expected=None)
        return self.forge.open_or_update(name, "main", name, "words")

    def scope(self, pull):
        """What the job plan names, run by main's code."""
        job, output, payload = self.clone("plan", "origin/main"), self.place / "output", self.place / "event.json"
        output.write_text("")
        payload.write_text(json.dumps({"pull_request": {"head": {"sha": pull.head}}, "action": "opened"}))
        job.mergeline("ci", "scope", settings={"GITHUB_OUTPUT": str(output), "GITHUB_EVENT_PATH": str(payload)})
        lines = output.read_text().splitlines()
        return json.loads(lines[next(place for place, line in enumerate(lines) if line.startswith("models<<")) + 1])

    def reproduce(self, pull, model):
        """The job that runs the branch's code for one model."""
        job, folder = self.clone(f"reproduce-{model}", pull.head), self.bundles / model
        job.mergeline("ci", "bundle", str(folder), "--model", model, "--pull", str(pull.number))
        assert job.git.changed() == ()
        bundle = read_bundle(folder)
        assert bundle.state == "proposed", bundle.summary
        return bundle.summary


@pytest.mark.parametrize("model", ["orders", "iris"])
def test_each_is_served_from_its_own_manifest(project, model):
    home = project.root / IRIS if model == "iris" else project.root
    listener = open_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    command = [str(Path(sys.executable).with_name("mergeline")), "serve", "--model", model, "--port", str(port)]
    with running(
        ["env", "-C", str(project.root), *command], f"http://127.0.0.1:{port}", home / "serve.log", project.environment
    ) as server:
        server.wait(server.ready)
        record = server.client.get("/openapi.json").json()["components"]["schemas"]["Record"]["examples"][0]
        answer = server.predict(record).json()
        assert answer["digest"] == read_manifest(home / MANIFEST).spec.stable.digest
        assert server.status["name"] == model
    assert (home / "journal").is_dir()
