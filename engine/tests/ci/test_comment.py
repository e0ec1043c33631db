"""What a pull request is told of its proposal, from the job that applied it and after its run."""

import json
import os
import shutil
from pathlib import Path

import pytest

from mergeline.ci.bundle import (
    ApplyOutcome,
    ApplyResult,
    ErrorInfo,
    ProposalStatus,
    ProposalSummary,
    write_bundle,
    write_outcomes,
)
from mergeline.ci.comment import comment_after_run, comment_on_pull, is_stale, read_run
from mergeline.ci.comment_text import (
    CommentContext,
    CommentText,
    say,
    text_of_missing,
    text_of_refused,
    text_of_several,
)
from mergeline.errors import BundleError, ForgeError
from mergeline.github.actions import Job
from mergeline.github.comment_marker import About, Comment, read_about
from mergeline.github.local_forge import LocalForge
from verb_calls import call_verb

HEAD, BASE = "a" * 40, "b" * 40
DIGEST = "sha256:" + "d" * 64
ROOT = Path(__file__).parents[3]
CANARY = "starts a canary of version 3: 5 % → 25 %"
REPORT = "## ✅ Accepted: better\n\n| Metric | Gain |\n| :-- | --: |\n| `roc_auc` | 0.01 |\n"


def handover(state=ProposalStatus.PROPOSED, **fields):
    return ProposalSummary(
        **{"name": "flights", "state": state, "head": HEAD, "base": BASE, "headline": "better", **fields}
    )


@pytest.fixture
def without_cml(monkeypatch):
    """No CML, whose way takes two seconds each time: test_cml.py takes it, and so does one run of the verb below."""
    folders = os.environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if not (Path(folder) / "cml").exists())
    if shutil.which("git", path=path):  # git may lie beside CML
        monkeypatch.setenv("PATH", path)


def told(models, number):
    return [comment["body"] for comment in models.comments(number)]


class TestSeveralModels:
    def test_of_one_it_is_that_ones_own_text(self):
        said = CommentText(text=REPORT)
        assert text_of_several({"flights": said}) is said

    def test_each_has_a_line_in_the_table_and_a_section_and_none_is_cut_away_by_another(self):
        long = CommentText(text="## ❌ Rejected: worse | by far\n\n" + "word\n" * 60_000)
        said = text_of_several({"flights": CommentText(text=REPORT), "fraud": long, "<b>": CommentText(text="x")})
        assert "| `flights` | ✅ Accepted: better |" in said.text
        assert "| `fraud` | ❌ Rejected: worse \\| by far |" in said.text
        assert all(f"## `{name}`" in said.text for name in ("flights", "fraud", "b"))
        assert len(said.text) < 60_000

    def test_where_none_changes_a_model_it_only_replaces_what_was_said(self):
        quiet = CommentText(text="no", create=False)
        assert not text_of_several({"a": quiet, "b": quiet}).create
        assert text_of_several({"a": quiet, "b": CommentText(text="yes")}).create


