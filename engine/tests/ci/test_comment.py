"""What a pull request is told of its proposal, from the job that applied it and after its run."""

import json
import os
import shutil
from pathlib import Path

import pytest
from comment_samples import HEAD, REPORT, handover

from forge_with_buttons import ForgeWithButtons
from mergeline.ci.bundle import ApplyOutcome, ApplyResult, ErrorInfo, write_bundle, write_outcomes
from mergeline.ci.comment import comment_after_run, comment_on_pull, is_stale, read_run
from mergeline.ci.comment_text import (
    CommentContext,
)
from mergeline.errors import ForgeError
from mergeline.github.actions import Job
from mergeline.github.comment import About, Comment, read_about
from mergeline.release.proposal import ProposalStatus
from verb_calls import call_verb

ROOT = Path(__file__).parents[3]


@pytest.fixture
def without_cml(monkeypatch):
    """No CML, whose way takes two seconds each time: test_cml.py takes it, and so does one run of the verb below."""
    folders = os.environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if not (Path(folder) / "cml").exists())
    if shutil.which("git", path=path):  # git may lie beside CML
        monkeypatch.setenv("PATH", path)


def told(models, number):
    return [comment["body"] for comment in models.comments(number)]


@pytest.mark.usefixtures("without_cml")
class TestFromTheJob:
    def test_the_report_is_posted_and_added_to_the_summary(self, models, tmp_path, monkeypatch):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
        number = models.pull()
        write_bundle(tmp_path / "proposal", handover(pull=number), report=REPORT)
        forge = models.forge(run_id="12")

        done = comment_on_pull(forge, tmp_path / "proposal", number, forge.client.job, CommentContext())

        (body,) = told(models, number)
        assert "roc_auc" in body
        assert read_about(Comment(id=1, author="", is_bot=True, body=body)) == About(head=HEAD, run="12.1")
        assert done.startswith(f"pull request #{number}: the comment was posted")
        summary = (tmp_path / "summary").read_text()
        assert "roc_auc" in summary
        assert "posted with" in summary

    def test_no_model_changed_makes_no_comment_and_updates_one(self, models, tmp_path):
        number = models.pull()
        forge = models.forge()
        write_bundle(tmp_path / "proposal", handover(ProposalStatus.UNCHANGED))

        comment_on_pull(forge, tmp_path / "proposal", number, Job(), CommentContext())
        assert told(models, number) == []

        forge.comment(number, "report", "rejected")
        comment_on_pull(forge, tmp_path / "proposal", number, Job(), CommentContext())
        (body,) = told(models, number)
        assert "Merging this releases no model" in body

    def test_what_became_of_it_is_told(self, models, tmp_path):
        number = models.pull()
        write_bundle(tmp_path / "proposal", handover(), report=REPORT)
        error = ErrorInfo(what="somebody pushed meanwhile", hint="wait for the run on that push")
        write_outcomes(tmp_path / "proposal", {"": ApplyResult(outcome=ApplyOutcome.OUTDATED, error=error)})

        comment_on_pull(models.forge(), tmp_path / "proposal", number, Job(), CommentContext())

        (body,) = told(models, number)
        assert "somebody pushed meanwhile" in body

    @pytest.mark.parametrize("hostile", ["link", "million", "not json", "another pull"])
    def test_a_folder_that_is_no_proposal_is_refused_on_the_pull_request(self, models, tmp_path, hostile):
        number, folder = models.pull(), tmp_path / "proposal"
        write_bundle(folder, handover(pull=number + 1 if hostile == "another pull" else number), report=REPORT)
        if hostile == "link":
            (folder / "report.md").unlink()
            (folder / "report.md").symlink_to("/etc/passwd")
        elif hostile == "million":
            (folder / "report.md").write_text("x" * 1_000_000)
        elif hostile == "not json":
            (folder / "proposal.json").write_text("{")

        comment_on_pull(models.forge(), folder, number, Job(), CommentContext())

        (body,) = told(models, number)
        assert "Refused: this is not a proposal" in body
        assert "root:" not in body

    def test_a_run_that_left_no_folder_is_told(self, models, tmp_path):
        number = models.pull()

        comment_on_pull(models.forge(), tmp_path / "none", number, Job(), CommentContext())
        assert told(models, number) == []  # a change of tests makes none

        refused = ("❌ tests: the tests ended as failure",)
        comment_on_pull(models.forge(), tmp_path / "none", number, Job(), CommentContext(refused=refused))
        assert refused[0] in told(models, number)[0]

    def test_a_check_that_failed_without_a_word_is_red_all_the_same(self, models, tmp_path):
        number = models.pull()

        comment_on_pull(models.forge(), tmp_path / "none", number, Job(), CommentContext(red=True))

        assert "the required check is red" in told(models, number)[0]

    def test_a_run_by_hand_leaves_what_a_fork_was_told(self, models, tmp_path):
        number, _ = models.fork_pull()
        models.forge().comment(number, "report", "accepted")

        comment_on_pull(models.forge(), tmp_path / "none", number, Job(), CommentContext(red=True))

        assert "accepted" in told(models, number)[0]

    def test_a_damaged_outcome_is_refused_on_the_pull_request(self, models, tmp_path):
        number = models.pull()
        write_bundle(tmp_path / "proposal", handover(), report=REPORT)
        (tmp_path / "proposal.outcome.json").write_text('{"outcome": "applied", "commit": 7}')

        comment_on_pull(models.forge(), tmp_path / "proposal", number, Job(), CommentContext())

        (body,) = told(models, number)
        assert "Refused" in body
        assert "Accepted" not in body

    def test_what_a_branch_changes_of_its_judge_is_told_though_its_report_does_not(self, scene):
        scene.pull()
        text = (scene.person.folder / "params.yaml").read_text()
        assert "margin: 0.005" in text
        scene.commit("change", "params.yaml", text.replace("margin: 0.005", "margin: 0.9"))
        pull = scene.forge.get(1)
        scene.bundle(pull)

        comment_on_pull(scene.forge, scene.made, 1, Job(), CommentContext(), scene.git)

        body = (scene.forge.folder / "pulls" / "1" / "comments" / "report.md").read_text()
        assert "changes what it is judged by: gate.margin 0.005 → 0.9" in body.partition("---")[0]

    def test_a_local_forge_is_told_too(self, tmp_path):
        from mergeline.github.git import Git

        forge = ForgeWithButtons.create(tmp_path / "forge")
        work = Git.init(tmp_path / "work")
        for branch, text in (("main", "a"), ("topic", "b")):
            if branch != "main":
                work.switch(branch, start="main")
            (work.folder / "file").write_text(text)
            work.commit(branch, "file")
            work.push(forge.url, branch, expected=None)
        pull = forge.open_or_update("topic", "main", "T", "b")
        write_bundle(tmp_path / "proposal", handover(), report=REPORT)

        comment_on_pull(forge, tmp_path / "proposal", pull.number, Job(), CommentContext())

        comment = tmp_path / "forge" / "pulls" / str(pull.number) / "comments" / "report.md"
        assert "## ✅ Accepted" in comment.read_text()


