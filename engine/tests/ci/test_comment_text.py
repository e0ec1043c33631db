"""The text of the comment on a pull request."""

import pytest
from comment_samples import CANARY, DIGEST, REPORT, handover

from mergeline.ci.bundle import ApplyOutcome, ApplyResult, ErrorInfo
from mergeline.ci.comment_text import (
    CommentContext,
    CommentText,
    say,
    text_of_missing,
    text_of_refused,
    text_of_several,
)
from mergeline.errors import BundleError
from mergeline.release.proposal import ProposalStatus


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

    def test_a_gate_that_changes_is_told_though_no_model_does(self):
        said = say(handover(ProposalStatus.UNCHANGED), None, None, CommentContext(judge="the gate is wider"))

        assert said.create
        assert said.text == "### ➖ Merging this releases no model\n\n- ⚠️ the gate is wider"

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
