import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from release_examples import release, sha256

from mergeline.documents import parse
from mergeline.errors import HoldError, ManifestError
from mergeline.manifest.edit import empty_manifest, lift_hold, promote, rollback
from mergeline.manifest.schema import Hold, Manifest
from mergeline.manifest.transitions import next_version

# As a person may have laid it out: block style, comments everywhere, quotes of both kinds, odd indentation.
BY_HAND = f"""\
%YAML 1.2
---
# top
apiVersion: mergeline/v1   # never changes
kind:  "ModelDeployment"
metadata: {{name: flights, annotations: {{owner: 'ops', ticket: "A-1"}}}}

spec:
    # what answers
    stable:   # the champion
        version: 1                       # for people; never an identity
        digest: "{sha256("model 1")}"    # identity

        # where the bytes are
        source: '{release(1).source}'
        lineage:
            code: {release(1).lineage.code}   # git tree
            data: {release(1).lineage.data}
            params: {release(1).lineage.params}
            environment: {release(1).lineage.environment}
        evidence: {{metrics: {{roc_auc: 0.7010, log_loss: 0.542}}, gate: {release(1).evidence.gate}}}  # why
    # between
    rollout:
        strategy:   replace
        analysis:
          - {{name: error-rate, metric: error_rate, interval: 1m, success: "<= 0.01", failure: "> 0.05"}}  # odd

    # models that failed
    holds:
      # the first
      - digest: {sha256("bad")}  # worst of all
        reason: >-
          it was
          late
# the end
"""


def read(text):
    return parse(text, Manifest, "manifest")


def comments(text):
    return sorted(re.findall(r"(?:^|\s)(#.*)$", text, re.MULTILINE))


def at(count):
    """A manifest after this many promotions."""
    text = empty_manifest("flights")
    for version in range(1, count + 1):
        text = promote(text, release(version, pull=version + 10))
    return text


