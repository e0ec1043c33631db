"""Which files decide about the model, as dvc.yaml says."""

from pathlib import Path, PurePosixPath

import pytest

from mergeline.errors import DocumentError
from mergeline.home import Home
from mergeline.release.inputs import compared_files, model_inputs, stage_definitions

HOME = Home(Path("/repository"))
PIPELINE = """
stages:
  split: {cmd: s, deps: [data], outs: [{build/split.json: {persist: true}}]}
  train: {cmd: t, deps: [data, build/split.json, src/team], params: [model, {other.yaml: [a]}], outs: [model]}
"""


def test_inputs_are_what_people_write_and_not_what_stages_make():
    found = set(model_inputs(PIPELINE, HOME))
    assert {"data", "data.dvc", "src/team", "params.yaml", "other.yaml", "dvc.yaml"} <= found
    assert not {"build/split.json", "model"} & found


def test_inputs_of_a_home_among_others_are_named_from_the_root():
    pipeline = PIPELINE.replace("src/team", "../../src/team")
    found = set(model_inputs(pipeline, Home(Path("/repository"), PurePosixPath("models/fraud"))))
    assert {"models/fraud/data.dvc", "models/fraud/params.yaml", "src/team", ".dvcignore"} <= found
    assert not {path for path in found if ".." in path}


def test_the_lock_counts_where_two_commits_are_compared():
    assert "dvc.lock" in compared_files(PIPELINE, HOME)


@pytest.mark.parametrize(
    "stage",
    [
        "{foreach: [1], do: {cmd: x}}",
        "{cmd: x, wdir: sub}",
        "{cmd: x, deps: ['${data}']}",
        "{cmd: x, deps: data}",
    ],
)
def test_what_only_dvc_can_work_out_is_told(stage):
    with pytest.raises(DocumentError):
        model_inputs(f"stages: {{a: {stage}}}", HOME)


def test_a_loop_has_a_name_all_the_same():
    assert stage_definitions("stages: {a: {foreach: [1], do: {cmd: x}}}").keys() == {"a"}


@pytest.mark.parametrize("text", ["", "stages: [", "stages: 3"])
def test_a_pipeline_that_is_none_is_told(text):
    with pytest.raises(DocumentError):
        stage_definitions(text)
