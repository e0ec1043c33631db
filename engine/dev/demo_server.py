"""Production in the demos: a server that answers from a clone of main, a year of flights to ask about, and faults."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_words import give_up, good, note, step
from mergeline.manifest.schema import Release, Spec, read_manifest

if TYPE_CHECKING:
    import pandas as pd

SERVER_START_SECONDS = 60
SEALED_SECONDS = 30
ROLLOUT_SECONDS = 60
SUMMER = ("2013-07-01", "2013-10-01")
# The retraining's pull request is open for a week, as a real one would be. In the first week of October the new model
# is no better than the old, and its labels would take it off.
CANARY_WEEK = ("2013-10-08", "2013-10-15")
FAULTY_WEEK = ("2013-10-15", "2013-10-22")
CANARY_LABELS = 5_000
"""Of the canary's week: so many tell the two models apart, and the first two days alone do not."""
TWO_WEEKS_A_SECOND = "1209600"
FAST_MOTION = {
    "strategy: replace": "strategy: canary",
    r"\[\{weight: 5.*\]": "[{weight: 20, hold: 2s}, {weight: 50, hold: 2s}]",
    "interval: 1m": "interval: 1s",
    "seal_seconds: 60": "seal_seconds: 1",
}
"""In params.yaml: patterns, and what they become."""
DRILL = {"MERGELINE_DRILL": "slow:0.7"}
"""In the server's environment: every answer of a model that is wrapped in a drill takes 0.7 s longer."""


@dataclass(frozen=True)
class Production:
    """A server that answers at `url` what the clone in `work` says, and the flights of the year."""

    url: str
    work: Path
    year: pd.DataFrame

    def flights(self, first: str, end: str) -> Path:
        """The flights from one day to another as a partition, which `mergeline traffic` sends."""
        rows = self.year[(self.year["scheduled_at"] >= first) & (self.year["scheduled_at"] < end)]
        path = self.work.parent / "flights-to-come" / f"{first}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows.to_parquet(path, index=False)
        return path

    def status(self) -> dict[str, Any]:
        """What the server says of itself."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def replay_summer(self) -> None:
        """July to September, two weeks a second; the labels come three days later."""
        command = [tool("mergeline"), "traffic", str(self.flights(*SUMMER)), "--url", self.url,
                   "--speed", TWO_WEEKS_A_SECOND, "--batch", "50", "--label-delay", "3d"]  # fmt: skip
        code = subprocess.run(command, cwd=self.work, env=environment(self.work), check=False).returncode
        if code:
            give_up(f"{' '.join(command[1:])} ended with code {code}, see above")
        self._wait_until_sealed()

    def _wait_until_sealed(self) -> None:
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
    def traffic(self, days: tuple[str, str], *, a_second: int = 180) -> Iterator[None]:
        """Flights of those days arrive, again and again, with their labels, until the block or the time ends."""
        command = [tool("mergeline"), "traffic", str(self.flights(*days)), "--url", self.url, "--rate", str(a_second),
                   "--duration", f"{ROLLOUT_SECONDS}s", "--batch", "20", "--label-delay", "0s"]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=self.work, env=environment(self.work), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def pass_canary(self) -> None:
        """The canary's flights arrive until it is through its steps, and until the journal has labels that tell."""
        enough = self._labels() + CANARY_LABELS
        with self.traffic(CANARY_WEEK, a_second=600):
            self.wait_for("passed")
            deadline = time.monotonic() + ROLLOUT_SECONDS
            while self._labels() < enough:
                if time.monotonic() > deadline:
                    give_up(f"{CANARY_LABELS:,} labels did not come within {ROLLOUT_SECONDS} s")
                time.sleep(0.2)
        self._wait_until_sealed()

    def _labels(self) -> int:
        return int(self.status()["journal"]["feedback"]["written"])

    def wait_for(self, phase: str) -> dict[str, Any]:
        """Wait until the rollout of the manifest's candidate has come to a phase, and tell its steps on the way."""
        candidate, told, begun = spec_of(self.work).candidate, "", time.monotonic()
        digest = candidate.digest if candidate else ""
        while time.monotonic() - begun < ROLLOUT_SECONDS:
            found: dict[str, Any] = self.status()["rollout"] or {}
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


@contextlib.contextmanager
def server(work: Path, **variables: str) -> Iterator[str]:
    """The server, in a process group of its own that is ended with the block; `variables` are of its environment."""
    step("serve what main says")
    log = work.parent / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [tool("mergeline"), "serve", "--port", "0"],
            cwd=work,
            env=environment(work) | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = _wait_for_server(process, log)
        good(f"ready at {url}")
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for_server(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the server prints once it is ready."""
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{found[0]}/readyz", timeout=2):
                return found[0]
        time.sleep(0.2)
    return give_up(f"the server did not start; its last words:\n{log.read_text()[-2000:]}")


def flights_of_the_year() -> pd.DataFrame:
    """All flights of 2013, from their package."""
    from mergeline.recipes.flights.data import build_year, source_folder

    return build_year(source_folder())


def in_fast_motion(work: Path, **also: str) -> None:
    """Edit params.yaml as a person would: releases become canaries, and all waiting takes seconds.

    Args:
        work: the clone.
        also: further keys of params.yaml, each with its value.
    """
    _edit_params(work, FAST_MOTION)
    set_params(work, **also)


def set_params(work: Path, **values: str) -> None:
    """Edit keys of params.yaml, as a person would."""
    _edit_params(work, {rf"(?m)^( +{key}:) \S+": rf"\g<1> {value}" for key, value in values.items()})


def trust_drill(work: Path) -> None:
    """Let model files hold the drill, in params.yaml."""
    _edit_params(work, {r"trusted_types: \[\]": "trusted_types: [mergeline.traffic.drill.Drill]"})


def _edit_params(work: Path, edits: dict[str, str]) -> None:
    path = work / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for pattern, wanted in edits.items():
        text, count = re.subn(pattern, wanted, text)
        if count != 1:
            give_up(f"params.yaml has {count} times what the demo looks for: {pattern}")
    path.write_text(text, encoding="utf-8")


def make_faulty(work: Path) -> None:
    """Wrap the team's pipeline in a drill: as good as before on paper, and far too slow on the server."""
    path = work / "src" / "flights" / "model.py"
    source = path.read_text(encoding="utf-8")
    for pattern, wanted in {
        r"(?m)^(from sklearn\.compose .*)$": r"from mergeline.traffic.drill import Drill\n\1",
        r"-> Pipeline:": "-> Drill:",
        r"(?m)^    return (Pipeline\(.*\))$": r"    return Drill(\n        \1\n    )",
    }.items():
        source, count = re.subn(pattern, wanted, source)
        if count != 1:
            give_up(f"{path.name} has {count} times what the demo looks for: {pattern}")
    path.write_text(source, encoding="utf-8")


def spec_of(work: Path) -> Spec:
    """What the clone's manifest asks for."""
    return read_manifest(work / "deploy" / "manifest.yaml").spec


def released(work: Path) -> Release:
    """The model that the clone's manifest calls stable."""
    stable = spec_of(work).stable
    if stable is None:
        give_up("the manifest names no model", "release one first: mergeline propose, commit, and run the demo again")
    return stable


def post(url: str, body: Any) -> Any:
    """Send JSON, get JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


def environment(work: Path) -> dict[str, str]:
    """The clone's own code first, and no telemetry."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": f"{work}/src:{work}/engine/src", "DVC_NO_ANALYTICS": "1"}