def event(models, number, fork, *, run=7, attempt=1, conclusion="success", head=None, **fields):
    """The event of a run, as GitHub makes it for a fork: without the pull request's number."""
    pull = models.hub.pull(models.name, number)
    return {
        "action": "completed",
        "workflow_run": {
            "id": run,
            "run_attempt": attempt,
            "event": "pull_request",
            "head_branch": pull["head"]["ref"],
            "head_sha": head or pull["head"]["sha"],
            "conclusion": conclusion,
            "head_repository": {"full_name": fork},
            "repository": {"full_name": models.name},
            "pull_requests": [],
            "html_url": f"{models.hub.url}/{models.name}/actions/runs/{run}",
            **fields,
        },
    }


@pytest.mark.usefixtures("without_cml")
class TestAfterTheRun:
    def test_a_forks_pull_request_is_found_and_told(self, models, tmp_path):
        number, fork = models.fork_pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]
        write_bundle(tmp_path / "proposal", handover(head=head), report=REPORT)

        comment_after_run(
            models.forge(), tmp_path / "proposal", read_run(event(models, number, fork)), CommentContext()
        )

        (body,) = told(models, number)
        assert "roc_auc" in body
        assert "From a fork" in body

    def test_a_number_in_the_artifact_moves_nothing(self, models, tmp_path):
        other = models.pull("victim")
        number, fork = models.fork_pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]
        write_bundle(tmp_path / "proposal", handover(head=head, pull=other), report=REPORT)

        comment_after_run(
            models.forge(), tmp_path / "proposal", read_run(event(models, number, fork)), CommentContext()
        )

        assert told(models, other) == []
        assert f"was made for pull request {other}" in told(models, number)[0]

    def test_an_artifact_of_another_commit_is_refused(self, models, tmp_path):
        number, fork = models.fork_pull()
        write_bundle(tmp_path / "proposal", handover(), report=REPORT)

        comment_after_run(
            models.forge(), tmp_path / "proposal", read_run(event(models, number, fork)), CommentContext()
        )

        (body,) = told(models, number)
        assert f"made of {HEAD}" in body

    def test_what_the_run_has_told_by_itself_stays(self, models, tmp_path):
        number = models.pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]
        write_bundle(tmp_path / "proposal", handover(head=head), report=REPORT)
        models.forge().stick(number, "report", "refused, says the run", About(head=head, run="7.1"))

        again = read_run(event(models, number, models.name))
        comment_after_run(models.forge(), tmp_path / "proposal", again, CommentContext())
        assert "refused, says the run" in told(models, number)[0]

        next_attempt = read_run(event(models, number, models.name, attempt=2))
        comment_after_run(models.forge(), tmp_path / "proposal", next_attempt, CommentContext())
        (body,) = told(models, number)
        assert "roc_auc" in body
        assert "what became of this proposal is not known here" in body

    def test_a_late_run_on_an_earlier_commit_does_not_overwrite_a_newer_report(self, models, tmp_path):
        number = models.pull()
        earlier = models.hub.pull(models.name, number)["head"]["sha"]
        newer = models.push("topic", "c\n", start="topic")
        models.forge().stick(number, "report", "about the newer", About(head=newer, run="8.1"))
        write_bundle(tmp_path / "proposal", handover(head=earlier), report=REPORT)

        late = read_run(event(models, number, models.name, head=earlier))
        comment_after_run(models.forge(), tmp_path / "proposal", late, CommentContext())

        (body,) = told(models, number)
        assert "about the newer" in body

    def test_a_commit_that_is_in_no_pull_request_tells_nobody(self, models, tmp_path):
        number, fork = models.fork_pull()

        done = comment_after_run(
            models.forge(),
            tmp_path / "x",
            read_run(event(models, number, fork, head=HEAD, conclusion="failure")),
            CommentContext(),
        )

        assert done.startswith("nothing to tell: no pull request")
        assert told(models, number) == []

    @pytest.mark.parametrize(
        ("conclusion", "says"),
        [("failure", True), ("timed_out", True), ("cancelled", False), ("action_required", False)],
    )
    def test_a_run_without_a_proposal_is_told_where_it_means_something(self, models, tmp_path, conclusion, says):
        number, fork = models.fork_pull()

        comment_after_run(
            models.forge(),
            tmp_path / "none",
            read_run(event(models, number, fork, conclusion=conclusion)),
            CommentContext(),
        )

        assert len(told(models, number)) == says

    def test_a_run_of_another_repository_is_refused(self, models, tmp_path):
        number, fork = models.fork_pull()
        other = event(models, number, fork, repository={"full_name": "evil/models"})

        with pytest.raises(ForgeError, match="evil/models"):
            comment_after_run(models.forge(), tmp_path, read_run(other), CommentContext())

    def test_a_run_on_another_event_has_nobody_to_tell(self, models, tmp_path):
        number, fork = models.fork_pull()
        other = event(models, number, fork, event="merge_group")

        done = comment_after_run(models.forge(), tmp_path, read_run(other), CommentContext())

        assert done.startswith("nothing to tell: a run on merge_group")

    @pytest.mark.parametrize("payload", [{}, {"workflow_run": {}}, {"workflow_run": None}])
    def test_another_events_payload_is_refused(self, payload):
        with pytest.raises(ForgeError, match="not the event of a run"):
            read_run(payload)

    def test_the_permissions_of_the_workflow_are_enough(self, models, tmp_path):
        number, fork = models.fork_pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]
        write_bundle(tmp_path / "proposal", handover(head=head), report=REPORT)
        forge = models.forge({"contents": "read", "actions": "read", "pull-requests": "write"})

        comment_after_run(forge, tmp_path / "proposal", read_run(event(models, number, fork)), CommentContext())

        assert len(told(models, number)) == 1


