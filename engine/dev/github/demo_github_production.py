"""The scenes of `make demo-github` in production: what the schedules start, and a server that follows main."""

from __future__ import annotations

import time
from typing import Any

from demo_github_stage import DEMO, MANIFEST, NAME, Stage, headline
from demo_server import (
    DRILL,
    FAULTY_WEEK,
    Production,
    flights_of_the_year,
    in_fast_motion,
    make_faulty,
    server,
    spec_of,
    trust_drill,
)
from demo_words import give_up, good, note, step
from local_github.scratch import Clone

CLONE = DEMO / "production" / "clone"
"""The server's: it takes what main says, as a deployment that follows the branch does."""


def play_production(stage: Stage) -> None:
    """All of it, in order."""
    release_as_canaries(stage)
    clone = Clone.make(stage.github, CLONE, NAME, "carol")
    trust_drill(CLONE)  # a server reads its settings when it starts
    with server(CLONE, **DRILL) as url:
        live = Production(url, CLONE, flights_of_the_year())
        stage.github.hub.settings[NAME].variables["MERGELINE_STATUS_URL"] = f"{url}/status"
        note("the repository's variable MERGELINE_STATUS_URL tells the workflows where it answers")
        step("July to September arrive, two weeks a second; what became of a flight is told three days later")
        live.replay_summer()
        retrain(stage, clone)
        roll_out(stage, clone, live)
        release_a_faulty_model(stage, clone, live)


def release_as_canaries(stage: Stage) -> None:
    """A pull request with settings alone: it makes no new model, and needs its check all the same."""
    step("alice's pull request: releases become canaries, whose steps take seconds")
    clone = stage.clone("alice")
    in_fast_motion(clone.folder, journal=str(CLONE / "journal"))
    clone.push("canaries", "Release as canaries, in fast motion")
    number = stage.open("canaries", "alice", "Release as canaries", "The drill's journal is on this machine's disk.")
    stage.settle()
    pull = stage.github.pull(NAME, number)
    stage.expect_check(pull, "success")
    if MANIFEST in stage.changed(pull):
        give_up("settings of the release made a new model")
    stage.press_merge(number, by="alice", approved_by="carol")
    stage.settle()
    good(f"#{number} merged: params.yaml says release.strategy: canary")


def retrain(stage: Stage, clone: Clone) -> None:
    """The daily look: a challenger on fresh labels proves a gain, and becomes a pull request."""
    step("watch.yml, once a day: has production drifted, and would a new model pay?")
    before = stage.version()
    stage.github.dispatch(NAME, "watch.yml", by="alice")
    stage.settle()
    pull = stage.proposal("watch.yml")
    good(f"#{pull['number']} by {pull['user']['login']}: {pull['title']}")
    note(f"labels: {', '.join(label['name'] for label in pull['labels'])}")
    note(f"comment: {headline(stage.expect_comment(pull['number'])['body'])}")
    step(f"merge #{pull['number']}: it is released as a canary")
    release(stage, clone, pull["number"])
    candidate = spec_of(CLONE).candidate
    if candidate is None or stage.version() != before:
        give_up("the retrained model should be a candidate beside the stable one")
    good(f"version {candidate.version} is the candidate, version {before} stays stable")


def roll_out(stage: Stage, clone: Clone, live: Production) -> None:
    """October's flights arrive; the canary passes its steps, and a pull request makes it stable."""
    step("the canary answers 20 %, then 50 % of October's flights")
    candidate = spec_of(CLONE).candidate
    live.pass_canary()
    stage.settle()
    step("rollout.yml, every half hour: how does it go?")
    pull = look_at_rollout(stage)
    release(stage, clone, pull["number"])
    stable = spec_of(CLONE).stable
    if candidate is None or stable is None or stable.digest != candidate.digest:
        give_up("the canary should have become stable")
    stage.settle()
    good(f"merged: version {stable.version} is stable")


def release_a_faulty_model(stage: Stage, clone: Clone, live: Production) -> None:
    """A model that the gate cannot fault is slow in production: the guard takes it off, and a pull request holds it."""
    step("carol's pull request: as good as the champion on paper, and far too slow on the server")
    stable, held = stage.version(), len(spec_of(CLONE).holds)
    person = stage.clone("carol")
    make_faulty(person.folder)
    trust_drill(person.folder)
    person.push("drill", "Wrap the model in a drill")
    number = stage.open("drill", "carol", "Wrap the model in a drill", "It shall show what the guard does.")
    stage.settle()
    stage.expect_check(stage.github.pull(NAME, number), "success")
    good(f"accepted: {headline(stage.expect_comment(number)['body'])}")
    with live.traffic(FAULTY_WEEK):
        release(stage, clone, number, by="carol", approved_by="alice")
        step(f"#{number} is merged, and every answer of the canary takes 0.7 s longer")
        begun = time.monotonic()
        found = live.wait_for("failed")
        good(f"the guard took it off {time.monotonic() - begun:.0f} s after the merge; stable answered for it")
        note(str(found.get("reason", "")))
    note("new code makes a new image too; without docker on this machine that job fails")
    stage.settle()
    step("rollout.yml, at its next half hour")
    pull = look_at_rollout(stage)
    release(stage, clone, pull["number"])
    stage.settle()
    spec = spec_of(CLONE)
    if stage.version() != stable or spec.candidate is not None or len(spec.holds) == held:
        give_up("the faulty model should be gone and held")
    good(f"merged: version {stable} goes on alone, and the faulty model is under a hold")


def look_at_rollout(stage: Stage) -> dict[str, Any]:
    """The look at the rollout, and the pull request that it opens."""
    stage.github.dispatch(NAME, "rollout.yml", by="alice")
    stage.settle()
    pull = stage.proposal("rollout.yml")
    good(f"#{pull['number']} by {pull['user']['login']}: {pull['title']}")
    return pull


def release(stage: Stage, clone: Clone, number: int, *, by: str = "alice", approved_by: str = "carol") -> None:
    """Merge a pull request; production takes what main says, whether the deployment has run or not."""
    stage.press_merge(number, by=by, approved_by=approved_by)
    clone.update()
