"""The toy problem as a repository on the local GitHub, with the real workflow files; and the stories played on it."""

import contextlib
import shutil

import yaml
from loop_project import DEAD_SERVER, ROOT, make_project

from copier_template import WORKFLOW, Template
from local_github.github import local_github
from local_github.runner import Actions
from local_github.scratch import Clone, git_with_token
from mergeline.documents import parse
from mergeline.manifest.schema import Manifest
from toy_data import orders, toy_params, write_months
from toy_journal import turned, write_journal

NAME = "acme/orders"
MANIFEST = "deploy/manifest.yaml"
MAKEFILE = """UV := uv
test:
	@$(UV) run --locked pytest -q tests
check:
	@$(UV) run --locked ruff check --quiet tests
"""
SMALL_TEST = """from pathlib import Path

import yaml


def test_the_params_are_those_of_the_toy_problem():
    assert yaml.safe_load(Path("params.yaml").read_text())["name"] == "orders"
"""


def make_template(place):
    """A released toy model beside the real workflow files, as a git repository."""
    write_months(place / "data", rows=1500)
    params = toy_params(tracking={"uri": DEAD_SERVER}).model_dump(mode="json", by_alias=True)
    project = make_project(place, ROOT / "engine" / "tests" / "packages" / "toy", params)
    project.release_first()
    shutil.copytree(ROOT / ".github", place / ".github")
    shutil.copytree(ROOT / "engine" / "src", place / "engine" / "src", ignore=shutil.ignore_patterns("__pycache__"))
    engine = ("engine/pyproject.toml", "engine/hatch_build.py", "engine/README.md")
    for name in ("README.md", "LICENSE", ".gitattributes", *engine):
        shutil.copy(ROOT / name, place / name)
    text = (ROOT / "pyproject.toml").read_text().replace('"src/flights"', '"src/toy"')
    (place / "pyproject.toml").write_text(text)
    (place / "Makefile").write_text(MAKEFILE)
    (place / "tests").mkdir()
    (place / "tests" / "test_toy.py").write_text(SMALL_TEST)
    (place / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    project.commit_all("Workflows")


class Stage:
    """A local GitHub with the toy repository on it, and the people who work there."""

    def __init__(self, github, template, place, venv):
        self.github, self.place = github, place
        self.actions = Actions(github, venv=venv)
        github.create(NAME)
        push = ("push", "--quiet", github.remote(NAME), "HEAD:refs/heads/main")
        code, words = git_with_token(github, template, github.token("alice"), *push)
        assert code == 0, words
        github.import_ruleset(NAME, ROOT / ".github" / "rulesets" / "main.json")
        github.take_as_deployed(NAME)

    def clone(self, login, name=NAME):
        """A fresh clone of main."""
        return Clone.make(self.github, self.place / f"{login}-{len(list(self.place.iterdir()))}", name, login)

    def propose(self, login, branch, *, name=NAME, **sections):
        """Change params.yaml on a branch, push it and open the pull request; its number."""
        clone = self.clone(login, name)
        path = clone.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for section, changes in sections.items():
            values[section] = {**values[section], **changes}
        path.write_text(yaml.safe_dump(values))
        clone.push(branch, f"Try {branch}")
        head = branch if name == NAME else f"{login}:{branch}"
        return self.github.open_pull(NAME, head, by=login, title=f"Try {branch}")["number"]

    def settle(self):
        """Run all that was started; what came of it."""
        return [
            {"workflow": run.workflow, "event": run.event.name, "conclusion": run.conclusion, "log": run.log,
             "summary": run.summary, "jobs": {job.name: job.conclusion for job in run.jobs}}
            for run in self.actions.settle()
        ]  # fmt: skip

    def pull(self, number):
        """How a pull request stands."""
        found = self.github.pull(NAME, number)
        head = found["head"]["sha"]
        git = self.github.hub.repositories[NAME].git
        return {
            "number": number,
            "title": found["title"],
            "author": found["user"]["login"],
            "state": found["state"],
            "merged": found["merged"],
            "head": head,
            "branch": found["head"]["ref"],
            "committer": git.run("show", "-s", "--format=%an", head),
            "comments": [{"by": said["user"]["login"], "body": said["body"]} for said in self.comments(number)],
            "checks": {name: check["conclusion"] for name, check in self.github.checks(NAME, head).items()},
            "files": [file.path for file in self.github.hub.repositories[NAME].files(found["base"]["sha"], head)],
            "served": self.served(head),
        }

    def comments(self, number):
        """The comments of a pull request."""
        return self.github.comments(NAME, number)

    def issues(self):
        """The issues, those that are pull requests left out."""
        found = self.github.api.pages(f"/repos/{NAME}/issues?state=all", token=self.github.hub.admin)
        return [{"state": one["state"], "body": one["body"]} for one in found if "pull_request" not in one]

    def served(self, commit="refs/heads/main"):
        """The version, the digest and the holds of a commit's manifest."""
        spec = parse(self.github.hub.repositories[NAME].git.show(commit, MANIFEST), Manifest, MANIFEST).spec
        return {
            "version": spec.stable.version,
            "digest": spec.stable.digest,
            "pull": spec.stable.evidence.pull,
            "holds": [hold.digest for hold in spec.holds],
        }

    def merge(self, number, approved_by="carol"):
        """Approve and merge as people do: the status, and the commit or the reason."""
        if approved_by:
            self.github.approve(NAME, number, by=approved_by)
        return list(self.github.merge(NAME, number, by="alice"))

    def open_pulls(self, author):
        """The open pull requests of one author."""
        found = self.github.api.pages(f"/repos/{NAME}/pulls?state=open", token=self.github.hub.admin)
        return [self.pull(pull["number"]) for pull in found if pull["user"]["login"] == author]


BETTER = {
    "model": {"factory": "toy.model:boosted", "arguments": {"max_iter": 40, "learning_rate": 0.05}},
    "gate": {"margin": 0.1},
}
TURNED = {"max_calibration_error": 1.0, "max_stress_loss": 5.0, "max_unfairness": 1.0, "max_latency_ms": 10_000}
"""A model of both worlds is neither fair nor calibrated."""
WORSE = {"model": {"arguments": {"C": 1e-6}}}
BOT = "github-actions[bot]"


def from_proposal_to_rollback(stage):
    """A better model: judged, proposed, reviewed, merged, deployed, and taken back."""
    number = stage.propose("alice", "better", **BETTER)
    told = {"pushed": stage.pull(number)["head"], "merged before": stage.merge(number)}
    told["runs"] = stage.settle()
    told["pull"] = stage.pull(number)
    stage.github.dispatch(NAME, "model.yml", by="alice", pull=str(number))
    told["again"] = stage.settle()
    told["pull again"] = stage.pull(number)
    told["merged"] = stage.merge(number, approved_by=None)
    told["deployment"] = stage.settle()
    told["after merge"] = stage.served()
    told["pull after merge"] = stage.pull(number)
    told["branches"] = sorted(stage.github.hub.repositories[NAME].refs())
    told["from another branch"] = dispatch_from_another_branch(stage)
    told["opened from another branch"] = stage.open_pulls(BOT)
    told["without permission"] = dispatch_without_permission(stage)
    told["opened without permission"] = stage.open_pulls(BOT)
    stage.github.dispatch(NAME, "rollback.yml", by="alice", reason="Returns were missed.")
    told["rollback runs"] = stage.settle()
    told["rollbacks"] = stage.open_pulls(BOT)
    told["rollback merged"] = [stage.merge(pull["number"]) for pull in told["rollbacks"]]
    told["rollback deployment"] = stage.settle()
    told["after rollback"] = stage.served()
    told["pull after rollback"] = stage.pull(number)
    return told


def from_fork_to_stale_lock(stage):
    """A fork's better model: judged without rights; after the merge the deployment proposes it."""
    fork = stage.github.fork(NAME, "bob").name
    number = stage.propose("bob", "better", name=fork, **BETTER)
    told = {"pushed": stage.pull(number)["head"], "runs": stage.settle()}
    stage.github.dispatch(NAME, "model.yml", by="alice", pull=str(number))
    told["by hand"] = stage.settle()
    told["pull"] = stage.pull(number)
    told["merged"] = stage.merge(number)
    told["after merge"] = stage.served()
    told["deployment"] = stage.settle()
    told["proposals"] = stage.open_pulls(BOT)
    told["proposal merged"] = [stage.merge(pull["number"]) for pull in told["proposals"]]
    told["after all"] = stage.served()
    return told


def two_that_conflict(stage):
    """Two proposals at once: the first is merged, and the second, in conflict with it, is made again by hand."""
    first = stage.propose("alice", "better", **BETTER)
    second = stage.propose("alice", "rival", evaluation={"resamples": 300})
    told = {"runs": stage.settle(), "rival": stage.pull(second), "merged": stage.merge(first)}
    told["deployment"] = stage.settle()
    told["merged in conflict"] = stage.merge(second)
    stage.github.dispatch(NAME, "model.yml", by="alice", pull=str(second))
    told["again"] = stage.settle()
    told["rival again"] = stage.pull(second)
    told["rival merged"] = stage.merge(second)
    told["after all"] = stage.served()
    return told


def a_rejected_model(stage):
    """A worse model: refused by the gate, and so by the branch's rules."""
    number = stage.propose("carol", "worse", **WORSE)
    told = {"pushed": stage.pull(number)["head"], "before": stage.served(), "runs": stage.settle()}
    told["pull"] = stage.pull(number)
    told["merged"] = stage.merge(number, approved_by=None)
    return told


def a_changed_world(stage):
    """Production's labels say that the world has turned: the daily look proposes a retrained model."""
    journal = stage.place / "production"
    write_journal(journal, turned(orders("2024-04", 5000)))
    push_to_main(stage, gate=TURNED, retrain={"min_labels": 500}, watch={"journal": str(journal / "journal")})
    stage.github.dispatch(NAME, "watch.yml", by="alice")
    told = {"runs": stage.settle(), "proposals": stage.open_pulls(BOT)}
    told["merged"] = [stage.merge(pull["number"]) for pull in told["proposals"]]
    told["deployment"] = stage.settle()
    told["after merge"] = stage.served()
    stage.github.dispatch(NAME, "rollout.yml", by="alice")
    told["rollout"] = stage.settle()
    return told


def a_newer_template(stage):
    """The weekly look: a pull request for what changed, judged; an issue where the token may change no workflow."""
    ours = {"GOAL.md": "One.\n", WORKFLOW: "name: watch\n"}
    template = Template(stage.place / "template", ours)
    at = {"_commit": template.git.run("rev-parse", "HEAD"), "_src_path": str(template.git.folder)}
    with no_rules(stage) as clone:
        for name, text in {**ours, ".copier-answers.yml": yaml.safe_dump(at)}.items():
            (clone.folder / name).write_text(text)
    template.newer({"GOAL.md": "Two.\n"})
    stage.github.dispatch(NAME, "template.yml", by="alice")
    told = {"runs": stage.settle(), "proposals": stage.open_pulls(BOT)}
    template.newer({WORKFLOW: "name: watch all\n"})
    stage.github.dispatch(NAME, "template.yml", by="alice")
    told["with a workflow"] = stage.settle()
    told["issues"] = [issue for issue in stage.issues() if issue["state"] == "open"]
    return told


@contextlib.contextmanager
def no_rules(stage):
    """A clone whose changes go to main at the end, as an owner's who may pass the rules."""
    hub = stage.github.hub
    rulesets, hub.settings[NAME].rulesets = hub.settings[NAME].rulesets, []
    clone = stage.clone("alice")
    yield clone
    clone.push("by-an-owner", "By an owner")
    clone.git("push", "--quiet", "origin", "by-an-owner:main")
    hub.events.clear()
    hub.settings[NAME].rulesets = rulesets


def push_to_main(stage, **sections):
    """Change params.yaml on main."""
    with no_rules(stage) as clone:
        path = clone.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes}
        path.write_text(yaml.safe_dump(values))


