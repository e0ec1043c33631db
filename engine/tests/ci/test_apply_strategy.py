"""Proposals that come as candidates: what params say of the strategy is what is checked and committed."""

import pytest
import yaml

from mergeline.ci.bundle import ApplyOutcome
from mergeline.ci.required_check import Event
from mergeline.ci.required_check_run import Run, look
from mergeline.github.git import Git
from mergeline.manifest.edit import finish, promote
from mergeline.manifest.transitions import Change
from mergeline.release_params import Rollout

STEPS = [{"weight": 5, "hold": "15m"}]
CANARY = Rollout.model_validate({"strategy": "canary", "steps": STEPS})
SHADOW = Rollout.model_validate({"strategy": "shadow", "steps": STEPS})


def choose(scene, branch, rollout, start=None):
    """A person sets the strategy in params.yaml."""
    values = yaml.safe_load((scene.person.folder / "params.yaml").read_text())
    values["release"] = rollout.model_dump(mode="json")
    scene.commit(branch, "params.yaml", yaml.safe_dump(values), start)


@pytest.fixture
def scene(scene):
    """The params say canary."""
    choose(scene, "main", CANARY)
    return scene


def rolled_out(scene, seed=2, branch="change"):
    pull = scene.pull(branch, f"model: {seed}")
    release = scene.bundle(pull, seed)
    applied = scene.apply(pull)
    assert applied.outcome is ApplyOutcome.APPLIED, applied.error
    scene.forge.merge(pull.number)
    return release, applied


def standing(scene, commit):
    git = Git(scene.root)
    git.run("fetch", "--quiet", "origin")
    return look(git, scene.root, Run(Event.PULL, commit, "refs/remotes/origin/main", "", fork=False))["flights"]


def test_the_model_is_committed_as_a_candidate_with_the_rollout_of_the_params(scene):
    pull = scene.pull()
    release = scene.bundle(pull, 2)
    applied = scene.apply(pull)
    spec = scene.manifest("change").spec
    assert (applied.outcome, applied.digest) == (ApplyOutcome.APPLIED, release.digest)
    assert (spec.candidate, spec.rollout, spec.stable.version) == (release, CANARY, 1)
    found = standing(scene, applied.commit)
    assert (found.standing, found.digest) == (Change.OTHER, release.digest)


def test_a_branch_that_changes_the_strategy_is_checked_by_its_own_params(scene):
    pull = scene.pull()
    choose(scene, "change", SHADOW)
    pull = scene.forge.get(pull.number)
    scene.bundle(pull, 2)
    assert scene.apply(pull).outcome is ApplyOutcome.APPLIED
    assert scene.manifest("change").spec.rollout == SHADOW


def test_two_models_in_one_manifest_are_none_that_was_judged(scene):
    rolled_out(scene)
    pull = scene.pull("next", "model: 3")
    release = scene.bundle(pull, 3)
    both = promote(
        promote(scene.base_text(), release),
        release.model_copy(update={"version": 4, "digest": "sha256:" + "4" * 64}),
        CANARY,
    )
    commit = scene.commit("next", "deploy/manifest.yaml", both)
    assert standing(scene, commit).digest is None


def test_a_newer_model_takes_the_candidates_place(scene):
    first, _ = rolled_out(scene)
    second, _ = rolled_out(scene, 3, "next")
    spec = scene.manifest("main").spec
    assert (spec.candidate, spec.stable.version) == (second, 1)
    assert second.version == first.version + 1


def test_the_candidate_goes_on_as_a_canary_once_params_say_so(scene):
    choose(scene, "main", SHADOW)
    pull = scene.pull()
    candidate = scene.bundle(pull, 2)
    scene.apply(pull)
    scene.forge.merge(pull.number)
    scene.person.run("fetch", "--quiet", "origin")
    choose(scene, "on", CANARY, start="origin/main")
    pull = scene.forge.open_or_update("on", "main", "To canary", "words")
    release = scene.bundle(pull, 2)
    assert release.version == candidate.version
    scene.replace("dvc.lock", scene.forge.git.show("main", "dvc.lock"))
    applied = scene.apply(pull)
    assert applied.outcome is ApplyOutcome.APPLIED, applied.error
    spec = scene.manifest("on").spec
    assert (spec.candidate.version, spec.rollout) == (candidate.version, CANARY)


def test_an_unchanged_model_keeps_the_candidate(scene):
    release, _ = rolled_out(scene)
    pull = scene.pull("notes", "model: 20")
    scene.keep_model(pull)
    assert scene.apply(pull).outcome is not ApplyOutcome.REFUSED
    assert scene.manifest("notes").spec.candidate == release


def test_the_end_of_a_rollout_is_accepted_without_being_judged_again(scene):
    rolled_out(scene)
    commit = scene.commit("end", "deploy/manifest.yaml", finish(scene.base_text()), start="origin/main")
    assert standing(scene, commit).standing is Change.CONCLUSION
