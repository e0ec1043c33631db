import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from release_examples import release, sha256

from mergeline.manifest.schema import Manifest, manifest_schema, schema_text

ROOT = Path(__file__).parents[3]
VALIDATOR = Draft202012Validator(manifest_schema())


def full():
    """A document that has every key."""
    models = {
        role: release(version, pull=4, signed=True).model_dump()
        for role, version in (("stable", 2), ("previous", 1), ("candidate", 3))
    }
    return {
        "apiVersion": "mergeline/v1",
        "kind": "ModelDeployment",
        "metadata": {"name": "flights", "annotations": {"free": "text"}},
        "spec": {
            **models,
            "rollout": {
                "strategy": "canary",
                "steps": [{"weight": 5, "hold": "15m"}, {"weight": 50, "hold": "30m"}],
                "sticky": "tailnum",
                "analysis": [
                    {
                        "name": "error-rate",
                        "metric": "error_rate",
                        "interval": "1m",
                        "success": "<= 0.01",
                        "failure": "> 0.05",
                        "failureLimit": 0,
                        "consecutiveErrorLimit": 4,
                        "inconclusiveLimit": 0,
                        "minSamples": 200,
                        "dryRun": False,
                    }
                ],
                "onFailure": "rollback",
                "onError": "pause",
                "onInconclusive": "pause",
            },
            "holds": [{"digest": sha256("bad"), "reason": "late", "pull": 51}],
        },
    }


def types_accept(document):
    try:
        Manifest.model_validate(document)
    except ValidationError:
        return False
    return True


def with_value(path, value):
    document = full()
    place = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return document


def without(*path):
    document = full()
    place = document
    for part in path[:-1]:
        place = place[part]
    del place[path[-1]]
    return document


def paths(node, prefix=()):
    """Every key and index of a document."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in pairs:
        yield (*prefix, key)
        yield from paths(child, (*prefix, key))


def test_the_file_is_what_the_types_say():
    written = (ROOT / "deploy" / "manifest.schema.json").read_text()

    assert written == schema_text(), "write it again: python -m mergeline.manifest.schema"


def test_the_schema_is_a_valid_one():
    Draft202012Validator.check_schema(json.loads(schema_text()))


def test_free_keys_are_allowed_among_annotations_and_metrics_only():
    def open_objects(node, path=""):
        if isinstance(node, dict):
            if node.get("type") == "object" and "properties" in node and node.get("additionalProperties") is not False:
                yield path
            for key, child in node.items():
                yield from open_objects(child, f"{path}/{key}")

    schema = manifest_schema()
    assert "additionalProperties" in schema
    assert list(open_objects(schema["$defs"])) == []


def test_both_accept_a_document_with_every_key():
    assert types_accept(full())
    assert VALIDATOR.is_valid(full())


@pytest.mark.parametrize("path", paths(full()), ids=lambda path: ".".join(map(str, path)))
def test_both_agree_when_a_key_is_missing(path):
    document = without(*path)

    assert VALIDATOR.is_valid(document) == types_accept(document)


WRONG = [None, "x", "", "sha256:0", 0, -1, 101, 7, True, 0.5, "7", [], {}, ["x"], {"x": 1}, "1m", "0s", "> 1", "canary"]


@pytest.mark.parametrize("path", paths(full()), ids=lambda path: ".".join(map(str, path)))
def test_both_agree_when_a_value_is_another(path):
    for value in WRONG:
        document = with_value(path, value)
        weights = [step["weight"] for step in document_steps(document) if isinstance(step, dict) and "weight" in step]
        if all(type(weight) is int for weight in weights) and weights != sorted(set(weights)):
            continue  # growing weights are the types' rule alone
        assert VALIDATOR.is_valid(document) == types_accept(document), value


def document_steps(document):
    rollout = document.get("spec", {}).get("rollout", {}) if isinstance(document.get("spec"), dict) else {}
    steps = rollout.get("steps", []) if isinstance(rollout, dict) else []
    return steps if isinstance(steps, list) else []


@pytest.mark.parametrize("path", [(), ("metadata",), ("spec",), ("spec", "stable", "lineage"), ("spec", "holds", 0)])
def test_both_refuse_a_key_that_is_not_known(path):
    document = with_value((*path, "suprise"), 1)

    assert not VALIDATOR.is_valid(document)
    assert not types_accept(document)


@pytest.mark.parametrize("strategy", ["replace", "canary", "shadow"])
@pytest.mark.parametrize("roles", [(), ("stable",), ("previous",), ("stable", "candidate"), ("candidate",)])
def test_both_agree_on_which_roles_go_together(roles, strategy):
    document = full()
    document["spec"] = {role: document["spec"][role] for role in roles} | {"rollout": {"strategy": strategy}}
    with_nulls = copy.deepcopy(document)
    with_nulls["spec"] |= {role: None for role in ("stable", "previous", "candidate") if role not in roles}

    for each in (document, with_nulls):
        assert VALIDATOR.is_valid(each) == types_accept(each)


def test_rules_that_compare_values_are_the_types_alone():
    shrinking = with_value(("spec", "rollout", "steps", 1, "weight"), 5)
    held = with_value(("spec", "holds", 0, "digest"), release(2).digest)

    assert VALIDATOR.is_valid(shrinking)
    assert not types_accept(shrinking)
    assert VALIDATOR.is_valid(held)
    assert not types_accept(held)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=5), children, max_size=2),
    max_leaves=4,
)


@given(path=st.sampled_from([p for p in paths(full()) if "steps" not in p]), value=json_values)
def test_both_agree_on_any_value_anywhere(path, value):
    document = with_value(path, value)

    assert VALIDATOR.is_valid(document) == types_accept(document)
