"""What a branch's manifest would do to production, and where a proposal begins to edit it."""

import pytest
from release_examples import release, sha256
from test_manifest_strategy import CANARY

from mergeline.documents import parse
from mergeline.errors import HoldError, ManifestError
from mergeline.manifest.edit import abort, empty_manifest, finish, lift_hold, promote, rollback, starting_text
from mergeline.manifest.schema import Manifest
from mergeline.manifest.transitions import Change, change_of
from mergeline.release.verify import check_history
from mergeline.release_params import Rollout


def at(count):
    """A manifest after that many releases."""
    text = empty_manifest("flights")
    for version in range(1, count + 1):
        text = promote(text, release(version))
    return text


def read(text):
    return parse(text, Manifest, "manifest")


def known(*counts):
    """What the history tells of a manifest that had each of these numbers of releases."""
    return lambda: [read(at(count)) for count in counts]


ROLLING = promote(at(2), release(3), CANARY)
AFTER_A_ROLLOUT = promote(ROLLING, release(4), Rollout(strategy="replace"))
REVERTS = {
    "a release": (at(3), at(2)),
    "the two newest releases": (at(3), at(1)),
    "a canary's release": (ROLLING, at(2)),
    "a canary's release and the one before it": (ROLLING, at(1)),
    "a canary's promotion": (finish(ROLLING), ROLLING),
    "a canary's promotion and its release": (finish(ROLLING), at(2)),
    "the end of a canary that failed": (abort(ROLLING, "slow"), ROLLING),
    "a release that took the place of a canary": (promote(ROLLING, release(4), CANARY), ROLLING),
    "a release at once that ended a canary": (AFTER_A_ROLLOUT, ROLLING),
    "a rollback": (rollback(at(3), "slow"), at(3)),
    "a rollback to an older version": (rollback(at(3), "slow", to=release(1)), at(3)),
}


def nobody():
    pytest.fail("the history was read though nothing depends on it")


class TestChange:
    def test_words_and_holds_on_others_change_no_model(self):
        text = at(2).replace("annotations: {}", "annotations: {owner: us}")
        text = text.replace("holds: []", f"holds: [{{digest: {release(9).digest}, reason: old}}]")
        assert change_of(read(at(2)), read(text), nobody) is Change.SAME

    def test_a_promotion_is_another_model(self):
        assert change_of(read(at(2)), read(at(3)), nobody) is Change.OTHER

    def test_a_rollback_is_one_to_the_previous_or_to_any_that_was_served(self):
        for target in (None, release(1)):
            text = rollback(at(3), "too slow", to=target)
            assert change_of(read(at(3)), read(text), known(1, 2, 3)) is Change.ROLLBACK

    def test_a_rollback_to_what_was_never_served_is_none(self):
        stranger = release(8)
        text = rollback(at(3), "too slow", to=stranger)
        assert change_of(read(at(3)), read(text), known(1, 2, 3)) is Change.OTHER

    @pytest.mark.parametrize("merged", REVERTS)
    def test_whatever_was_merged_can_be_reverted(self, merged):
        before, after = (read(text) for text in REVERTS[merged])
        history = [read(at(1)), read(at(2)), read(ROLLING), read(at(3)), before]
        assert change_of(before, after, lambda: history) in {Change.ROLLBACK, Change.CONCLUSION}
        assert check_history([before, after], lambda: history).status == "pass"

    @pytest.mark.parametrize("merged", sorted(REVERTS.keys() - {"a canary's release"}))
    def test_a_state_that_production_was_never_in_is_no_revert(self, merged):
        before, after = (read(text) for text in REVERTS[merged])
        known = [state for state in (read(at(1)), read(at(2)), read(at(3))) if state != after]
        stranger = after.model_copy(update={"spec": after.spec.model_copy(update={"previous": release(1, pull=9)})})
        assert change_of(before, stranger, lambda: known) is Change.OTHER

    def test_a_model_that_is_held_comes_back_by_no_revert(self):
        held = ROLLING.replace("holds: []", f"holds: [{{digest: {release(3).digest}, reason: slow}}]")
        assert change_of(read(abort(ROLLING, "slow")), read(held), lambda: [read(ROLLING)]) is not Change.ROLLBACK

    def test_a_revert_that_brings_a_stranger_as_previous_is_none(self):
        text = at(2).replace(release(1).digest, release(8).digest)
        assert change_of(read(at(3)), read(text), known(1, 2, 3)) is Change.OTHER

    def test_going_back_without_a_hold_is_no_rollback(self):
        text = lift_hold(rollback(at(3), "too slow"), release(3).digest)
        assert change_of(read(at(3)), read(text), known(1, 2, 3)) is Change.OTHER