def dispatch_from_another_branch(stage):
    """Start a rollback from a branch of the dropdown that is not main."""
    clone = stage.clone("alice")
    (clone.folder / "notes.txt").write_text("mine\n")
    clone.push("other", "Another branch")
    stage.github.dispatch(NAME, "rollback.yml", by="alice", branch="other", reason="Returns were missed.")
    return [run for run in stage.settle() if run["workflow"] == "rollback"]


def dispatch_without_permission(stage):
    """Start a rollback while its file on main takes one permission off the job."""
    hub = stage.github.hub
    rulesets, hub.settings[NAME].rulesets = hub.settings[NAME].rulesets, []
    clone = stage.clone("alice")
    path = clone.folder / ".github" / "workflows" / "rollback.yml"
    text = path.read_text()
    assert text.count("pull-requests: write") == 1
    path.write_text(text.replace("pull-requests: write", "pull-requests: read"))
    clone.push("less", "Less rights")
    clone.git("push", "--quiet", "origin", "less:main")
    hub.events.clear()
    stage.github.dispatch(NAME, "rollback.yml", by="alice", reason="Returns were missed.")
    runs = stage.settle()
    clone.git("revert", "--no-edit", "HEAD")
    clone.git("push", "--quiet", "origin", "less:main")
    hub.events.clear()
    hub.settings[NAME].rulesets = rulesets
    return runs


def play(story, tools, template, place, venv):
    """Play one story on a GitHub of its own; what came of it."""
    with local_github(place / "github", tools) as github:
        (place / "people").mkdir()
        return story(Stage(github, template, place / "people", venv))
