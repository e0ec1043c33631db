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