class TestStaleness:
    commits = ("1" * 40, "2" * 40, "3" * 40)

    @pytest.mark.parametrize(
        ("earlier", "about", "stale"),
        [
            (About(head="3" * 40), About(head="2" * 40), True),
            (About(head="1" * 40), About(head="2" * 40), False),
            (About(head="9" * 40), About(head="2" * 40), False),  # forced away since
            (About(), About(head="2" * 40), False),
            (About(head="2" * 40, run="10.1"), About(head="2" * 40, run="9.2"), True),
            (About(head="2" * 40, run="9.1"), About(head="2" * 40, run="10.1"), False),
            (About(head="2" * 40, run="9.2"), About(head="2" * 40, run="9.10"), False),
        ],
    )
    def test_the_newer_one_stays(self, earlier, about, stale):
        assert is_stale(earlier, about, self.commits) is stale


class TestTheVerb:
    def run(self, models, *arguments):
        token = models.job({"contents": "read", "pull-requests": "write"}).token
        models.monkeypatch.setenv("GITHUB_TOKEN", token)
        shutil.copy(ROOT / "params.yaml", models.clone.folder)
        return call_verb(models.clone.folder, "ci", "comment", *arguments)

    @pytest.mark.slow
    def test_both_ways_comment(self, models, tmp_path, request):
        number = models.pull()
        head = models.hub.pull(models.name, number)["head"]["sha"]
        write_bundle(tmp_path / "proposal", handover(head=head), report=REPORT)
        (tmp_path / "event.json").write_text(json.dumps(event(models, number, models.name)))

        first = self.run(models, tmp_path / "proposal", "--pull", number)
        request.getfixturevalue("without_cml")
        second = self.run(models, tmp_path / "proposal", "--run-event", tmp_path / "event.json")

        assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
        assert f"pull request #{number}: the comment was posted with" in first.stdout
        assert len(told(models, number)) == 1

    def test_one_of_the_two_must_be_given(self, models, tmp_path):
        assert self.run(models, tmp_path).returncode == 2
