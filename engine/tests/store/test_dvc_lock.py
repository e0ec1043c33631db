"""What is taken for a lock of DVC: what DVC itself would take, and nothing else."""

from pathlib import Path

import pytest

from mergeline.errors import DocumentError
from mergeline.store.dvc_lock import canonical_lock, locked_outputs, locked_stages, model_object, require_commands

MD5 = "0123456789abcdef" * 2
OUT = f"- path: model\n      hash: md5\n      md5: {MD5}.dir\n      size: 3\n      nfiles: 1"
LOCK = f"""\
schema: '2.0'
stages:
  train:
    cmd: mergeline train
    deps:
    - path: data
      hash: md5
      md5: {MD5}.dir
    params:
      params.yaml:
        model.seed: 7
    outs:
    {OUT}
"""


def test_the_model_is_found():
    assert model_object(LOCK) == f"files/md5/01/{MD5[2:]}.dir"
    assert model_object("") == ""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema: '2.0'", "schema: '1.0'", "schema: Input should be '2.0'"),
        ("schema: '2.0'", "schema: '2.0'\nevil: 1", "evil: Extra inputs are not permitted"),
        ("    cmd: mergeline train", "    cmd: mergeline train\n    evil: 1", "stages.train.evil: Extra inputs"),
        ("      size: 3", "      size: 3\n      evil: 1", "outs.0.evil: Extra inputs"),
        ("    cmd: mergeline train\n", "", "stages.train.cmd: Field required"),
        (
            "      params.yaml:\n        model.seed: 7",
            "      params.yaml: 3",
            "params.yaml: Input should be a valid dict",
        ),
        (f"      md5: {MD5}.dir\n      size", "      size", "without an md5"),
        (f"      md5: {MD5}.dir\n      size", "      md5: ../../x\n      size", "outs.0.md5: String should match"),
        (
            f"      hash: md5\n      md5: {MD5}.dir\n    params",
            "      md5: [x]\n    params",
            "deps.0.md5: Input should",
        ),
        ("      hash: md5\n      md5", "      hash: [md5]\n      md5", "deps.0.hash: Input should be a valid string"),
        ("      size: 3", "      size: '3'", "outs.0.size: Input should be a valid integer"),
        ("      size: 3", "      size: 3\n      files: [{md5: a}]", "outs.0.files.0.md5"),
        ("  train:\n", "  1:\n", "stages.1.*: Input should be a valid string"),
        ("    - path: model", "    - paht: model", "outs.0.path: Field required"),
        ("    outs:\n", "    outs: 3\n    deps:\n", "duplicate key"),
    ],
)
def test_a_lock_that_dvc_would_refuse_is_refused(old, new, says):
    assert old in LOCK
    with pytest.raises(DocumentError, match=says):
        model_object(LOCK.replace(old, new, 1))


def test_a_stage_that_stands_twice_is_refused():
    again = LOCK[LOCK.index("  train:") :]
    with pytest.raises(DocumentError, match='duplicate key "train"'):
        locked_stages(LOCK + again)


def test_an_output_of_two_stages_is_refused():
    again = LOCK[LOCK.index("  train:") :].replace("train:", "other:", 1)
    with pytest.raises(DocumentError, match="'train' and 'other' both make 'model'"):
        locked_outputs(locked_stages(LOCK + again))


def test_megabytes_of_comments_are_refused():
    with pytest.raises(DocumentError, match="more than 500,000"):
        locked_stages(LOCK + "# nothing\n" * 100_000)


def test_what_is_committed_is_what_was_read_as_dvc_writes_it():
    lock = (Path(__file__).parents[3] / "dvc.lock").read_text()
    assert canonical_lock(lock) == lock
    hidden = "# for the next reader\n" + lock.replace("schema: '2.0'", '"schema": "\\x32.0" # x')
    assert canonical_lock(hidden) == lock


def test_what_would_be_read_again_as_something_else_is_not_written():
    with pytest.raises(DocumentError, match="cannot be written"):
        canonical_lock(LOCK.replace("model.seed: 7", 'model.seed: "a\\x85b"'))
    assert "seed: .nan" in canonical_lock(LOCK.replace("model.seed: 7", "model.seed: .nan"))


class TestCommands:
    def test_the_pipelines_own_are_right(self):
        require_commands(locked_stages(LOCK), {"train": {"cmd": "mergeline train"}})
        loop = {"train": {"foreach": ["a"], "do": {"cmd": "x ${item}"}}}
        require_commands(locked_stages(LOCK.replace("train:", "train@a:")), loop)

    def test_a_changed_command_and_an_unknown_stage_are_refused(self):
        with pytest.raises(DocumentError, match="another command"):
            require_commands(locked_stages(LOCK.replace("mergeline train", "curl evil")), {"train": {"cmd": "x"}})
        loop = {"train": {"foreach": ["a"], "do": {"cmd": "x"}}}
        with pytest.raises(DocumentError, match="another command"):
            require_commands(locked_stages(LOCK.replace("train:", "train@a:")), loop)
        with pytest.raises(DocumentError, match="no stage 'train'"):
            require_commands(locked_stages(LOCK), {})
        for pipeline in ({"train": {"cmd": "mergeline train"}}, {"train": 3}):  # no loop
            with pytest.raises(DocumentError, match="no stage 'train@a'"):
                require_commands(locked_stages(LOCK.replace("train:", "train@a:")), pipeline)