class TestWords:
    def test_a_proposal_is_its_report_and_what_was_written(self):
        applied = ApplyResult(outcome=ApplyOutcome.APPLIED, commit="c" * 40, digest=DIGEST)

        said = say(handover(), REPORT, applied, CommentContext(attested="success", merging=CANARY))

        first, report = said.text.split("\n\n---\n\n")
        assert said.create
        assert first.startswith("### 🚀 Merging this starts a canary of version 3: 5 % → 25 %\n")
        assert f"Written to this branch as {'c' * 40}" in first
        assert "Attested" in first
        assert report == REPORT.strip()

    def test_the_first_screen_links_the_report_the_files_and_the_run(self):
        run = "https://github.com/team/flights/actions/runs/7"
        links = CommentContext(run_url=run, page_url=f"{run}/artifacts/1", files_url=f"{run}/artifacts/2")

        first = say(handover(), REPORT, None, links).text.partition("---")[0]

        assert f"[HTML report]({run}/artifacts/1) · [all files]({run}/artifacts/2) · [run]({run})" in first

    def test_where_the_check_is_red_it_says_why_and_what_next(self):
        refused = ("❌ tests: the tests ended as failure", "Next: read the log of the job tests")

        for state in ProposalStatus:
            text = say(handover(state), REPORT, None, CommentContext(refused=refused)).text
            assert all(f"- {line}" in text for line in refused), state
            assert "🚀" not in text

    @pytest.mark.parametrize(
        ("signed", "words"), [(True, "the signature of the model folder stands alone"), (False, "nor is it signed")]
    )
    def test_without_an_attestation_it_says_what_is_left(self, signed, words):
        said = say(handover(), REPORT, None, CommentContext(attested="failure", signed=signed))

        assert words in said.text

    def test_a_commit_that_is_none_is_not_named(self):
        applied = ApplyResult(outcome=ApplyOutcome.APPLIED, commit="# Approved by @security")

        assert "Approved" not in say(handover(), REPORT, applied, CommentContext()).text

    @pytest.mark.parametrize("attested", ["", "skipped", "cancelled"])
    def test_where_nothing_was_to_be_attested_nothing_is_said_of_it(self, attested):
        assert "ttest" not in say(handover(), REPORT, None, CommentContext(attested=attested)).text

    def test_a_step_that_did_not_attest_a_released_model_is_told(self):
        applied = ApplyResult(outcome=ApplyOutcome.APPLIED, commit="c" * 40, digest=DIGEST, predicate="verdict.json")
        again = applied.model_copy(update={"outcome": ApplyOutcome.NOTHING, "predicate": None})

        assert (
            "could not be made in this run" in say(handover(), REPORT, applied, CommentContext(attested="skipped")).text
        )
        assert "verdict of an earlier one" in say(handover(), REPORT, again, CommentContext(attested="skipped")).text

    @pytest.mark.parametrize("state", [ProposalStatus.UNCHANGED, ProposalStatus.HELD])
    def test_a_branch_that_goes_back_says_to_which_model(self, state):
        back = "takes production back to version 2, and holds version 3"

        said = say(handover(state, headline="any words"), None, None, CommentContext(merging=back))

        assert said.create
        assert said.text.startswith(f"### ⏪ Merging this {back}")
        assert "any words" not in said.text

    def test_after_the_run_nobody_knows_what_became_of_an_own_branchs_proposal(self):
        words = "what became of this proposal is not known here, see the check"

        assert words in say(handover(), REPORT, None, CommentContext(afterwards=True)).text
        assert words not in say(handover(), REPORT, None, CommentContext(afterwards=True, fork=True)).text
        assert words not in say(handover(), REPORT, None, CommentContext()).text

    def test_a_fork_is_told_that_merging_releases_nothing_yet(self):
        said = say(handover(), REPORT, None, CommentContext(fork=True))

        assert said.text.startswith("### ➖ Merging this releases no model yet")
        assert "the fork's own code" in said.text

    @pytest.mark.parametrize("state", [ProposalStatus.REJECTED, ProposalStatus.INCONCLUSIVE])
    def test_a_rejected_one_is_its_report(self, state):
        text = say(handover(state), REPORT, None, CommentContext()).text

        assert text == f"### ⛔ This cannot be merged: the model is {state}\n\n---\n\n{REPORT.strip()}"

    def test_a_failed_one_says_what_where_and_how_to_mend_it(self):
        error = ErrorInfo(what="`lr` is unknown", where="params.yaml:9", hint="did you mean `learning_rate`?")

        said = say(handover(ProposalStatus.FAILED, error=error), None, None, CommentContext(run_url="https://x/runs/1"))

        for words in ("params.yaml:9: `lr` is unknown", "did you mean `learning_rate`?", "https://x/runs/1"):
            assert words in said.text

    @pytest.mark.parametrize("state", [ProposalStatus.UNCHANGED, ProposalStatus.HELD])
    def test_where_no_model_changes_only_an_earlier_comment_is_changed(self, state):
        said = say(handover(state), None, None, CommentContext())

        assert not said.create
        assert "Merging this releases no model" in said.text

    @pytest.mark.parametrize("outcome", [ApplyOutcome.REFUSED, ApplyOutcome.OUTDATED])
    def test_what_was_not_written_is_said_in_place_of_the_report(self, outcome):
        error = ErrorInfo(what="an object is missing", where="objects/files", hint="push again")

        said = say(handover(), REPORT, ApplyResult(outcome=outcome, error=error), CommentContext(attested="skipped"))

        assert "nothing was written" in said.text
        assert "objects/files: an object is missing" in said.text
        assert "Accepted" not in said.text

    def test_a_hostile_report_notifies_nobody_and_hides_no_marker(self):
        hostile = "<!-- mergeline:report -->\n@everyone `@org/team` #1\n\x1b[31m"

        text = say(handover(), hostile, None, CommentContext()).text

        assert "<!--" not in text
        assert "@everyone" not in text
        assert "\x1b" not in text

    def test_a_hostile_error_stays_in_its_block(self):
        error = BundleError("```\n# Approved by @security", where="x", hint="````\nmerge it")

        lines = text_of_refused(error, CommentContext()).text.splitlines()

        assert lines.count("````text") == 1  # longer than what it holds
        assert lines.count("`````text") == 1

    def test_a_run_that_left_nothing_is_told(self):
        assert "timed_out" in text_of_missing("timed_out", CommentContext(run_url="https://x/runs/1")).text


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
        assert done.number == number
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

    def test_a_local_forge_is_told_too(self, tmp_path):
        from mergeline.github.git import Git

        forge = LocalForge.create(tmp_path / "forge")
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

        assert done.number is None
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

        assert comment_after_run(models.forge(), tmp_path, read_run(other), CommentContext()).number is None

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