def changed_lines(tmp_path, before, after):
    (tmp_path / "before").write_text(before)
    (tmp_path / "after").write_text(after)
    command = ["git", "diff", "--no-index", "--numstat", "before", "after"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    added, removed, *_ = out.split()
    return int(added), int(removed)


class TestPromote:
    def test_the_first_release_makes_an_empty_manifest_serve(self):
        spec = read(promote(empty_manifest("flights"), release(1))).spec

        assert (spec.stable, spec.previous) == (release(1), None)

    def test_the_stable_release_becomes_the_previous_one(self):
        spec = read(promote(promote(empty_manifest("flights"), release(1)), release(2))).spec

        assert (spec.stable, spec.previous) == (release(2), release(1))

    def test_everything_written_by_hand_stays(self):
        result = promote(BY_HAND, release(2, pull=9))

        assert comments(result) == comments(BY_HAND)
        before, after = read(BY_HAND), read(result)
        assert after.spec.stable == release(2, pull=9)
        assert after.spec.previous == before.spec.stable
        assert after.spec.rollout == before.spec.rollout
        assert after.spec.holds == before.spec.holds
        assert after.metadata == before.metadata

    def test_lines_outside_the_two_releases_do_not_change(self):
        result = promote(BY_HAND, release(2)).splitlines()

        start, end = (BY_HAND.splitlines().index(line) for line in ("    # what answers", "    # between"))
        assert [line for line in BY_HAND.splitlines()[: start + 2] if line not in result] == []
        assert [line for line in BY_HAND.splitlines()[end:] if line not in result] == []

    def test_a_model_that_a_person_laid_out_gets_the_one_layout_and_its_comments_stand_above_it(self):
        lines = promote(BY_HAND, release(2, pull=9)).splitlines()

        stable = lines.index("    stable:   # the champion")
        assert lines[stable - 5 : stable] == [
            "    # for people; never an identity",
            "    # identity",
            "    # where the bytes are",
            "    # git tree",
            "    # why",
        ]
        assert lines[stable + 1].startswith("      {version: 2, digest: sha256:")

    @pytest.mark.parametrize(("count", "lines"), [(0, 6), (1, 6), (2, 10), (3, 10)])
    def test_the_diff_is_at_most_ten_lines(self, tmp_path, count, lines):
        before = at(count)

        added, removed = changed_lines(tmp_path, before, promote(before, release(count + 1, pull=99)))

        assert added + removed == lines

    def test_a_first_signature_keeps_the_diff_at_ten_lines(self, tmp_path):
        before = at(2)

        assert sum(changed_lines(tmp_path, before, promote(before, release(3, signed=True)))) == 10

    def test_the_stable_model_again_keeps_its_version_and_its_predecessor(self):
        text = at(2)
        again = release(2).model_copy(update={"version": 3})

        spec = read(promote(text, again)).spec

        assert (spec.stable.version, spec.stable.evidence.pull) == (2, None)
        assert spec.previous == read(text).spec.previous

    def test_the_same_promotion_twice_changes_nothing(self):
        text = at(2)

        assert promote(text, release(2, pull=12)) == text

    def test_a_model_under_a_hold_is_refused_with_the_reason(self):
        with pytest.raises(HoldError, match="it was late"):
            promote(BY_HAND, release(2, digest=sha256("bad")))

    def test_a_version_that_is_taken_is_refused(self):
        with pytest.raises(ManifestError, match="version 2 is taken") as caught:
            promote(at(2), release(2, digest=sha256("another")))

        assert caught.value.hint == "the next version is 3"

    def test_a_text_that_is_no_manifest_is_refused(self):
        with pytest.raises(ManifestError, match="unknown key `spec.stabel`"):
            promote(at(1).replace("stable:", "stabel:"), release(2))

    def test_aliases_are_refused_with_what_to_write_instead(self):
        text = BY_HAND.replace("owner: 'ops', ticket: \"A-1\"", "owner: &me ops, ticket: *me")

        with pytest.raises(ManifestError, match="aliases are not taken here") as caught:
            promote(text, release(10))

        assert "write the value out" in caught.value.hint

    def test_a_code_of_digits_only_stays_a_text(self):
        made_from = release(1).lineage
        for code in ("1" * 40, "0" * 38 + "e1", "1" * 20 + "e" + "1" * 19):
            lineage = made_from.model_copy(update={"code": code})
            assert read(promote(at(0), release(1, lineage=lineage))).spec.stable.lineage.code == code

    def test_windows_line_ends_stay(self):
        result = promote(at(2).replace("\n", "\r\n"), release(3))

        assert "\n" not in result.replace("\r\n", "")
        assert read(result).spec.stable == release(3)

    def test_a_manifest_in_one_pair_of_braces_is_edited_too(self):
        text = '{"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "x"}, "spec": {}}'

        spec = read(rollback(promote(promote(text, release(1)), release(2)), "why")).spec

        assert (spec.stable, spec.previous) == (release(1), release(2))


class TestRollback:
    def test_the_previous_model_is_stable_again_and_the_failed_one_is_held(self):
        spec = read(rollback(at(2), "late by 3 %: # bad", 15)).spec

        assert (spec.stable, spec.previous) == (release(1, pull=11), release(2, pull=12))
        assert spec.holds == (Hold(digest=release(2).digest, reason="late by 3 %: # bad", pull=15),)

    def test_the_version_of_the_failed_model_is_not_given_away_again(self):
        assert next_version(read(rollback(at(2), "late"))) == 3

    def test_a_hold_joins_those_written_by_hand(self):
        text = promote(BY_HAND, release(2))

        result = rollback(text, "late", 4)

        assert comments(result) == comments(BY_HAND)
        assert [hold.reason for hold in read(result).spec.holds] == ["it was late", "late"]

    def test_the_diff_is_eight_lines_and_the_hold(self, tmp_path):
        text = lift_hold(rollback(promote(at(3), release(4)), "x"), release(4).digest)
        held = text.replace("  holds: []", f"  holds:\n    - {{digest: {sha256('bad')}, reason: slow}}")

        assert sum(changed_lines(tmp_path, held, rollback(held, "late"))) == 11

    def test_with_nothing_to_go_back_to_it_is_refused(self):
        for count in (0, 1):
            with pytest.raises(ManifestError, match="no previous model"):
                rollback(at(count), "late")

    def test_a_second_rollback_would_bring_the_failed_model_back_and_is_refused(self):
        with pytest.raises(HoldError, match="the previous model, version 2, is under a hold: late"):
            rollback(rollback(at(2), "late"), "early")

    def test_without_a_reason_it_is_refused(self):
        with pytest.raises(ManifestError, match="needs a reason"):
            rollback(at(2), " ")


class TestLiftHold:
    def test_the_last_hold_leaves_an_empty_list(self):
        held = rollback(at(2), "late")

        result = lift_hold(held, release(2).digest)

        assert read(result).spec.holds == ()
        assert "  holds: []\n" in result

    def test_the_other_holds_and_their_comments_stay(self):
        text = rollback(promote(BY_HAND, release(2)), "late")

        result = lift_hold(text, release(2).digest)

        assert comments(result) == comments(BY_HAND)
        assert [hold.reason for hold in read(result).spec.holds] == ["it was late"]

    def test_a_hold_inside_brackets_is_taken_out(self):
        holds = ", ".join(f"{{digest: {sha256(name)}, reason: {name}}}" for name in "abc")
        text = at(1).replace("holds: []", f"holds: [{holds}]")

        assert [hold.reason for hold in read(lift_hold(text, sha256("b"))).spec.holds] == ["a", "c"]

    def test_a_hold_that_is_not_there_is_refused(self):
        with pytest.raises(ManifestError, match="is not under a hold"):
            lift_hold(at(2), sha256("x"))

    def test_the_first_digits_are_enough_where_they_are_one_models(self):
        holds = ", ".join(
            f"{{digest: 'sha256:{begin}{'0' * 56}', reason: {begin}}}" for begin in ("abcd1111", "abcd2222")
        )
        text = at(1).replace("holds: []", f"holds: [{holds}]")

        for digits in ("abcd1", "sha256:ABCD1"):
            assert [hold.reason for hold in read(lift_hold(text, digits)).spec.holds] == ["abcd2222"]
        with pytest.raises(ManifestError, match="abcd is ambiguous: 2 models") as caught:
            lift_hold(text, "abcd")
        assert "sha256:abcd1111" in caught.value.hint
        for digits in ("abc", "sha256:", ""):
            with pytest.raises(ManifestError, match="not under a hold"):
                lift_hold(text, digits)


def test_the_next_version_is_one_more_than_any_in_the_manifest():
    assert next_version(read(empty_manifest("x"))) == 1
    assert next_version(read(promote(at(1), release(9)))) == 10
    assert next_version(read(rollback(promote(at(1), release(9)), "late"))) == 10


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
safe_comments = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=("Cc", "Zl", "Zp")), max_size=20
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True) | words, numbers, min_size=1, max_size=3)


