"""Edits of the manifest while a model rolls out: a candidate comes, goes on, becomes stable, or is taken off."""

import json
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_examples import release, sha256
from test_manifest_edit import BY_HAND

from mergeline.documents import parse
from mergeline.errors import HoldError, ManifestError
from mergeline.manifest.edit import abort, empty_manifest, finish, promote, rollback, starting_text, with_models_of
from mergeline.manifest.schema import Manifest
from mergeline.manifest.transitions import is_conclusion, new_release, next_version, version_for
from mergeline.release_params import Rollout

ERRORS = {"name": "errors", "metric": "error_rate", "interval": "1m", "success": "<= 0.01", "failure": "> 0.05"}
STEPS = [{"weight": 5, "hold": "15m"}, {"weight": 50, "hold": "30m"}]
CANARY = Rollout.model_validate({"strategy": "canary", "steps": STEPS, "analysis": [ERRORS], "sticky": "tailnum"})
SHADOW = CANARY.model_copy(update={"strategy": "shadow"})


def read(text):
    return parse(text, Manifest, "manifest")


def spec(text):
    return read(text).spec


def comments(text):
    return sorted(re.findall(r"(?:^|\s)(#.*)$", text, re.MULTILINE))


@pytest.fixture
def two():
    """Version 2 is stable, version 1 the previous one."""
    return promote(promote(empty_manifest("flights"), release(1)), release(2))


@pytest.fixture
def rolling(two):
    """The same, and version 3 rolls out as a canary."""
    return promote(two, release(3), CANARY)


class TestCandidate:
    def test_it_stands_beside_a_stable_model_that_stays(self, two, rolling):
        assert spec(rolling).stable == spec(two).stable
        assert spec(rolling).previous == spec(two).previous
        assert (spec(rolling).candidate, spec(rolling).rollout) == (release(3), CANARY)

    def test_the_first_model_of_all_is_stable_at_once(self):
        text = promote(empty_manifest("flights"), release(1), CANARY)
        assert (spec(text).stable, spec(text).candidate) == (release(1), None)

    def test_what_people_wrote_stays(self):
        text = promote(BY_HAND, release(2), CANARY)
        assert comments(text) == comments(BY_HAND)
        assert spec(text).candidate == release(2)
        assert spec(text).rollout == CANARY

    def test_a_person_reads_the_rollout_in_a_few_lines(self, two, rolling):
        added = [line for line in rolling.splitlines() if line not in two.splitlines()]
        assert "    steps: [{weight: 5, hold: 15m}, {weight: 50, hold: 30m}]" in added
        assert (
            '      - {name: errors, metric: error_rate, interval: 1m, success: "<= 0.01", failure: "> 0.05"}' in added
        )
        assert len(added) <= 10

    def test_a_section_that_is_there_is_not_written_again(self, two, rolling):
        again = promote(abort(rolling, "slow"), release(4), CANARY)
        assert spec(again).rollout == CANARY
        assert again.count("steps:") == 1
        changed = [line for line in again.splitlines() if line not in abort(rolling, "slow").splitlines()]
        assert len(changed) == 5

    def test_a_newer_model_takes_its_place_as_in_argo_rollouts(self, rolling):
        text = promote(rolling, release(4), CANARY)
        assert (spec(text).candidate, spec(text).stable) == (release(4), spec(rolling).stable)

    def test_a_newer_model_that_is_released_at_once_ends_the_rollout(self, rolling):
        text = promote(rolling, release(4))
        assert (spec(text).stable, spec(text).previous, spec(text).candidate) == (release(4), release(2), None)
        assert spec(text).rollout.strategy == "replace"

    def test_from_shadow_to_canary_to_stable_it_is_one_model_with_one_version(self, two):
        text = two
        for rollout, role in ((SHADOW, "candidate"), (CANARY, "candidate"), (Rollout(), "stable")):
            version = version_for(read(text), release(3).digest)
            text = promote(text, release(3).model_copy(update={"version": version}), rollout)
            assert getattr(spec(text), role) == release(3)
            assert spec(text).rollout.strategy == rollout.strategy
        assert (spec(text).previous, spec(text).candidate) == (release(2), None)

    def test_a_model_under_a_hold_is_refused(self, rolling):
        text = abort(rolling, "slow")
        with pytest.raises(HoldError, match="is under a hold: slow"):
            promote(text, release(4, digest=release(3).digest), CANARY)

    def test_a_version_that_is_taken_is_refused(self, rolling):
        with pytest.raises(ManifestError, match="version 3 is taken"):
            promote(rolling, release(3, digest=sha256("another")), CANARY)

    def test_stable_cannot_be_rolled_back_meanwhile_and_the_verb_that_helps_is_named(self, rolling):
        with pytest.raises(ManifestError, match="version 3 is still rolling out") as caught:
            rollback(rolling, "late")
        assert "mergeline rollout abort" in caught.value.hint


