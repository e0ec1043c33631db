"""The folder in which a proposal travels: what is written, and what is taken."""

import pytest
from pydantic import ValidationError

from mergeline.ci.bundle import (
    ApplyOutcome,
    ApplyResult,
    ErrorInfo,
    ProposalSummary,
    outcome_file,
    read_bundle,
    read_outcomes,
    write_bundle,
    write_outcomes,
)
from mergeline.errors import BundleError
from mergeline.release.proposal import ProposalStatus

OBJECT = f"objects/files/md5/ab/{'c' * 30}"


def told(**changes):
    values = {"name": "flights", "state": ProposalStatus.PROPOSED, "pull": 3, "head": "a" * 40, "base": "b" * 40}
    return ProposalSummary(**(values | changes))


def test_what_was_written_is_read(tmp_path):
    write_bundle(tmp_path / "made", told(), report="## Good\n", files={OBJECT: b"bytes"})
    bundle = read_bundle(tmp_path / "made")
    assert (bundle.summary, bundle.state, bundle.report) == (told(), ProposalStatus.PROPOSED, "## Good\n")
    assert bundle.objects == (OBJECT.removeprefix("objects/"),)


def test_an_earlier_proposal_in_the_folder_goes_away(tmp_path):
    write_bundle(tmp_path, told(), report="old", files={OBJECT: b"old"})
    write_bundle(tmp_path, told(state=ProposalStatus.UNCHANGED))
    bundle = read_bundle(tmp_path)
    assert (bundle.state, bundle.report, bundle.objects) == (ProposalStatus.UNCHANGED, None, ())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="no such file"):
        write_bundle(tmp_path, told())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_name_that_no_proposal_has_is_not_written(tmp_path):
    with pytest.raises(BundleError, match="no such file"):
        write_bundle(tmp_path / "made", told(), files={"../evil": b""})
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    write_bundle(tmp_path / "made", told())
    (tmp_path / "link").symlink_to(tmp_path / "made")
    with pytest.raises(BundleError, match="no such folder"):
        read_bundle(tmp_path / "link")


def test_an_error_with_endless_words_is_cut():
    assert len(ErrorInfo.of(BundleError("x" * 10_000, hint="y")).what) == 4000


@pytest.mark.parametrize("change", [{"head": "main"}, {"pull": 0}, {"digest": "md5:1"}, {"name": "A b"}])
def test_a_value_of_another_kind_is_refused(change):
    with pytest.raises(ValidationError):
        told(**change)


def test_the_states_that_may_be_merged():
    assert {state for state in ProposalStatus if state.passes} == {"proposed", "unchanged", "held"}


def test_the_outcome_lies_beside_the_folder_and_never_in_it(tmp_path):
    folder = tmp_path / "proposal"
    write_bundle(folder, told())
    applied = {"": ApplyResult(outcome=ApplyOutcome.REFUSED, error=ErrorInfo(what="no"))}
    write_outcomes(folder, applied)
    assert outcome_file(folder) == tmp_path / "proposal.outcome.json"
    assert read_outcomes(folder) == applied
    assert read_bundle(folder).summary == told()


def test_a_proposal_that_nobody_applied_has_no_outcome(tmp_path):
    assert read_outcomes(tmp_path / "proposal") == {}
    outcome_file(tmp_path / "proposal").write_text("{")
    with pytest.raises(BundleError, match="not an outcome"):
        read_outcomes(tmp_path / "proposal")
