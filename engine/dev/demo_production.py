"""The scenes of `make demo` that play in production: a summer of flights, drift, a canary, and a fault taken back."""

from __future__ import annotations

import time
from pathlib import Path

from demo_server import (
    FAULTY_WEEK,
    SUMMER,
    Production,
    in_fast_motion,
    make_faulty,
    released,
    spec_of,
    trust_drill,
)
from demo_stage import WORK, merge, run
from demo_words import give_up, good, note, step
from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git
from mergeline.github.pull_requests import PullRequest


def only_open(forge: ForgeWithButtons) -> PullRequest:
    """The one pull request that is open."""
    found = forge.list_open()
    if len(found) != 1:
        give_up(f"one pull request should be open, and {len(found)} are", "what came out instead is said above")
    return found[0]


def operate_in_seconds() -> None:
    """Make releases canaries, and all waiting a matter of seconds."""
    step("production, in fast motion: releases become canaries, whose steps take seconds")
    in_fast_motion(WORK, clock="event")
    trust_drill(WORK)
    git = Git(WORK)
    git.commit("Release as canaries, in fast motion", "params.yaml")
    git.run("push", "--quiet", "origin", "main")
    note("params.yaml: release.strategy: canary; committed to main")


def replay_the_summer(live: Production) -> None:
    """July to September, two weeks a second; the labels come three days later."""
    step("July to September arrive, two weeks a second; what became of a flight is told three days later")
    live.replay_summer()


def watch() -> None:
    """September against the model's profile, and its labels against its holdout."""
    step("watch September: mergeline watch --window 30d")
    code = run("mergeline", "watch", "--window", "30d", "--end", SUMMER[1], "--strict", check=False)
    if code not in {5, 6}:
        give_up(f"September should have been found changed (exit code 5 or 6), but watch ended with {code}")
    good("production has changed; that alone retrains nothing")


def retrain(forge: ForgeWithButtons) -> int:
    """A challenger on fresh labels proves a gain, and becomes a pull request; it is merged as a canary."""
    step("would a new model pay? mergeline retrain --pull-request")
    before = released(WORK).version
    run("mergeline", "retrain", "--end", SUMMER[1], "--pull-request")
    pull = only_open(forge)
    good(f"pull request #{pull.number}: {pull.title}")
    step(f"merge pull request #{pull.number}: it is released as a canary")
    merge(forge, pull.number)
    candidate = spec_of(WORK).candidate
    if candidate is None or released(WORK).version != before:
        give_up("the retrained model should be a candidate beside the stable one")
    good(f"version {candidate.version} is the candidate, version {before} stays stable")
    return pull.number


def roll_out(live: Production, forge: ForgeWithButtons) -> None:
    """October's flights arrive; the canary passes its steps, and a pull request makes it stable."""
    candidate = spec_of(WORK).candidate
    step("the canary answers 20 %, then 50 % of October's flights")
    live.pass_canary()
    run("mergeline", "rollout", "status", "--url", f"{live.url}/status", "--pull-request")
    pull = only_open(forge)
    merge(forge, pull.number)
    if candidate is None or released(WORK).digest != candidate.digest:
        give_up("the canary should have become stable")
    good(f"#{pull.number} merged: version {released(WORK).version} is stable")


def release_a_faulty_model(live: Production, forge: ForgeWithButtons) -> None:
    """A model that the gate cannot fault is slow in production: the guard takes it off, and a pull request holds it."""
    step("a faulty model: as good as the champion on paper, and far too slow on the server")
    stable = released(WORK)
    make_faulty(WORK)
    run("mergeline", "propose", "--pull-request")
    pull = only_open(forge)
    good(f"accepted: pull request #{pull.number}: {pull.title}")
    with live.traffic(FAULTY_WEEK):
        merge(forge, pull.number)
        step(f"#{pull.number} is merged, and every answer of the canary takes 0.7 s longer")
        begun = time.monotonic()
        found = live.wait_for("failed")
        good(f"the guard took it off {time.monotonic() - begun:.0f} s after the merge; stable answered for it")
        note(found.get("reason", ""))
    run("mergeline", "rollout", "status", "--url", f"{live.url}/status", "--pull-request")
    back = only_open(forge)
    merge(forge, back.number)
    spec = spec_of(WORK)
    if spec.stable != stable or spec.candidate is not None or not spec.holds:
        give_up("the faulty model should be gone and held")
    good(f"#{back.number} merged: version {stable.version} goes on alone, and the faulty model is under a hold")


def write_history() -> Path:
    """The page of production, made from git alone."""
    step("production's history, from git")
    run("mergeline", "ci", "page", "--output", "build/site")
    log = Git(WORK).run("log", "--first-parent", "--format=%h %s", "--", "deploy/manifest.yaml")
    for line in log.splitlines():
        note(f"  {line}")
    return WORK / "build" / "site" / "index.html"
