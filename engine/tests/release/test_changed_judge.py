"""A proposal that changes the params that it is judged by says so."""

import yaml
from release_examples import release

from mergeline.manifest.edit import empty_manifest, promote
from mergeline.release.proposal import Base, judged_by
from mergeline.release.propose import changed_judge

BEFORE = {"gate": {"metric": "roc_auc", "margin": 0.005, "floors": {"roc_auc": 0.6}}, "model": {"seed": 7}}


def told(root, after, *, first=False):
    (root / "params.yaml").write_text(yaml.safe_dump(after))
    text = empty_manifest("flights")
    base = Base(text if first else promote(text, release(1)), params=yaml.safe_dump(BEFORE))
    return changed_judge(root, base)


def test_each_changed_key_is_told_with_both_values(tmp_path):
    after = {"gate": {"metric": "roc_auc", "margin": 0.3}, "split": {"holdout": 2}, "model": {"seed": 8}}
    (sentence,) = told(tmp_path, after)
    assert sentence == (
        "This proposal changes what it is judged by: gate.floors.roc_auc 0.6 → (default), gate.margin 0.005 → 0.3, "
        "split.holdout (default) → 2"
    )


def test_many_changes_are_cut_short(tmp_path):
    many = {"evaluation": {f"key{number:02}": 1 for number in range(20)}, "gate": {**BEFORE["gate"], "margin": 0.3}}
    (sentence,) = told(tmp_path, BEFORE | many)
    assert sentence.startswith("This proposal changes what it is judged by: gate.margin 0.005 → 0.3, evaluation.key00")
    assert sentence.endswith("evaluation.key10 (default) → 1 and 9 more")


def test_changes_of_the_model_alone_and_a_first_model_are_not_told(tmp_path):
    assert told(tmp_path, BEFORE | {"model": {"seed": 9}}) == ()
    assert told(tmp_path, {"gate": {"metric": "log_loss"}}, first=True) == ()


def test_a_name_types_and_keys_are_told_and_no_value_fills_the_comment():
    before = "name: a\nmodel: {trusted_types: []}\nrelease: {signing: {policy: required}}\n1: x\n"
    after = f"name: b\nmodel: {{trusted_types: [{'x' * 100_000}]}}\nrelease: {{signing: {{policy: 'off'}}}}\n"
    told = judged_by(before, after)
    assert "name a → b" in told
    assert "release.signing.policy required → off" in told
    assert 'model.trusted_types [] → ["xxx' in told
    assert len(told) < 400
