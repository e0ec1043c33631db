"""The scenes of `make demo` that play in production: a summer of flights, drift, a canary, and a fault taken back."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_stage import DEMO, WORK, environment, give_up, good, merge, note, released, run, step, tool
from mergeline.forge.git import Git
from mergeline.forge.local import LocalForge
from mergeline.release.manifest import Release, read_manifest

if TYPE_CHECKING:
    import pandas as pd

# The retraining's pull request is open for a week, as a real one would be. In the first week of October the new model
# is no better than the old, and its labels would take it off.
CANARY_WEEK = ("2013-10-08", "2013-10-15")
FAULTY_WEEK = ("2013-10-15", "2013-10-22")
SUMMER_ENDS = "2013-10-01"
TWO_WEEKS_A_SECOND = "1209600"
OPERATIONS = {
    "strategy: replace": "strategy: canary",
    r"\[\{weight: 5.*\]": "[{weight: 20, hold: 2s}, {weight: 50, hold: 2s}]",
    "interval: 1m": "interval: 1s",
    "seal_seconds: 60": "seal_seconds: 1",
    "clock: arrival": "clock: event",
    r"trusted_types: \[\]": "trusted_types: [mergeline.traffic.drill.Drill]",
}
"""What a drill needs, in params.yaml: patterns and what they become. The server is to load the drill's faulty model."""

ROLLOUT_SECONDS = 60
SEALED_SECONDS = 30


@dataclass(frozen=True)
class Production:
    """A server that answers, the forge of its repository, and the flights of the year."""

    url: str
    forge: LocalForge
    year: pd.DataFrame

    def flights(self, first: str, end: str) -> Path:
        """The flights from one day to another as a partition, which `mergeline traffic` sends."""
        rows = self.year[(self.year["scheduled_at"] >= first) & (self.year["scheduled_at"] < end)]
        path = DEMO / "flights-to-come" / f"{first}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows.to_parquet(path, index=False)
        return path

    def status(self) -> dict[str, Any]:
        """What the server says of itself."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def wait_until_sealed(self) -> None:
        """Wait until every answer and every label is in the journal's Parquet files."""
        deadline = time.monotonic() + SEALED_SECONDS
        while time.monotonic() < deadline:
            told = self.status()["journal"]
            kept = told["keeper"]
            written = (told["predictions"]["written"], told["feedback"]["written"])
            if (kept["sealed_predictions"], kept["sealed_labels"]) >= written:
                return
            time.sleep(0.2)
        give_up(f"the journal did not seal everything within {SEALED_SECONDS} s")

    @contextmanager
    def traffic(self, first: str, end: str) -> Iterator[None]:
        """Flights of those days arrive, again and again, until the block ends."""
        command = [tool("mergeline"), "traffic", str(self.flights(first, end)), "--url", self.url, "--rate", "60",
                   "--duration", f"{ROLLOUT_SECONDS}s", "--batch", "20", "--label-delay", "0s"]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=WORK, env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def operate_in_seconds() -> None:
    """Make releases canaries, and all waiting a matter of seconds, as a person would: in params.yaml."""
    step("production, in fast motion: releases become canaries, whose steps take seconds")
    path = WORK / "params.yaml"
    text = path.read_text()
    for pattern, wanted in OPERATIONS.items():
        text, count = re.subn(pattern, wanted, text)
        if count != 1:
            give_up(f"params.yaml has {count} times what the demo looks for: {pattern}")
    path.write_text(text)
    git = Git(WORK)
    git.commit("Release as canaries, in fast motion", "params.yaml")
    git.run("push", "--quiet", "origin", "main")
    note("params.yaml: release.strategy: canary; committed to main")


def replay_the_summer(live: Production) -> None:
    """July to September, two weeks a second; the labels come three days later."""
    step("July to September arrive, two weeks a second; what became of a flight is told three days later")
    run("mergeline", "traffic", str(live.flights("2013-07-01", SUMMER_ENDS)), "--url", live.url,
        "--speed", TWO_WEEKS_A_SECOND, "--batch", "50", "--label-delay", "3d")  # fmt: skip
    live.wait_until_sealed()


def watch() -> None:
    """September against the model's profile, and its labels against its holdout."""
    step("watch September: mergeline watch --window 30d")
    code = run("mergeline", "watch", "--window", "30d", "--end", SUMMER_ENDS, "--strict", check=False)
    if code not in {5, 6}:
        give_up(f"September should have been found changed (exit code 5 or 6), but watch ended with {code}")
    good("production has changed; that alone retrains nothing")


