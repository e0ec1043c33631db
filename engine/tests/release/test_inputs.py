"""Which files decide about the model, as dvc.yaml says."""

import pytest

from mergeline.errors import DocumentError
from mergeline.release.inputs import compared_files, model_inputs, pipeline_stages

PIPELINE = """
stages:
  split: {cmd: s, deps: [data], outs: [{build/split.json: {persist: true}}]}
  train: {cmd: t, deps: [data, build/split.json, src/team], params: [model, {other.yaml: [a]}], outs: [model]}
"""


def test_inputs_are_what_people_write_and_not_what_stages_make():
    found = set(model_inputs(PIPELINE))
    assert {"data", "data.dvc", "src/team", "params.yaml", "other.yaml", "dvc.yaml"} <= found
    assert not {"build/split.json", "model"} & found


def test_the_lock_counts_where_two_commits_are_compared():
    assert "dvc.lock" in compared_files(PIPELINE)


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
        model_inputs(f"stages: {{a: {stage}}}")


def test_a_loop_has_a_name_all_the_same():
    assert pipeline_stages("stages: {a: {foreach: [1], do: {cmd: x}}}") == {"a"}


@pytest.mark.parametrize("text", ["", "stages: [", "stages: 3"])
def test_a_pipeline_that_is_none_is_told(text):
    with pytest.raises(DocumentError):
        pipeline_stages(text)