class TestWhereAProposalBegins:
    def test_the_branch_keeps_its_words_and_gets_the_models_of_the_base(self):
        here = at(3).replace("annotations: {}", "annotations: {owner: us}")
        assert starting_text(here, at(2)) == at(2).replace("annotations: {}", "annotations: {owner: us}")

    def test_another_models_manifest_and_none_give_the_bases(self):
        assert starting_text(None, at(2)) == at(2)
        assert starting_text(at(1).replace("name: flights", "name: shop"), at(2)) == at(2)

    @pytest.mark.parametrize("here", [1, 2, 3])
    @pytest.mark.parametrize("there", [0, 1, 2])
    def test_whatever_the_branch_proposed_before_the_models_are_those_of_the_base(self, here, there):
        assert read(starting_text(at(here), at(there))) == read(at(there))

    @pytest.mark.parametrize("rollout", [CANARY, Rollout()])
    def test_a_first_model_that_is_proposed_again_takes_the_place_of_the_first_proposal(self, rollout):
        text = at(0)
        for digest in ("a", "b", "c"):
            text = promote(starting_text(text, at(0)), release(1, digest=sha256(digest)), rollout)
        assert read(text) == read(promote(at(0), release(1, digest=sha256("c"))))

    def test_a_candidate_of_the_branch_goes_where_the_base_has_no_model(self):
        here = promote(at(2), release(3), CANARY)
        assert read(starting_text(here, at(0))).spec.candidate is None
        assert read(starting_text(here, at(0))).spec.stable is None

    def test_a_branch_that_rolls_back_brings_no_other_model(self):
        with pytest.raises(ManifestError, match="takes version 3 off production, and changes the model"):
            starting_text(rollback(at(3), "too slow"), at(3))


class TestRollbackToAVersion:
    def test_the_highest_version_stays_in_the_file(self):
        once = rollback(at(4), "too slow", to=release(2))
        twice = rollback(once, "too old", to=release(1))
        spec = read(twice).spec
        assert (spec.stable.version, spec.previous.version) == (1, 4)
        assert {hold.digest for hold in spec.holds} == {release(4).digest, release(2).digest}

    def test_a_held_or_serving_one_is_refused(self):
        with pytest.raises(ManifestError, match="version 3 is what is served already"):
            rollback(at(3), "too slow", to=release(3))
        with pytest.raises(HoldError, match="version 3 is under a hold: too slow"):
            rollback(rollback(at(3), "too slow"), "no", to=release(3))


class TestHistory:
    def test_each_step_is_looked_at_and_only_the_ends_where_the_steps_are_a_branchs_own(self):
        sound = [read(at(n)) for n in range(4)]
        assert check_history(sound, nobody).status == "pass"
        assert check_history([sound[3], read(rollback(at(3), "too slow"))], known(1, 2, 3)).status == "pass"
        assert check_history([sound[1], read(at(3)), read(at(2))], known(1, 2, 3)).status == "pass"
        assert check_history([sound[1]], nobody).status == "pass"
        assert check_history([sound[2], sound[1]], nobody).status == "pass"  # reverted

    def test_a_release_that_skipped_a_champion_is_found(self):
        found = check_history([read(at(1)), read(at(3))], nobody)
        assert (found.status, found.value) == ("fail", "version 3 was judged against version 2, and replaced version 1")