def retrain(live: Production) -> int:
    """A challenger on fresh labels proves a gain, and becomes a pull request; it is merged as a canary."""
    step("would a new model pay? mergeline retrain --pull-request")
    before = released().version
    run("mergeline", "retrain", "--end", SUMMER_ENDS, "--pull-request")
    (pull,) = live.forge.list_open()
    good(f"pull request #{pull.number}: {pull.title}")
    step(f"merge pull request #{pull.number}: it is released as a canary")
    merge(live.forge, pull.number)
    candidate = candidate_of()
    if candidate is None or released().version != before:
        give_up("the retrained model should be a candidate beside the stable one")
    good(f"version {candidate.version} is the candidate, version {before} stays stable")
    return pull.number


def roll_out(live: Production) -> None:
    """October's flights arrive; the canary passes its steps, and a pull request makes it stable."""
    candidate = candidate_of()
    step("the canary answers 20 %, then 50 % of October's flights")
    with live.traffic(*CANARY_WEEK):
        wait_for(live, "passed")
        run("mergeline", "conclude", "--url", f"{live.url}/status", "--pull-request")
    (pull,) = live.forge.list_open()
    merge(live.forge, pull.number)
    if candidate is None or released().digest != candidate.digest:
        give_up("the canary should have become stable")
    good(f"#{pull.number} merged: version {released().version} is stable")


def release_a_faulty_model(live: Production) -> None:
    """A model that the gate cannot fault is slow in production: the guard takes it off, and a pull request holds it."""
    step("a faulty model: as good as the champion on paper, and far too slow on the server")
    stable = released()
    model = WORK / "src" / "flights" / "model.py"
    source = model.read_text().replace("return Pipeline(", "return Drill(Pipeline(")
    source = source.rstrip() + ")\n"
    source = source.replace(
        "\nfrom flights.features", "\nfrom mergeline.traffic.drill import Drill\nfrom flights.features"
    )
    model.write_text(source)
    run("mergeline", "propose", "--pull-request")
    (pull,) = live.forge.list_open()
    good(f"accepted: pull request #{pull.number}: {pull.title}")
    with live.traffic(*FAULTY_WEEK):
        merge(live.forge, pull.number)
        step(f"#{pull.number} is merged, and every answer of the canary takes 0.7 s longer")
        begun = time.monotonic()
        found = wait_for(live, "failed")
        good(f"the guard took it off {time.monotonic() - begun:.0f} s after the merge; stable answered for it")
        note(found.get("reason", ""))
        run("mergeline", "conclude", "--url", f"{live.url}/status", "--pull-request")
    (back,) = live.forge.list_open()
    merge(live.forge, back.number)
    spec = read_manifest(WORK / "deploy" / "manifest.yaml").spec
    if spec.stable != stable or spec.candidate is not None or not spec.holds:
        give_up("the faulty model should be gone and held")
    good(f"#{back.number} merged: version {stable.version} goes on alone, and the faulty model is under a hold")


def write_history() -> Path:
    """The page of production, made from git alone."""
    step("production's history, from git")
    run("mergeline", "page", "--output", "build/site")
    log = Git(WORK).run("log", "--first-parent", "--format=%h %s", "--", "deploy/manifest.yaml")
    for line in log.splitlines():
        note(f"  {line}")
    return WORK / "build" / "site" / "index.html"


def candidate_of() -> Release | None:
    """The manifest's candidate."""
    return read_manifest(WORK / "deploy" / "manifest.yaml").spec.candidate


def wait_for(live: Production, phase: str) -> dict[str, Any]:
    """Wait until the rollout of the manifest's candidate has come to a phase, and tell its steps on the way."""
    candidate, told, begun = candidate_of(), "", time.monotonic()
    digest = candidate.digest if candidate else ""
    while time.monotonic() - begun < ROLLOUT_SECONDS:
        found = live.status()["rollout"] or {}
        if found.get("candidate") == digest:
            place = found.get("step") or {}
            line = f"{found['phase']}" + (f", step {place['number']} of {place['of']}" if place else "")
            if line != told:
                note(f"  {line}")
                told = line
            if found["phase"] == phase:
                return found
        time.sleep(0.1)
    return give_up(f"the rollout did not come to {phase!r} within {ROLLOUT_SECONDS} s; it is {told!r}")
