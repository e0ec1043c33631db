"""A rollout on the whole server: real processes, real requests, a candidate that turns bad when a test says so."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import yaml
from serve_clients import Asking
from serve_process import QUICK, START, Running, running
from serve_samples import RECORD, Production, Pushed, make_model, push, wrap_pipeline

from mergeline.model.artifact import MODEL_FILE, folder_digest
from mergeline.serve.run import open_listener

pytestmark = pytest.mark.slow

FAULTY = '''
"""A model that misbehaves while a file is there."""
import ctypes
import os
import time
from pathlib import Path
from mergeline.traffic.drill import Drill


class Faulty(Drill):
    def __init__(self, model=None, flag="", fault=""):
        self.model, self.flag, self.fault = model, flag, fault

    def predict_proba(self, rows):
        found = self.model.predict_proba(rows)
        if Path(self.flag).exists():
            if self.fault == "raises":
                raise ValueError("as it was told")
            if self.fault == "exits":
                raise SystemExit(3)
            if self.fault == "interrupts":
                raise KeyboardInterrupt
            if self.fault == "leaves":
                os._exit(7)
            if self.fault == "crashes":
                ctypes.string_at(0)
            if self.fault == "keeps the lock":
                ctypes.PyDLL(None).sleep(60)
            if self.fault == "sleeps":
                time.sleep(2)
            if self.fault == "hangs":
                while Path(self.flag).exists():
                    time.sleep(0.05)
            if self.fault == "nan":
                found[:] = float("nan")
            if self.fault == "constant":
                found[:] = 0.5
        return found
'''
STEPS = [{"weight": 50, "hold": "1h"}]


class Drill:
    """A stable model, a candidate with a switch, and a manifest that rolls it out."""

    def __init__(self, root: Path) -> None:
        self.production = Production(root)
        self.flag = root / "bad"
        self.stable = self.production.push(seed=1)
        self.candidate: Pushed

    def roll_out(self, fault: str, strategy: str = "canary", steps: list | None = None) -> None:
        from faulty import Faulty

        root = self.production.root
        folder = root / "candidate" / "model"
        lineage = make_model(folder, seed=2)
        wrap_pipeline(folder, lambda inner: Faulty(inner, str(self.flag), fault))
        self.candidate = Pushed(folder_digest(folder), push(folder, self.production.store), lineage)
        self.deploy(strategy, steps)

    def deploy(self, strategy: str = "canary", steps: list | None = None) -> None:
        rollout = {"strategy": strategy, "steps": STEPS if steps is None else steps, "sticky": "tailnum"}
        spec = {"stable": self.stable.release(1), "candidate": self.candidate.release(2), "rollout": rollout}
        document = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}}
        self.production.write(yaml.safe_dump({**document, "spec": spec}, sort_keys=False))

    @contextmanager
    def server(self, workers: int = 1, **serve):
        root = self.production.root
        params = {**QUICK, "serve": {**QUICK["serve"], "workers": workers, **serve}}
        params["model"] = {**params["model"], "trusted_types": ["faulty.Faulty"]}
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        temporary = root / "tmp"
        temporary.mkdir(exist_ok=True)
        with open_listener("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-c", START, str(root), str(port)]
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(root)}
        with running(command, f"http://127.0.0.1:{port}", root / "log", environment) as server:
            server.wait(lambda: server.ready() and phase(server) != "loading", seconds=120)
            yield server


class Load(Asking):
    """Clients that ask without a pause, and what they were answered."""

    def __init__(self, url: str, clients: int = 4) -> None:
        super().__init__(clients)
        self._url = url
        self.answers: list[SimpleNamespace] = []

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as client:
            sent = 0
            while not self.ended.is_set():
                sent += 1
                key = f"N{number}-{sent % 400}"
                record = {**RECORD, "hour": sent % 24, "temp": sent % 40, "tailnum": key}
                begun = time.monotonic()
                response = client.post("/predict", json=record)
                content = response.json()
                self.answers.append(
                    SimpleNamespace(
                        begun=begun,
                        seconds=time.monotonic() - begun,
                        status=response.status_code,
                        digest=content.get("digest"),
                        key=key,
                    )
                )
                time.sleep(0.002)


@pytest.fixture
def drill(tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Drill(tmp_path)
    sys.modules.pop("faulty", None)


def phase(server: Running) -> str:
    return (server.status["rollout"] or {"phase": ""})["phase"]


@pytest.mark.parametrize(
    ("fault", "workers"),
    [
        ("raises", 2),
        ("sleeps", 1),
        ("nan", 1),
        ("constant", 1),
        ("exits", 1),
        ("interrupts", 2),
        ("leaves", 2),
        ("crashes", 1),
        ("keeps the lock", 1),
    ],
)
def test_a_candidate_that_turns_bad_is_off_within_five_seconds_and_nobody_notices(drill, fault, workers):
    drill.roll_out(fault)
    with drill.server(workers) as server:
        with Load(server.url) as load:
            time.sleep(2)
            assert phase(server) == "progressing"
            drill.flag.touch()
            bad_since = time.monotonic()
            server.wait(lambda: phase(server) == "failed", seconds=15)
            off_after = time.monotonic() - bad_since
            time.sleep(1)
            calm = time.monotonic()
            time.sleep(1)
        status = server.status
    assert off_after < 5
    assert {answer.status for answer in load.answers} == {200}
    before = [answer for answer in load.answers if answer.begun < bad_since]
    assert {answer.digest for answer in before} == {drill.stable.digest, drill.candidate.digest}
    by_key = {}
    for answer in before:
        by_key.setdefault(answer.key, set()).add(answer.digest)
    assert all(len(digests) == 1 for digests in by_key.values())
    assert {answer.digest for answer in load.answers if answer.begun > calm} == {drill.stable.digest}
    assert status["rollout"]["reason"].startswith("guard ")
    assert status["rollout"]["weights"] == {"stable": 100, "candidate": 0}
    assert fault == "constant" or status["counts"]["fallbacks"] > 0
    assert max(answer.seconds for answer in load.answers) < 5


def test_failed_survives_a_restart_until_the_manifest_changes(drill):
    drill.roll_out("raises")
    with drill.server() as server:
        drill.flag.touch()
        with Load(server.url):
            server.wait(lambda: phase(server) == "failed")
        decisions = server.status["rollout"]["decisions"]
    drill.flag.unlink()
    with drill.server() as server:
        assert phase(server) == "failed"
        assert server.status["rollout"]["decisions"] == decisions
        drill.deploy(steps=[{"weight": 60, "hold": "1h"}])
        server.wait(lambda: phase(server) == "progressing")


def test_steps_go_on_to_the_end_and_stable_stays_what_git_says(drill):
    drill.roll_out("raises", steps=[{"weight": 10, "hold": "2s"}, {"weight": 50, "hold": "2s"}])
    with drill.server() as server:
        with Load(server.url) as load:
            server.wait(lambda: phase(server) == "passed")
            time.sleep(0.5)
            passed = time.monotonic()
            time.sleep(0.5)
        status, metrics = server.status, server.client.get("/metrics").text
    assert {answer.digest for answer in load.answers if answer.begun > passed} == {drill.candidate.digest}
    assert status["stable"]["digest"] == drill.stable.digest
    assert [one["weight"] for one in status["rollout"]["decisions"]] == [10, 50, 100]
    assert 'mergeline_weight{role="candidate"} 100.0' in metrics
    assert 'mergeline_rollout_phase{phase="passed"} 1.0' in metrics


@pytest.mark.parametrize("fault", ["raises", "exits", "interrupts", "leaves", "crashes", "sleeps"])
def test_a_shadow_that_is_bad_delays_and_fails_nobody(drill, fault):
    drill.roll_out(fault, "shadow", steps=[])
    with drill.server() as server:
        with Load(server.url) as load:
            server.wait(lambda: server.status["counts"]["shadow"]["records"] > 50)
            drill.flag.touch()
            bad_since = time.monotonic()
            if fault != "sleeps":
                server.wait(lambda: phase(server) == "failed", seconds=15)
            else:
                for _ in range(60):
                    server.predict([RECORD] * 50)
                assert server.status["counts"]["shadow_dropped"] > 0
        status = server.status
    assert {(answer.status, answer.digest) for answer in load.answers} == {(200, drill.stable.digest)}
    assert (
        max(answer.seconds for answer in load.answers if answer.begun > bad_since) < 1.9
    )  # the candidate sleeps for 2 s
    assert status["counts"]["pairs"] > 0


def test_a_candidate_that_cannot_be_loaded_never_disturbs_stable(drill):
    drill.roll_out("raises")
    path = drill.production.object_of(drill.candidate, MODEL_FILE)
    content = path.read_bytes()
    path.unlink()
    with drill.server() as server:
        with Load(server.url) as load:
            time.sleep(1)
            assert phase(server) == "refused"
            assert "not in the store" in server.status["rollout"]["reason"]
            path.write_bytes(content)
            server.wait(lambda: phase(server) == "progressing", seconds=60)
            time.sleep(1)
        assert {answer.status for answer in load.answers} == {200}
        assert load.answers[0].digest == drill.stable.digest
        assert {answer.digest for answer in load.answers} == {drill.stable.digest, drill.candidate.digest}
        with suppress(OSError):
            drill.flag.unlink()


@pytest.mark.parametrize("strategy", ["canary", "shadow"])
def test_a_candidate_that_hangs_for_ever_does_not_spoil_the_next_rollout(drill, strategy):
    drill.roll_out("hangs", strategy)
    good = drill.production.push(seed=3)
    with drill.server() as server:
        with Load(server.url) as load:
            time.sleep(1)
            drill.flag.touch()
            if strategy == "canary":
                server.wait(lambda: phase(server) == "failed", seconds=20)
            time.sleep(1)
            drill.candidate = good
            drill.deploy(strategy)
            server.wait(lambda: (server.status["candidate"] or {}).get("digest") == good.digest)
            server.wait(lambda: phase(server) == "progressing")
            pairs, asked = server.status["counts"]["pairs"], len(load.answers)
            server.wait(lambda: server.status["counts"]["pairs"] > pairs + 20, seconds=30)
            if strategy == "canary":
                server.wait(lambda: good.digest in {answer.digest for answer in load.answers[asked:]}, seconds=30)
            assert phase(server) == "progressing"
        assert {answer.status for answer in load.answers} == {200}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0


def test_a_candidate_that_hangs_in_its_first_prediction_is_told_and_stops_nothing(drill):
    drill.roll_out("hangs")
    drill.flag.touch()
    with drill.server(load_seconds=2) as server:
        server.wait(lambda: phase(server) == "refused")
        assert "still answering its own example" in server.status["rollout"]["reason"]
        assert server.predict(RECORD).json()["digest"] == drill.stable.digest
        newer = drill.production.push(seed=3)
        drill.production.release(newer, number=3)
        server.wait(lambda: server.status["stable"]["digest"] == newer.digest)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_stable_model_that_hangs_for_ever_is_healed_by_the_next_manifest(drill):
    drill.roll_out("hangs")
    good, hanging = drill.stable, drill.candidate
    drill.production.release(hanging)
    with drill.server(max_seconds=1) as server:
        drill.flag.touch()
        assert server.predict(RECORD).status_code == 503
        drill.production.release(good, number=2)
        server.wait(lambda: server.status["stable"]["digest"] == good.digest)
        assert server.predict(RECORD).json()["digest"] == good.digest


@pytest.mark.parametrize("role", ["stable", "candidate"])
def test_a_model_that_ends_its_process_in_its_first_prediction_is_refused_and_the_old_one_goes_on(drill, role):
    drill.roll_out("leaves")
    good, ending = drill.stable, drill.candidate
    drill.production.release(good)
    with drill.server() as server, Load(server.url) as load:
        server.wait(lambda: load.answers)
        drill.flag.touch()
        if role == "stable":
            drill.production.release(ending, number=2)
            server.wait(lambda: server.status["error"])
            assert "the model ended its process: exit code 7" in server.status["error"]["what"]
        else:
            drill.deploy()
            server.wait(lambda: phase(server) == "refused")
            assert "the model ended its process: exit code 7" in server.status["rollout"]["reason"]
        newer = drill.production.push(seed=3)
        drill.production.release(newer, number=3)
        server.wait(lambda: server.status["stable"]["digest"] == newer.digest)
    assert {answer.status for answer in load.answers} == {200}


def test_a_stable_model_that_ends_its_process_costs_the_requests_that_it_was_at_and_no_more(drill):
    drill.roll_out("leaves")
    drill.production.release(drill.candidate)
    with drill.server() as server:
        assert server.predict(RECORD).status_code == 200
        drill.flag.touch()
        assert server.predict(RECORD).status_code == 500
        assert server.client.get("/livez").status_code == 200
        drill.flag.unlink()
        server.wait(lambda: server.predict(RECORD).status_code == 200, seconds=20)
        assert server.process.poll() is None
