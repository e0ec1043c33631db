"""Three servers as three pods have it: one manifest that kubelet turns, a volume each, one place for the journals."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from serve_clients import Asking
from serve_process import QUICK, Running, running
from serve_samples import RECORD, Production, Pushed, make_model, push, wrap_pipeline

from mergeline.journal.parquet_export import seal_all
from mergeline.journal.sync import sync_all
from mergeline.journal.window import Clock, find_journal
from mergeline.manifest.schema import read_manifest
from mergeline.model.artifact import folder_digest
from mergeline.rollout.end import Ending, decide
from mergeline.rollout.status import read_status
from mergeline.serve.run import open_listener

pytestmark = pytest.mark.slow

START = """
import os, sys
from mergeline.serve.container import container_settings
from mergeline.serve.run import open_listener, run
run(container_settings(os.environ), open_listener("127.0.0.1", int(sys.argv[1])))
"""
FAULTY = '''
"""A model that fails, or is slow, while a file is there, in the folder that the server was started in."""
import time
from pathlib import Path
from mergeline.traffic.drill import Drill


class Faulty(Drill):
    def predict_proba(self, rows):
        if Path("bad").exists():
            raise ValueError("as it was told")
        if Path("slow").exists():
            time.sleep(0.8)
        return self.model.predict_proba(rows)
'''


class Fleet:
    """The servers of one deployment; each has a folder of its own, and reads the manifest where kubelet puts it."""

    def __init__(self, root: Path) -> None:
        self.root, self.production = root, Production(root)
        (root / "faulty_part.py").write_text(FAULTY)
        params = {**QUICK, "model": {**QUICK["model"], "trusted_types": ["faulty_part.Faulty"]}}
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        self.mounted = root / "mounted"
        self.mounted.mkdir()
        (self.mounted / "manifest.yaml").symlink_to("..data/manifest.yaml")
        self.turns = 0
        self.stable = self.production.push(seed=1)
        self.candidate = self._push_faulty()

    def _push_faulty(self) -> Pushed:
        sys.path.insert(0, str(self.root))
        try:
            from faulty_part import Faulty

            folder = self.root / "candidate" / "model"
            lineage = make_model(folder, seed=2)
            wrap_pipeline(folder, Faulty)
        finally:
            sys.path.remove(str(self.root))
            sys.modules.pop("faulty_part", None)
        return Pushed(folder_digest(folder), push(folder, self.production.store), lineage)

    def merge(self, *, candidate: bool) -> None:
        """Turn the link as kubelet does when a ConfigMap has changed."""
        rollout = {"strategy": "canary", "steps": [{"weight": 50, "hold": "1h"}], "sticky": "tailnum"}
        spec = {"stable": self.stable.release(1)}
        if candidate:
            spec |= {"candidate": self.candidate.release(2), "rollout": rollout}
        head = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}}
        text = yaml.safe_dump({**head, "spec": spec}, sort_keys=False)
        self.turns += 1
        folder = self.mounted / f"..2026_11_28_{self.turns}"
        folder.mkdir()
        (folder / "manifest.yaml").write_text(text)
        (self.mounted / "..data_tmp").symlink_to(folder.name)
        (self.mounted / "..data_tmp").replace(self.mounted / "..data")

    @contextmanager
    def pod(self, name: str, port: int, ports: list[int]):
        folder = self.root / name
        folder.mkdir(exist_ok=True)  # it is the pod's volume, which outlives it
        peers = ", ".join(f'"127.0.0.1:{each}"' for each in ports)
        settings = {
            "ROOT": self.root,
            "MANIFEST": self.mounted / "manifest.yaml",
            "STORE": self.production.store,
            "CACHE": folder / "cache",
            "STATE_FOLDER": folder / "state",
            "JOURNAL_FOLDER": folder / "journal",
            "PEERS": f"[{peers}]",
        }
        environment = {**os.environ, "PYTHONPATH": str(self.root), "TMPDIR": str(folder)}
        environment |= {f"MERGELINE_SERVE_{key}": str(value) for key, value in settings.items()}
        command = ["env", "-C", str(folder), sys.executable, "-c", START, str(port)]
        with running(command, f"http://127.0.0.1:{port}", folder / "log", environment) as server:
            yield server


class Load(Asking):
    """One client for each server, which asks without a pause and keeps every status."""

    def __init__(self, pods: list[Running]) -> None:
        super().__init__(len(pods))
        self.pods, self.told = pods, [[] for _ in pods]

    def _ask(self, number: int) -> None:
        sent = 0
        while not self.ended.is_set():
            sent += 1
            record = {**RECORD, "hour": sent % 24, "temp": sent % 40, "tailnum": f"N{sent % 300}"}
            response = self.pods[number].predict({**record, "flight_id": f"{number}-{sent}"})
            self.told[number].append(response.status_code)
            time.sleep(0.005)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        return [stack.enter_context(open_listener("127.0.0.1", 0)).getsockname()[1] for _ in range(count)]


def phase(server: Running) -> str:
    return (server.status["rollout"] or {"phase": "none"})["phase"]


def test_one_pods_guard_takes_the_candidate_off_everywhere_and_the_journals_read_as_one(tmp_path):
    import duckdb

    fleet = Fleet(tmp_path)
    fleet.merge(candidate=False)
    ports = free_ports(4)
    with ExitStack() as stack:
        pods = [stack.enter_context(fleet.pod(f"pod-{place}", port, ports)) for place, port in enumerate(ports[:3])]
        for pod in pods:
            pod.wait(pod.ready, seconds=120)

        # The merge restarts nobody.
        fleet.merge(candidate=True)
        for pod in pods:
            pod.wait(lambda pod=pod: phase(pod) == "progressing")

        # The same key, the same model, whoever is asked.
        keys = [f"N{number}" for number in range(60)]
        told = [[pod.predict({**RECORD, "tailnum": key}).json()["digest"] for key in keys] for pod in pods]
        assert told[0] == told[1] == told[2]
        assert set(told[0]) == {fleet.stable.digest, fleet.candidate.digest}

        # It turns bad on one server alone.
        with Load(pods) as load:
            time.sleep(1)
            assert {phase(pod) for pod in pods} == {"progressing"}
            (tmp_path / "pod-1" / "bad").touch()
            begun = time.monotonic()
            for pod in pods:
                pod.wait(lambda pod=pod: phase(pod) == "failed", seconds=60)
            everywhere = time.monotonic() - begun
        assert everywhere < 60
        assert {status for each in load.told for status in each} == {200}
        reasons = [pod.status["rollout"]["reason"] for pod in pods]
        assert reasons[1].startswith("guard errors: ")
        assert reasons[0] == reasons[2] == f"guard fleet: 127.0.0.1:{ports[1]}: {reasons[1]}"

        # A pod that starts later does not try the candidate again.
        late = stack.enter_context(fleet.pod("pod-3", ports[3], ports))
        late.wait(lambda: phase(late) == "failed", seconds=120)

        manifest = read_manifest(fleet.mounted / "manifest.yaml")
        seen = [read_status(pod.status, manifest, pod.url) for pod in (*pods, late)]
        assert decide(manifest, seen, None).ending is Ending.ABORT

    answered = sum(len(each) for each in load.told) + len(keys) * len(pods)
    for place in range(3):
        seal_all(tmp_path / f"pod-{place}" / "journal")
        sync_all(tmp_path / f"pod-{place}" / "journal", (tmp_path / "bucket").as_uri())
    now = datetime.now(UTC)
    found = find_journal(duckdb.connect(), str(tmp_path / "bucket"), now - timedelta(days=1), now, Clock.ARRIVAL)
    assert found.unreadable == ()
    assert sum(file.rows for file in found.files) == answered


def test_a_canary_that_gets_slow_under_load_goes_everywhere_and_stays_off_a_pod_that_was_killed_meanwhile(tmp_path):
    fleet = Fleet(tmp_path)
    fleet.merge(candidate=False)
    ports = free_ports(3)
    with ExitStack() as stack:
        pods = [stack.enter_context(fleet.pod(f"pod-{place}", port, ports)) for place, port in enumerate(ports)]
        for pod in pods:
            pod.wait(pod.ready, seconds=120)
        fleet.merge(candidate=True)
        for pod in pods:
            pod.wait(lambda pod=pod: phase(pod) == "progressing")
        with Load(pods[:2]) as load:
            time.sleep(1)
            (tmp_path / "pod-0" / "slow").touch()
            os.killpg(pods[2].process.pid, signal.SIGKILL)
            for pod in pods[:2]:
                pod.wait(lambda pod=pod: phase(pod) == "failed", seconds=120)
        assert {status for each in load.told for status in each} == {200}
        reasons = [pod.status["rollout"]["reason"] for pod in pods[:2]]
        assert reasons[0].startswith("guard errors: ")  # an answer that would come too late is the stable model's
        assert reasons[1] == f"guard fleet: 127.0.0.1:{ports[0]}: {reasons[0]}"
        back = stack.enter_context(fleet.pod("pod-2", ports[2], ports))
        back.wait(lambda: phase(back) == "failed", seconds=120)
        told = {back.predict({**RECORD, "tailnum": f"N{number}"}).json()["digest"] for number in range(40)}
        assert told == {fleet.stable.digest}