@st.composite
def commented(draw, text):
    """`text` with comments and blank lines put in at line ends and between lines."""
    lines = []
    for line in text.splitlines():
        if draw(st.integers(0, 4)) == 0:
            lines.append(draw(st.sampled_from(["", "  ", "# ", "      # "])))
        if draw(st.integers(0, 4)) == 0:
            lines.append(" " * draw(st.integers(0, 6)) + "# " + draw(safe_comments))
        end = f"  # {draw(safe_comments)}" if "#" not in line and draw(st.integers(0, 3)) == 0 else ""
        lines.append(line + end)
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n# end\n"]))


@settings(max_examples=settings().max_examples // 5)
@given(data=st.data(), promotions=st.integers(0, 3), by_hand=st.booleans())
def test_promote_keeps_every_comment_and_means_what_the_types_mean(data, promotions, by_hand):
    base = BY_HAND.partition("        reason")[0] + "        reason: late\n" if by_hand else at(promotions)
    text = data.draw(commented(base))
    before = read(text)
    new = release(
        next_version(before),
        pull=data.draw(st.none() | st.integers(1, 999)),
        signed=data.draw(st.booleans()),
        metrics=data.draw(metrics),
    )

    result = promote(text, new)

    after = read(result)
    assert after.spec.stable == new
    assert after.spec.previous == before.spec.stable
    untouched = {"stable", "previous"}
    assert after.spec.model_dump(exclude=untouched) == before.spec.model_dump(exclude=untouched)
    assert after.model_dump(exclude={"spec"}) == before.model_dump(exclude={"spec"})
    assert [c.strip() for c in comments(result)] == [c.strip() for c in comments(text)]


@settings(max_examples=settings().max_examples // 5)
@given(data=st.data(), reason=words.filter(str.strip), pull=st.none() | st.integers(1, 999))
def test_a_rollback_and_a_lifted_hold_bring_the_holds_back_to_what_they_were(data, reason, pull):
    text = data.draw(commented(at(3)))

    held = rollback(text, reason, pull)
    lifted = lift_hold(held, release(3).digest)

    assert read(held).spec.holds == (Hold(digest=release(3).digest, reason=reason, pull=pull),)
    assert read(lifted).spec.holds == ()
    assert read(lifted).spec.stable == read(text).spec.previous
    assert [c.strip() for c in comments(lifted)] == [c.strip() for c in comments(text)]
