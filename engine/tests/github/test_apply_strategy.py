"""Proposals that come as candidates: what params say of the strategy is what is checked and committed."""

import pytest
import yaml
from handed_proposals import Scene

from mergeline.ci.bundle import HandedState
from mergeline.ci.proposal_status import Outcome
from mergeline.ci.required_check import Event
from mergeline.ci.required_check_run import Run, look
from mergeline.github.git import Git
from mergeline.manifest.change import Change
from mergeline.manifest.edit import finish, promote
from mergeline.manifest.schema import Rollout

STEPS = [{"weight": 5, "hold": "15m"}]
CANARY = Rollout.model_validate({"strategy": "canary", "steps": STEPS})
SHADOW = Rollout.model_validate({"strategy": "shadow", "steps": STEPS})


def choose(scene, branch, rollout, start=None):
    """A person sets the strategy in params.yaml."""
    values = yaml.safe_load((scene.person.folder / "params.yaml").read_text())
    values["release"] = rollout.model_dump(mode="json")
    scene.commit(branch, "params.yaml", yaml.safe_dump(values), start)


@pytest.fixture
def scene(tmp_path):
    """The params say canary."""
    scene = Scene(tmp_path)
    choose(scene, "main", CANARY)
    return scene


def rolled_out(scene, seed=2, branch="change"):
    pull = scene.pull(branch, f"model: {seed}")
    release = scene.hand_over(pull, seed, rollout=CANARY)
    applied = scene.apply(pull)
    assert applied.outcome is Outcome.APPLIED, applied.error
    scene.forge.merge(pull.number)
    return release, applied


def standing(scene, commit):
    git = Git(scene.root)
    git.run("fetch", "--quiet", "origin")
    return look(git, scene.root, Run(Event.PULL, commit, "refs/remotes/origin/main", "", fork=False))


def test_the_model_is_committed_as_a_candidate_with_the_rollout_of_the_params(scene):
    pull = scene.pull()
    release = scene.hand_over(pull, 2, rollout=CANARY)
    applied = scene.apply(pull)
    spec = scene.manifest("change").spec
    assert (applied.outcome, applied.digest) == (Outcome.APPLIED, release.digest)
    assert (spec.candidate, spec.rollout, spec.stable.version) == (release, CANARY, 1)
    found = standing(scene, applied.commit)
    assert (found.standing, found.digest) == (Change.OTHER, release.digest)


def test_a_strategy_that_the_params_do_not_name_is_refused(scene):
    pull = scene.pull()
    before = scene.refs()
    for rollout in (Rollout(), SHADOW, CANARY.model_copy(update={"sticky": "tailnum"})):
        scene.hand_over(pull, 2, rollout=rollout)
        applied = scene.apply(pull)
        assert applied.outcome is Outcome.REFUSED
        assert "more than the promotion" in applied.error.what
    assert scene.refs() == before


def test_a_branch_that_changes_the_strategy_is_checked_by_its_own_params(scene):
    pull = scene.pull()
    choose(scene, "change", SHADOW)
    pull = scene.forge.get(pull.number)
    scene.hand_over(pull, 2, rollout=SHADOW)
    assert scene.apply(pull).outcome is Outcome.APPLIED
    assert scene.manifest("change").spec.rollout == SHADOW


def test_two_models_in_one_manifest_are_none_that_was_judged(scene):
    rolled_out(scene)
    pull = scene.pull("next", "model: 3")
    release = scene.hand_over(pull, 3, rollout=CANARY)
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
    candidate = scene.hand_over(pull, 2, rollout=SHADOW)
    scene.apply(pull)
    scene.forge.merge(pull.number)
    scene.person.run("fetch", "--quiet", "origin")
    choose(scene, "on", CANARY, start="origin/main")
    pull = scene.forge.open_or_update("on", "main", "To canary", "words")
    release = scene.hand_over(pull, 2, rollout=CANARY)
    assert release.version == candidate.version
    scene.replace("files/dvc.lock", scene.forge.git.show("main", "dvc.lock"))
    applied = scene.apply(pull)
    assert applied.outcome is Outcome.APPLIED, applied.error
    spec = scene.manifest("on").spec
    assert (spec.candidate.version, spec.rollout) == (candidate.version, CANARY)


def test_an_unchanged_model_keeps_the_candidate(scene):
    release, _ = rolled_out(scene)
    pull = scene.pull("notes", "model: 20")
    scene.hand_over(pull, 2, state=HandedState.UNCHANGED)
    for path in (scene.made / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    scene.replace("files/dvc.lock", scene.forge.git.show("main", "dvc.lock"))
    scene.replace("files/deploy/manifest.yaml", scene.base_text())
    assert scene.apply(pull).outcome is not Outcome.REFUSED
    assert scene.manifest("notes").spec.candidate == release


def test_the_end_of_a_rollout_is_accepted_without_being_judged_again(scene):
    rolled_out(scene)
    commit = scene.commit("end", "deploy/manifest.yaml", finish(scene.base_text()), start="origin/main")
    assert standing(scene, commit).standing is Change.CONCLUSION
