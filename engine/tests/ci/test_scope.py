"""Runs that people start by hand, and what a deployment is compared with, on a local GitHub."""

import json

import pytest

from local_github.state import Event, Run
from mergeline.ci.plan import is_still_released, last_deployed
from mergeline.ci.scope import ModelPaths, decide, pin, require_main, scope
from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.home import Home

PIPELINE = "stages: {train: {cmd: train, deps: [src/toy], outs: [model]}}\n"
BY_HAND = {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF": "refs/heads/main"}


class TestByHand:
    def test_a_branch_of_this_repository_is_pinned_to_its_commit(self, models):
        number = models.pull()
        assert pin(models.forge(), number, BY_HAND) == models.forge().get(number).head

    def test_one_that_conflicts_with_main_is_pinned_to_its_commit_and_not_to_an_old_merge(self, models):
        number = models.pull(text="b\n")
        models.push("main", "c\n", start="main")
        assert pin(models.forge(), number, BY_HAND) == models.clone.find("topic")

    def test_a_fork_is_refused_and_told_what_helps(self, models):
        number, _ = models.fork_pull()
        with pytest.raises(ForgeError, match="is from a fork") as caught:
            pin(models.forge(), number, BY_HAND)
        assert caught.value.hint.startswith("close and reopen it, or re-run the jobs of its own run")

    def test_one_that_is_closed_is_refused(self, models):
        number = models.pull()
        models.close(number)
        with pytest.raises(ForgeError, match=f"pull request {number} is closed, into main"):
            pin(models.forge(), number, BY_HAND)

    @pytest.mark.parametrize("ref", ["refs/heads/topic", "refs/tags/main", "refs/heads/main2", ""])
    def test_another_branch_of_the_dropdown_is_refused(self, ref):
        with pytest.raises(ForgeError, match="runs from main alone") as caught:
            require_main({**BY_HAND, "GITHUB_REF": ref})
        assert "choose the branch main" in caught.value.hint

    def test_other_events_and_people_at_home_are_let_through(self):
        require_main({"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/topic"})
        require_main({})


class TestTheLastDeployment:
    @pytest.fixture(autouse=True)
    def _runs(self, models):
        self.models, self.commits = models, [models.clone.find("main")]
        for text in ("b\n", "c\n", "d\n"):
            self.commits.append(models.push("main", text))

    def ran(self, place, conclusion, *, file="deploy.yml", event="push"):
        commit, hub = self.commits[place], self.models.hub.hub
        happened = Event(self.models.name, event, None, {}, "refs/heads/main", commit, commit, "main", "alice")
        hub.runs.append(Run(len(hub.runs) + 1, "deploy", file, happened, conclusion=conclusion))

    def last(self):
        return last_deployed(self.models.clone, self.models.forge({"actions": "read"}).client)

    def test_it_is_the_newest_that_succeeded_whatever_failed_since(self):
        self.ran(0, "success")
        self.ran(1, "success")
        self.ran(2, "failure")
        assert self.last() == self.commits[1]

    def test_one_that_ended_late_is_not_the_newest_for_that(self):
        self.ran(2, "success")
        self.ran(1, "success")
        assert self.last() == self.commits[2]

    def test_a_deployment_that_is_run_again_is_not_compared_with_itself(self):
        self.ran(1, "success")
        self.ran(3, "success")
        assert self.last() == self.commits[1]

    def test_other_workflows_and_later_commits_are_none(self):
        self.ran(1, "success", file="checks.yml")
        self.ran(3, "success")
        self.models.clone.run("checkout", "--quiet", self.commits[2])
        assert self.last() is None


class TestTheNewestManifest:
    def test_a_commit_that_leaves_the_manifest_alone_takes_nothing_over(self, scene):
        scene.commit("main", "notes.txt", "mine")
        assert is_still_released(Git(scene.root), [Home.at(scene.root)])

    def test_one_with_another_manifest_does(self, scene):
        scene.commit("main", "deploy/manifest.yaml", scene.base_text() + "# words\n")
        assert not is_still_released(Git(scene.root), [Home.at(scene.root)])


class TestWhatAPullRequestHasToDo:
    ONE = {"toy": ModelPaths(".", ("dvc.yaml", "params.yaml", "src/toy", "data.dvc", "docs/stop-words.txt"))}
    SHARED = ("uv.lock", "src/shared")
    TWO = {
        "toy": ModelPaths(".", ("params.yaml", "deploy/manifest.yaml", "src/toy", *SHARED)),
        "fraud": ModelPaths("models/fraud", ("models/fraud/params.yaml", "src/fraud", *SHARED)),
    }

    @pytest.mark.parametrize(
        ("changed", "tests", "model"),
        [
            (["docs/github.md", "README.md", "LICENSE"], False, False),
            (["tests/test_toy.py", "docs/a.md"], True, False),
            ([".github/workflows/model.yml", "Makefile"], True, False),
            (["deploy/kubernetes/base/service.yaml"], True, False),
            (["params.yaml"], True, True),
            (["src/toy/README.md"], True, True),
            (["docs/stop-words.txt"], True, True),
            (["deploy/manifest.yaml"], True, True),
            (["uv.lock"], True, True),
            (["something/new.txt"], True, True),
        ],
        ids=lambda value: ",".join(value) if isinstance(value, list) else str(value),
    )
    def test_by_what_it_changes(self, changed, tests, model):
        found = decide("a" * 40, changed, self.ONE)
        assert (found.tests, bool(found.models), found.check) == (tests, model, tests or model)
        assert changed[0].split("/")[0] in found.reason or "README.md" in found.reason

    def test_where_nobody_can_say_what_the_pipeline_reads_everything_runs(self):
        assert decide("a" * 40, ["docs/github.md"], {"toy": ModelPaths(".", None)}).models

    @pytest.mark.parametrize(
        ("changed", "models"),
        [
            (["models/fraud/params.yaml"], ("fraud",)),
            (["params.yaml"], ("toy",)),
            (["deploy/manifest.yaml"], ("toy",)),
            (["src/fraud/model.py", "store/files/md5/ab/cd"], ("fraud",)),
            (["src/shared/dates.py"], ("toy", "fraud")),
            (["uv.lock"], ("toy", "fraud")),
            (["pyproject.toml"], ("toy", "fraud")),
            (["models/fraud/something.txt"], ("fraud",)),
            (["models/fraud/deploy/kubernetes/a.yaml", "tests/test_a.py"], ()),
            (["store/files/md5/ab/cd"], ("toy", "fraud")),
            (["params.yaml", "models/fraud/dvc.yaml"], ("toy", "fraud")),
        ],
        ids=str,
    )
    def test_of_several_models_those_that_read_it_are_made(self, changed, models):
        assert decide("a" * 40, changed, self.TWO, "store").models == models

    def test_the_branch_is_compared_with_where_it_left_main(self, models, tmp_path):
        models.push("main", PIPELINE, file="dvc.yaml")
        head = models.push("topic", "b\n", file="docs/page.txt")
        models.push("main", "params of others\n", file="params.yaml")
        found = self.scope(models, tmp_path, {"pull_request": {"head": {"sha": head}}, "action": "opened"})
        assert (found.head, found.tests, found.models, found.check) == (head, False, (), False)

    def test_one_that_was_retargeted_gets_its_check_in_any_case(self, models, tmp_path):
        head = models.push("topic", "b\n", file="docs/page.txt")
        assert self.scope(models, tmp_path, {"pull_request": {"head": {"sha": head}}, "action": "edited"}).check

    def test_a_merge_group_is_compared_with_what_it_is_merged_into(self, models, tmp_path):
        base = models.clone.find("main")
        head = models.push("topic", "b\n", file="params.yaml")
        found = self.scope(models, tmp_path, {"merge_group": {"base_sha": base}}, GITHUB_SHA=head)
        assert (found.head, len(found.models)) == (head, 1)

    def test_by_hand_and_for_a_branch_of_its_own_the_model_is_made(self, models, tmp_path):
        number = models.pull()
        by_hand = self.scope(models, tmp_path, {}, pull=number, **BY_HAND)
        assert (by_hand.head, by_hand.tests, len(by_hand.models)) == (models.clone.find("topic"), True, 1)
        own = self.scope(models, tmp_path, {}, branch="retrain/toy", model="toy", GITHUB_SHA="c" * 40)
        assert (own.head, own.tests, own.models, own.check) == ("c" * 40, False, ("toy",), True)

    def scope(self, models, tmp_path, event, *, pull=None, branch="", model="", **environment):
        file = tmp_path / "event.json"
        file.write_text(json.dumps(event))
        told = {"GITHUB_EVENT_PATH": str(file), **environment}
        return scope(models.clone, models.forge(), told, pull=pull, branch=branch, model=model)


def test_a_name_that_is_no_utf_8_can_be_told():
    reason = decide("a" * 40, ["src/\udcff.py"], {"flights": ModelPaths(".", ["src"])}).reason
    assert reason.encode() == b"src/?.py: tests and model"
