"""What the history of the manifest shows that its newest state does not."""

from __future__ import annotations

from bundle_examples import Scene

from mergeline.evaluate.results import Status
from mergeline.github.served_releases import verify_history


def test_a_version_number_that_a_person_changed_is_reported(tmp_path):
    scene = Scene(tmp_path)
    before = scene.main()
    scene.commit("main", "deploy/manifest.yaml", scene.base_text().replace("version: 1,", "version: 9,"))
    scene.git.fetch("origin")
    scene.git.run("reset", "--quiet", "--hard", "origin/main")

    (found,) = verify_history(scene.root, "flights", before)

    assert found.status is Status.WARN
    assert "was version 1, and is 9" in found.value


def test_a_number_that_a_proposal_gave_anew_on_its_branch_is_no_persons_doing(tmp_path):
    scene = Scene(tmp_path)
    other = scene.pull("other")
    scene.commit("mine", "other.py", "mine", start="origin/main")
    mine = scene.forge.open_or_update("mine", "main", "Mine", "words")
    for seed, pull in ((3, mine), (2, other)):
        scene.bundle(pull, seed)
        scene.apply(pull)
    scene.forge.merge(other.number)
    again = scene.forge.get(mine.number)
    scene.bundle(again, 3)
    scene.apply(again)
    assert scene.manifest("mine").spec.stable.version == 3
    scene.git.fetch("origin")
    scene.git.run("reset", "--quiet", "--hard", "origin/mine")

    (found,) = verify_history(scene.root, "flights", "origin/main")

    assert found.status is Status.PASS, found
