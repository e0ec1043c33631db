"""The real workflow files, run by act on a local GitHub: what people and tokens see of the loop."""

import shutil

import pytest
import workflow_project

pytestmark = [pytest.mark.slow(minutes=5), pytest.mark.usefixtures("story")]
BOT = "github-actions[bot]"


def run_of(runs, workflow, event=None):
    """The one run of a workflow."""
    found = [run for run in runs if run["workflow"] == workflow and event in {None, run["event"]}]
    assert len(found) == 1, [(run["workflow"], run["event"], run["conclusion"]) for run in runs]
    return found[0]


def log_of(run, job):
    """What one job said."""
    return "\n".join(line for line in run["log"].splitlines() if line.startswith(f"[{job}]"))


def posted_as_expected(run):
    """Whether CML posted the comment, where there is one."""
    way = "CML:" if shutil.which("cml") else "the API (CML is not installed)"
    return f"the comment was posted with {way}" in run["log"]


class TestABetterModel:
    STORY = staticmethod(workflow_project.from_proposal_to_rollback)

    def test_nothing_is_merged_before_the_required_check(self):
        status, reason = self.told["merged before"]
        assert (status, "mergeline" in reason) == (405, True)

    def test_every_job_succeeds(self):
        run = run_of(self.told["runs"], "model")
        assert set(run["jobs"].values()) == {"success"}, run["log"][-3000:]

    def test_the_bot_commits_the_proposal_to_the_branch(self):
        assert self.pull["head"] != self.told["pushed"]
        assert self.pull["committer"] != "alice"
        assert {"params.yaml", "dvc.lock", "deploy/manifest.yaml"} <= set(self.pull["files"])
        assert self.pull["served"]["version"] == 2
        assert self.pull["served"]["pull"] == self.pull["number"]

    def test_the_required_check_is_on_the_commit_that_the_bot_pushed(self):
        assert self.pull["checks"]["mergeline"] == "success"

    def test_one_comment_of_the_bot_names_the_proposed_digest(self):
        (comment,) = self.pull["comments"]
        assert comment["by"] == BOT
        assert self.pull["served"]["digest"] in comment["body"]
        assert "Accepted" in comment["body"]

    def test_cml_posts_where_it_is_on_the_path_and_the_forge_where_it_is_not(self):
        assert posted_as_expected(run_of(self.told["runs"], "model"))

    def test_the_summary_of_the_run_holds_the_report(self):
        assert self.pull["served"]["digest"] in run_of(self.told["runs"], "model")["summary"]

    def test_the_same_again_makes_no_second_commit_and_no_second_comment(self):
        assert run_of(self.told["again"], "model")["conclusion"] == "success"
        assert self.told["pull again"]["head"] == self.pull["head"]
        assert len(self.told["pull again"]["comments"]) == 1

    def test_the_merge_releases_what_was_reviewed(self):
        assert self.told["merged"][0] == 200, self.told["merged"]
        assert self.told["after merge"]["digest"] == self.pull["served"]["digest"]

    def test_the_deployment_verifies_and_publishes_the_page(self):
        run = run_of(self.told["deployment"], "deploy")
        assert run["conclusion"] == "success", run["log"][-3000:]
        assert (run["jobs"]["verify"], run["jobs"]["page"]) == ("success", "success")
        assert run["jobs"]["stale / reproduce"] == "skipped"
        assert "refs/heads/gh-pages" in self.told["branches"]

    def test_the_pull_request_says_where_it_serves_and_later_that_it_was_taken_back(self):
        serving = [said["body"] for said in self.told["pull after merge"]["comments"] if "serves in" in said["body"]]
        assert ["version 2 serves in production" in body for body in serving] == [True]
        assert self.pull["served"]["digest"] in serving[0]
        later = [said["body"] for said in self.told["pull after rollback"]["comments"]]
        assert any("version 2 serves no more" in body and "Returns were missed." in body for body in later)

    def test_a_rollback_that_is_started_from_another_branch_is_refused_and_nothing_is_opened(self):
        (run,) = self.told["from another branch"]
        assert run["conclusion"] == "failure"
        assert "runs from main alone" in log_of(run, "rollback")
        assert self.told["opened from another branch"] == []

    def test_a_missing_permission_is_named_and_nothing_is_opened(self):
        run = run_of(self.told["without permission"], "rollback")
        assert run["conclusion"] == "failure"
        assert "pull-requests: write" in log_of(run, "rollback")
        assert self.told["opened without permission"] == []

    def test_a_rollback_is_a_checked_pull_request_of_the_bot(self):
        assert run_of(self.told["rollback runs"], "rollback")["conclusion"] == "success"
        (rollback,) = self.told["rollbacks"]
        assert rollback["author"] == BOT
        assert rollback["checks"]["mergeline"] == "success"
        assert rollback["files"] == ["deploy/manifest.yaml"]

    def test_its_merge_brings_back_the_first_model_and_holds_the_second(self):
        assert [merged[0] for merged in self.told["rollback merged"]] == [200]
        assert self.told["after rollback"]["version"] == 1
        assert self.told["after rollback"]["holds"] == [self.pull["served"]["digest"]]
        assert run_of(self.told["rollback deployment"], "deploy")["conclusion"] == "success"


