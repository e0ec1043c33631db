"""A person's "no" to a retraining is remembered, and a promotion of a person's own is seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from bundle_examples import Scene
from release_examples import params

from mergeline.github.own_branch import DEPENDABOT, is_own, message, push
from mergeline.manifest.edit import add_hold
from mergeline.retrain.cool_down import Step
from mergeline.retrain.pull_request import Watch, prepare

BRANCH = "retrain/flights"
DIGEST = f"sha256:{7:064}"


class Challenged(Exception):  # noqa: N818 - what the tests wait for, not an error
    """Nothing kept the challenge from being run."""


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def step_of(scene, days=0):
    """What a look comes to, so many days from now."""
    scene.git.fetch("origin")
    scene.git.run("reset", "--quiet", "--hard", "origin/main")
    now, lines = datetime.now(UTC) + timedelta(days=days), []

    def challenge(manifest):
        raise Challenged

    return prepare(scene.root, params(), challenge, Watch(), now=now, tell=True, say=lines.append)


def branch_with(scene, branch, path, text, *, by_us=False):
    """A branch on main with one file changed, by the automation or by a person; returns its commit."""
    main = scene.main()
    scene.person.run("switch", "--quiet", "--force-create", "work", main)
    (scene.person.folder / path).write_text(text)
    scene.person.run("add", path)
    tree = scene.person.run("write-tree")
    words = message("flights: version 2", DIGEST, tree) if by_us else "A change of mine"
    identity = ("-c", "user.name=A person", "-c", "user.email=person@example.com")
    scene.person.run(*identity, "commit", "--quiet", "--allow-empty", "-m", words)
    scene.person.run("push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
    return scene.person.run("rev-parse", "HEAD")


def closed_pull(scene, *, by_us=True, delete=True, labels=()):
    branch_with(scene, BRANCH, "note.txt", "x", by_us=by_us)
    pull = scene.forge.open_or_update(BRANCH, "main", "flights: version 2, retrained", "Words", labels)
    scene.forge.close(pull.number)
    if delete:
        scene.forge.git.run("branch", "-D", BRANCH)
    return pull


def test_a_pull_request_that_was_closed_and_its_branch_deleted_begins_a_cool_down(scene):
    closed_pull(scene)

    found = step_of(scene, days=1)

    assert found.step is Step.WAIT
    assert "closed at" in found.reason
    with pytest.raises(Challenged):
        step_of(scene, days=4)


def test_one_that_was_closed_counts_once_though_its_branch_was_kept(scene):
    closed_pull(scene, delete=False)

    with pytest.raises(Challenged):
        step_of(scene, days=4)


def test_the_label_declined_ends_retraining_until_it_is_removed(scene):
    pull = closed_pull(scene, labels=["declined"])

    found = step_of(scene, days=400)

    assert found.step is Step.WAIT
    assert f"#{pull.number}" in found.reason
    assert "remove the label declined" in found.reason


def test_a_kept_branch_with_a_persons_commit_is_reported_in_one_issue_that_closes_when_it_is_free(scene):
    closed_pull(scene, by_us=False, delete=False)

    assert step_of(scene, days=9).step is Step.WAIT
    assert step_of(scene, days=9).step is Step.WAIT

    file = scene.forge.folder / "issues" / "retraining-blocked-flights.yaml"
    issue = yaml.safe_load(file.read_text())
    assert issue["is_open"]
    assert "delete the branch" in issue["body"]
    scene.forge.git.run("branch", "-D", BRANCH)
    with pytest.raises(Challenged):
        step_of(scene, days=9)
    assert not yaml.safe_load(file.read_text())["is_open"]


def test_a_persons_pull_request_that_changes_the_manifest_is_a_promotion_without_a_label(scene):
    branch_with(scene, "mine", "deploy/manifest.yaml", add_hold(scene.base_text(), DIGEST, "bad"))
    pull = scene.forge.open_or_update("mine", "main", "My model", "Words")

    found = step_of(scene)

    assert found.step is Step.WAIT
    assert f"#{pull.number} My model" in found.reason


def test_a_persons_pull_request_without_a_model_is_none(scene):
    branch_with(scene, "mine", "note.txt", "words")
    scene.forge.open_or_update("mine", "main", "A note", "Words")

    with pytest.raises(Challenged):
        step_of(scene)


def test_a_commit_on_a_branch_of_dependabot_lets_it_go_on_rebasing(scene):
    main = scene.main()
    tree = scene.git.run("rev-parse", f"{main}^{{tree}}")

    ours, theirs = (
        push(scene.git, branch, tree, [main], message("flights: version 2", DIGEST, tree), expected=None)
        for branch in ("topic", "dependabot/uv/ruff-1")
    )

    assert DEPENDABOT in scene.git.run("log", "-1", "--format=%B", theirs)
    assert DEPENDABOT not in scene.git.run("log", "-1", "--format=%B", ours)
    assert is_own(scene.git, theirs)