class TestEnd:
    def test_the_candidate_becomes_stable(self, rolling):
        text = finish(rolling)
        assert (spec(text).stable, spec(text).previous, spec(text).candidate) == (release(3), release(2), None)

    def test_a_failed_candidate_goes_and_is_held_with_its_version(self, rolling, two):
        text = abort(rolling, "errors > 0.05", 7)
        assert (spec(text).stable, spec(text).previous) == (spec(two).stable, spec(two).previous)
        (hold,) = spec(text).holds
        assert (hold.digest, hold.reason, hold.pull, hold.version) == (release(3).digest, "errors > 0.05", 7, 3)

    def test_its_version_is_not_given_away_again(self, rolling):
        assert next_version(read(abort(rolling, "late"))) == 4

    def test_without_a_rollout_there_is_nothing_to_end(self, two):
        for edit in (finish, lambda text: abort(text, "why")):
            with pytest.raises(ManifestError, match="nothing rolls out"):
                edit(two)

    def test_taking_it_off_needs_a_reason(self, rolling):
        with pytest.raises(ManifestError, match="needs a reason"):
            abort(rolling, " ")

    def test_comments_stay_where_a_candidate_was_laid_out_by_hand(self, rolling):
        text = rolling.replace("  candidate:", "  # being tried\n  candidate:  # since Monday")
        for edit in (finish, lambda text: abort(text, "late")):
            assert "# being tried" in edit(text)
            assert "evidence:" in edit(text)

    def test_a_manifest_in_braces_is_edited_too(self, rolling):
        text = json.dumps(read(rolling).model_dump(mode="json", exclude_none=True))
        assert spec(finish(text)).stable == release(3)
        assert spec(abort(text, "late")).candidate is None
        assert spec(promote(text, release(4), SHADOW)).rollout == SHADOW

    def test_a_rollout_laid_out_by_hand_is_replaced_in_place(self, rolling):
        by_hand = """    steps:
    # a careful start
    - weight: 5
      hold: 15m
    - {weight: 50, hold: 30m}
"""
        flat = "    steps: [{weight: 5, hold: 15m}, {weight: 50, hold: 30m}]\n"
        assert flat in rolling
        other = Rollout.model_validate({**CANARY.model_dump(), "steps": [{"weight": 10, "hold": "1h"}], "sticky": None})
        text = promote(rolling.replace(flat, by_hand), release(4), other)
        assert spec(text).rollout == other
        assert "# a careful start" in text


class TestStanding:
    def test_what_a_change_brings(self, two, rolling):
        assert new_release(read(two), read(rolling)) == release(3)
        assert new_release(read(two), read(promote(two, release(3)))) == release(3)
        assert new_release(read(rolling), read(finish(rolling))) == release(3)
        assert new_release(read(rolling), read(abort(rolling, "x"))) is None

    def test_the_end_of_a_rollout_is_told_from_a_release(self, two, rolling):
        assert is_conclusion(read(rolling), read(finish(rolling)))
        assert is_conclusion(read(rolling), read(abort(rolling, "x")))
        assert not is_conclusion(read(rolling), read(promote(rolling, release(4))))
        assert not is_conclusion(read(two), read(promote(two, release(3))))
        assert not is_conclusion(read(rolling), read(promote(finish(rolling), release(4), SHADOW)))


class TestStartingText:
    def test_the_bases_candidate_and_rollout_come_along(self, two, rolling):
        text = starting_text(two.replace("annotations: {}", "annotations: {owner: me}"), rolling)
        assert (spec(text).candidate, spec(text).rollout) == (release(3), CANARY)
        assert read(text).metadata.annotations == {"owner": "me"}

    def test_a_branchs_own_candidate_goes(self, two, rolling):
        text = with_models_of(rolling, read(two))
        assert spec(text).candidate is None
        assert spec(text).rollout == spec(two).rollout

    def test_without_a_rollout_the_section_is_peoples(self, two):
        mine = two.replace("    strategy: replace", "    sticky: tailnum\n    strategy: replace")
        assert spec(starting_text(mine, two)).rollout.sticky == "tailnum"


@settings(max_examples=settings().max_examples // 5)
@given(st.lists(st.sampled_from(["replace", "canary", "shadow", "finish", "abort"]), max_size=8))
def test_no_version_is_given_away_twice(moves):
    text, given_away = promote(empty_manifest("flights"), release(1)), {1}
    for number, move in enumerate(moves, start=2):
        if move in ("finish", "abort"):
            if spec(text).candidate is not None:
                text = finish(text) if move == "finish" else abort(text, "x")
            continue
        version = next_version(read(text))
        assert version not in given_away
        given_away.add(version)
        rollout = {"replace": Rollout(), "canary": CANARY, "shadow": SHADOW}[move]
        text = promote(text, release(number).model_copy(update={"version": version}), rollout)
    assert comments(text) == comments(empty_manifest("flights"))


def test_git_shows_the_end_of_a_rollout_in_a_few_lines(tmp_path, rolling):
    for name, text in (("before", rolling), ("after", finish(rolling))):
        (tmp_path / name).write_text(text)
    command = ["git", "diff", "--no-index", "--numstat", "before", "after"]
    added, removed, *_ = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    ).stdout.split()
    assert int(added) + int(removed) <= 16
