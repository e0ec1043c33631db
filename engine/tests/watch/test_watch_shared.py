"""What several models' looks at production share."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from mergeline.watch.drift import Change, Finding, Part, Status
from mergeline.watch.verdict import shared_findings

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def finding(column, status=Status.DRIFT, effect=0.2, *, change=Change.VALUES, part=Part.INPUT):
    return Finding(
        column=column, part=part, change=change, status=status, against="training", effect=effect, bound=0.03,
        q_value=0.0, before=None, after=None, importance=0.3, measures={},
    )  # fmt: skip


def look(*findings, day=DAY):
    """The parts of a look that count here."""
    return SimpleNamespace(findings=findings, stretch=SimpleNamespace(start=day, end=day + timedelta(days=7)))


def test_a_column_that_moves_in_several_models_is_one_finding():
    found = shared_findings({"fraud": look(finding("amount", effect=0.3)), "churn": look(finding("amount"))})
    assert [(one.column, one.effects) for one in found] == [("amount", {"fraud": 0.3, "churn": 0.2})]
    assert "One cause upstream is likelier than 2" in found[0].headline


def test_a_model_that_has_the_column_unchanged_is_named():
    steady = look(finding("amount", Status.STEADY, 0.0))
    [found] = shared_findings({"a": look(finding("amount")), "b": look(finding("amount")), "c": steady})
    assert found.steady == ("c",)
    assert "it is steady in c" in found.headline


def test_a_change_that_one_model_hardly_uses_counts_where_another_drifts():
    note = look(finding("amount", Status.NOTE))
    assert shared_findings({"a": look(finding("amount")), "b": note})
    assert not shared_findings({"a": note, "b": note})


def test_what_moved_in_one_alone_in_another_way_in_scores_or_at_another_time_is_not_shared():
    drifted = look(finding("amount"))
    for other in (
        look(finding("age")),
        look(finding("amount", change=Change.MISSING)),
        look(finding("amount", part=Part.SCORE)),
        look(finding("amount"), day=DAY + timedelta(days=30)),
    ):
        assert shared_findings({"a": drifted, "b": other}) == ()


def test_what_the_most_models_share_comes_first():
    both, one = look(finding("b"), finding("a")), look(finding("b"))
    assert [found.column for found in shared_findings({"x": both, "y": both, "z": one})] == ["b", "a"]
