"""Stages that DVC starts run as forks of `propose`, and make what they make by themselves."""

import pytest

from mergeline.model.artifact import folder_digest

pytestmark = pytest.mark.slow


def test_a_fork_trains_the_bytes_that_a_process_of_its_own_does(released):
    released.set_params(model={"factory": "toy.model:boosted", "arguments": {"max_iter": 20}}, gate={"margin": 0.1})
    released.mergeline("propose")
    forked = folder_digest(released.root / "model")
    alone = released.mergeline("train", settings={"MERGELINE_WARM": ""}).stderr
    assert forked in alone


def test_an_error_in_a_fork_is_told_as_by_the_stage_itself(released):
    released.set_params(model={"factory": "toy.model:nothing_here"})
    done = released.mergeline("propose", code=1)
    assert "nothing_here" in done.stderr
    assert "a stage failed" in done.stderr
    assert done.stderr.count("hint:") == 1  # what a stage said is said once
    assert "Traceback" not in done.stderr


def test_what_was_trained_and_neither_accepted_nor_stored_is_not_trained_again(released):
    released.set_params(model={"arguments": {"C": 0.5}}, gate={"floors": {"roc_auc": 0.999}, "margin": 0.1})
    before = released.state()
    assert "trained:" in released.mergeline("propose", code=3).stderr
    assert released.state() == before

    released.set_params(gate={"floors": {}})
    folders = [released.root / "store" / "files" / "md5" / f"{number:02x}" for number in range(256)]
    blocked = [folder for folder in folders if not folder.exists()]
    for folder in blocked:
        folder.write_text("")  # nothing can be put there
    refused = released.mergeline("propose", code=1).stderr
    assert "the store took no new objects" in refused
    for folder in blocked:
        folder.unlink()
    assert "trained:" not in refused + released.mergeline("propose").stderr


def test_mlflow_begins_to_load_while_stages_run_once_and_not_where_none_does(released):
    program = "from pathlib import Path; from mergeline.release.reproduce import reproduce; "
    program += "reproduce(Path(), meanwhile=lambda: print('meanwhile'))"
    released.set_params(model={"arguments": {"C": 0.5}}, evaluation={"resamples": 150})
    assert released.run("python", "-c", program).stdout.split() == ["meanwhile"]
    assert not released.run("python", "-c", program).stdout