class TestAFork:
    STORY = staticmethod(workflow_project.from_fork_to_stale_lock)

    def test_nothing_is_pushed_for_a_fork(self):
        run = run_of(self.told["runs"], "model")
        assert run["jobs"]["proposal / propose"] == "skipped"
        assert self.pull["head"] == self.told["pushed"]

    def test_a_run_by_hand_runs_none_of_its_code(self):
        run = run_of(self.told["by hand"], "model")
        assert run["conclusion"] == "failure"
        assert "is from a fork" in log_of(run, "proposal / plan")
        skipped = {f"proposal / {name}" for name in ("reproduce", "propose", "tests / tests")}
        assert {name: run["jobs"][name] for name in skipped} == dict.fromkeys(skipped, "skipped")

    def test_its_check_is_green_all_the_same(self):
        assert self.pull["checks"]["mergeline"] == "success"

    def test_the_second_stage_comments_the_report(self):
        assert run_of(self.told["runs"], "comment")["conclusion"] == "success"
        (comment,) = self.pull["comments"]
        assert comment["by"] == BOT
        assert "Accepted" in comment["body"]
        assert posted_as_expected(run_of(self.told["runs"], "comment"))

    def test_its_merge_releases_nothing_yet(self):
        assert self.told["merged"][0] == 200, self.told["merged"]
        assert self.told["after merge"]["version"] == 1

    def test_the_deployment_opens_the_proposal_of_the_stale_lock(self):
        run = run_of(self.told["deployment"], "deploy")
        assert run["conclusion"] == "success", run["log"][-3000:]
        (proposal,) = self.told["proposals"]
        assert proposal["author"] == BOT
        assert proposal["served"]["version"] == 2
        assert proposal["checks"]["mergeline"] == "success"

    def test_that_proposal_can_be_merged(self):
        assert [merged[0] for merged in self.told["proposal merged"]] == [200], self.told["proposal merged"]
        assert self.told["after all"]["version"] == 2


class TestTwoThatConflict:
    STORY = staticmethod(workflow_project.two_that_conflict)

    def test_after_the_first_merge_the_second_cannot_be_merged(self):
        assert self.told["merged"][0] == 200, self.told["merged"]
        assert self.told["merged in conflict"][0] == 405

    def test_a_run_by_hand_makes_it_again_on_top_of_main(self):
        run = run_of(self.told["again"], "model")
        assert run["conclusion"] == "success", run["log"][-3000:]
        assert set(run["jobs"].values()) == {"success"}
        assert self.told["rival again"]["head"] != self.told["rival"]["head"]
        assert self.told["rival again"]["checks"]["mergeline"] == "success"

    def test_then_it_can_be_merged_and_what_the_first_released_still_serves(self):
        assert self.told["rival merged"][0] == 200, self.told["rival merged"]
        assert self.told["after all"]["version"] == 2


class TestAChangedWorld:
    STORY = staticmethod(workflow_project.a_changed_world)

    def test_the_daily_look_opens_the_pull_request_of_a_retrained_model(self):
        run = run_of(self.told["runs"], "watch")
        assert run["conclusion"] == "success", run["log"][-3000:]
        (proposal,) = self.told["proposals"]
        assert (proposal["author"], proposal["branch"]) == (BOT, "retrain/orders")
        assert {"data.dvc", "dvc.lock", "deploy/manifest.yaml"} <= set(proposal["files"])
        assert proposal["served"]["version"] == 2
        assert proposal["checks"]["mergeline"] == "success"

    def test_its_merge_releases_it(self):
        assert [merged[0] for merged in self.told["merged"]] == [200], self.told["merged"]
        assert self.told["after merge"]["version"] == 2
        assert run_of(self.told["deployment"], "deploy")["conclusion"] == "success"

    def test_where_nothing_rolls_out_the_half_hourly_look_says_so(self):
        run = run_of(self.told["rollout"], "rollout")
        assert run["conclusion"] == "success", run["log"][-3000:]
        assert "nothing" in run["summary"]


class TestANewerTemplate:
    STORY = staticmethod(workflow_project.a_newer_template)

    def test_the_weekly_look_opens_a_pull_request(self):
        run = run_of(self.told["runs"], "template")
        assert run["conclusion"] == "success", run["log"][-3000:]
        (proposal,) = self.told["proposals"]
        assert (proposal["author"], proposal["branch"]) == (BOT, "upgrade/template")
        assert "GOAL.md" in proposal["files"]

    def test_which_the_gate_judges(self):
        run = run_of(self.told["runs"], "model")
        assert run["conclusion"] == "success", run["log"][-3000:]
        (proposal,) = self.told["proposals"]
        assert proposal["checks"]["mergeline"] == "success"

    def test_where_the_token_may_change_no_workflow_an_issue_says_what_to_do(self):
        run = run_of(self.told["with a workflow"], "template")
        assert run["conclusion"] == "success", run["log"][-3000:]
        (issue,) = self.told["issues"]
        assert "may not push workflow files" in issue["body"]


class TestARejectedModel:
    STORY = staticmethod(workflow_project.a_rejected_model)

    def test_the_required_check_is_red(self):
        assert self.pull["checks"]["mergeline"] == "failure"

    def test_it_cannot_be_merged(self):
        status, reason = self.told["merged"]
        assert (status, reason.splitlines()[-1]) == (405, 'Required status check "mergeline" is failure.')

    def test_the_comment_says_so(self):
        (comment,) = self.pull["comments"]
        assert "Rejected" in comment["body"]

    def test_nothing_is_written(self):
        assert self.pull["head"] == self.told["pushed"]
        assert self.pull["files"] == ["params.yaml"]
        assert self.pull["served"] == self.told["before"]
