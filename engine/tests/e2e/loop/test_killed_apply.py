"""`mergeline ci apply`, killed at any moment: the branch is untouched or has the whole proposal, and it runs again."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from bundle_examples import Scene

from mergeline.ci.bundle import ApplyOutcome

KILLS = 12
APPLY = """
import sys
from pathlib import Path
from mergeline.ci.apply import apply
print("begins", flush=True)
apply(Path(sys.argv[1]), Path(sys.argv[2]), head=sys.argv[3], pull=1)
"""


def begun(scene, head):
    """A process of its own that applies the proposal, once its imports are done."""
    command = [sys.executable, "-c", APPLY, str(scene.root), str(scene.made), head]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdout.readline() == b"begins\n"
    return process


@pytest.mark.slow(minutes=1)
@pytest.mark.parametrize("store", ["../store", "../../outside"])
def test_one_that_is_killed_leaves_nothing_half_done(tmp_path, store):
    made = Scene(tmp_path / "made", store)
    pull = made.pull()
    made.bundle(pull)
    whole = made.copy(tmp_path / "whole")
    start = time.monotonic()
    with begun(whole, pull.head) as process:
        assert process.wait() == 0
    seconds, right = time.monotonic() - start, whole.forge.git.run("rev-parse", "change^{tree}")
    moments, ends = random.Random(7), set()
    for number in range(KILLS):
        scene = made.copy(tmp_path / str(number))
        with begun(scene, pull.head) as process:
            time.sleep(moments.random() * seconds)
            os.killpg(process.pid, signal.SIGKILL)
        untouched = scene.forge.git.find("change") == pull.head
        assert untouched or scene.forge.git.run("rev-parse", "change^{tree}") == right
        assert scene.apply(pull).outcome is (ApplyOutcome.APPLIED if untouched else ApplyOutcome.NOTHING)
        assert scene.forge.git.run("rev-parse", "change^{tree}") == right
        assert scene.forge.git.attempt("fsck", "--strict")[0] == 0
        ends.add(untouched)
    assert ends == {True, False}
