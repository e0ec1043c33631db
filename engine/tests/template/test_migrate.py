"""Params of every earlier format are lifted to the newest one, and a newer one is refused by name."""

from pathlib import Path

import pytest

from mergeline.documents import parse
from mergeline.errors import ManifestError, ParamsError
from mergeline.manifest.edit import empty_manifest
from mergeline.manifest.schema import Manifest
from mergeline.params import PARAMS_FORMAT, Params, read_params
from mergeline.template.upgrade import STEPS, migrate_params

ROOT = Path(__file__).parents[3]
FIRST_EDITION = Path(__file__).parents[1] / "first_edition" / "params.yaml"


def test_there_is_a_step_to_each_format():
    assert len(STEPS) == PARAMS_FORMAT


def test_the_first_edition_is_lifted_and_keeps_every_line():
    text = FIRST_EDITION.read_text()
    lifted, found = migrate_params(text)
    assert found == 0
    added = [line for line in lifted.splitlines() if line not in text.splitlines()]
    assert [line.split("#")[0].strip() for line in added] == ["format: 1"]
    assert [line for line in lifted.splitlines() if line not in added] == text.splitlines()
    assert parse(lifted, Params, "params.yaml") == read_params(FIRST_EDITION)


def test_a_file_of_the_newest_format_stays_as_it_is():
    text = (ROOT / "params.yaml").read_text()
    assert migrate_params(text) == (text, PARAMS_FORMAT)


def test_steps_are_taken_in_turn_from_the_format_that_the_file_names():
    steps = (lambda text: text + "a", lambda text: text + "b", lambda text: text + "c")
    assert migrate_params("format: 1\n", steps) == ("format: 1\nbc", 1)


def test_an_older_engine_refuses_newer_params_by_name():
    text = (ROOT / "params.yaml").read_text().replace("format: 1", "format: 9")
    with pytest.raises(ParamsError, match=r"params.yaml:\d+: .*has format 9, and this engine reads format 1") as told:
        parse(text, Params, "params.yaml", ParamsError)
    assert told.value.hint == "mergeline upgrade"
    with pytest.raises(ParamsError, match="has format 9"):
        migrate_params(text)


def test_an_older_engine_refuses_a_newer_manifest_by_name():
    text = empty_manifest("orders").replace("mergeline/v1", "mergeline/v2")
    with pytest.raises(ManifestError, match="has version mergeline/v2, and this engine reads mergeline/v1") as told:
        parse(text, Manifest, "manifest.yaml", ManifestError)
    assert told.value.hint == "mergeline upgrade"
