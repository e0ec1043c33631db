"""The JSON schema that editors complete `params.yaml` from."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from mergeline.params import PARAMS_FILE, SCHEMA_FILE, Params, params_schema

ROOT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(json.loads(params_schema()))


def params(**changes):
    """The root's params, where `changes` sets keys of sections, as gate={"margin": 1}."""
    found = YAML(typ="safe").load((ROOT / PARAMS_FILE).read_text(encoding="utf-8"))
    for section, values in changes.items():
        found[section] = {**found[section], **values}
    return found


def test_the_file_beside_the_manifest_is_current():
    written = (ROOT / SCHEMA_FILE).read_text(encoding="utf-8")
    assert written == params_schema(), "write it again, at the root: python -m mergeline.params"


def test_the_params_name_the_schema_in_their_first_line():
    first = (ROOT / PARAMS_FILE).read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"


def test_the_roots_params_keep_to_it():
    Draft202012Validator.check_schema(VALIDATOR.schema)
    VALIDATOR.validate(params())


@pytest.mark.parametrize(
    "changes",
    [
        {"gate": {"margn": 0.1}},
        {"split": {"knd": "time"}},
        {"split": {"kind": "weekly"}},
        {"validation": {"allow": {"year": ["distributon"]}}},
        {"serve": {"guard": {"max_eror_rate": 0.1}}},
        {"watch": {"drift": {"min_importance": 2}}},
        {"gate": {"confidence": 0.2}},
        {"model": {"factory": "no colon"}},
    ],
)
def test_what_the_types_refuse_the_schema_refuses(changes):
    assert not VALIDATOR.is_valid(params(**changes))
    with pytest.raises(ValueError, match="error"):
        Params.model_validate(params(**changes))
