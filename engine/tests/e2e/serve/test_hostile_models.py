"""Candidates that do their worst while they are warmed: each is ended and told, and no caller of stable notices."""

from __future__ import annotations

import resource
import signal
import sys
import time

import psutil
import pytest
import yaml
from serve_clients import Clients
from serve_process import Running, serving
from serve_samples import PARAMS, Production, Pushed, make_model, push, wrap_pipeline

from mergeline.model.artifact import folder_digest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="contained on Linux alone")]

LOAD_SECONDS = 8
MEMORY_BYTES = 1_500_000_000
"""What each process may take here: the machine's memory is others' as well."""
ESCAPED = "86399.5"
HANGS = "did not answer its own example in 8 seconds, and its process was ended"
SHAPES = {
    "sleep": HANGS,
    "spin": HANGS,
    "lock": HANGS,
    "escape": HANGS,
    "hop": HANGS,
    "leave": "exit code 7",
    "eat": "the model failed: MemoryError",
    "endless": "the model failed: ",
}
HOSTILE = f'''
import itertools
import os
import re
import signal
import threading
import time
from mergeline.traffic.drill import Drill


def leave_all():
    """Whether this is now a process that has left the group, the session and the parent, and heeds no signal."""
    if os.fork():
        os.wait()
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    return True


class Hostile(Drill):
    def __init__(self, model=None, shape=""):
        self.model, self.shape = model, shape

    def predict_proba(self, rows):
        return getattr(self, self.shape)()

    def sleep(self):
        time.sleep(600)

    def spin(self):
        re.match("(a+)+$", "a" * 60 + "b")  # with the interpreter's lock, for longer than there are computers

    def lock(self):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def escape(self):
        for _ in range(3):
            if leave_all():
                os.execvp("sleep", ["sleep", "{ESCAPED}"])
        time.sleep(600)

    def hop(self):
        if leave_all():
            end = time.monotonic() + 120
            while time.monotonic() < end:
                if os.fork():
                    os._exit(0)
            os._exit(0)
        time.sleep(600)

    def leave(self):
        if leave_all():
            os.execvp("sleep", ["sleep", "{ESCAPED}"])
        os._exit(7)

    def eat(self):
        eaten = []
        while True:
            eaten.append(b"1" * 10_000_000)

    def endless(self):
        return (0.5 for _ in itertools.count())
'''


def hostile(production: Production, shape: str) -> Pushed:
    from hostile_candidate import Hostile

    folder = production.root / shape / "model"
    lineage = make_model(folder, seed=1)
    wrap_pipeline(folder, lambda inner: Hostile(inner, shape))
    return Pushed(folder_digest(folder), push(folder, production.store), lineage)


def roll_out(production: Production, stable: Pushed, candidate: Pushed) -> None:
    rollout = {"strategy": "canary", "steps": [{"weight": 5, "hold": "1h"}]}
    spec = {"stable": stable.release(1), "candidate": candidate.release(2), "rollout": rollout}
    document = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}, "spec": spec}
    production.write(yaml.safe_dump(document))


def escaped() -> list[int]:
    return [one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", ESCAPED]]


def test_each_is_ended_and_told_and_stable_answers_on(tmp_path, monkeypatch):
    (tmp_path / "hostile_candidate.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    production = Production(tmp_path)
    stable = production.push(compiled=True)
    candidates = {shape: hostile(production, shape) for shape in SHAPES}
    production.release(stable)
    monkeypatch.setitem(PARAMS["model"], "trusted_types", ["hostile_candidate.Hostile"])
    with serving(production, load_seconds=LOAD_SECONDS) as server:
        server.wait(server.ready)
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        roll_out(production, stable, production.push(seed=2))  # imports scikit-learn
        server.wait(lambda: phase(server) == "progressing")
        before = processes(server.process.pid)
        with Clients(server.url, count=2) as clients:
            for shape, candidate in candidates.items():
                asked, begun = len(clients.told), time.monotonic()
                roll_out(production, stable, candidate)
                server.wait(lambda told=(candidate.digest, SHAPES[shape]): is_refused(server, *told))
                seconds, slowest = time.monotonic() - begun, max(told.seconds for told in clients.told[asked:])
                print(f"{shape}: {seconds:.1f} s; of {len(clients.told) - asked} the slowest: {slowest:.3f} s")  # noqa: T201
            production.release(stable)
            server.wait(lambda: server.status["rollout"] is None)
            clients.wait_for(100)
        server.wait(lambda: escaped() == [] and processes(server.process.pid) <= before, seconds=10)
        assert clients.cut == []
        assert {told.status for told in clients.told} == {200}
        assert {told.body["digest"] for told in clients.told} >= {stable.digest}

        roll_out(production, stable, candidates["escape"])
        server.wait(escaped)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        end = time.monotonic() + 10
        while escaped():
            assert time.monotonic() < end
            time.sleep(0.05)


def phase(server: Running) -> str | None:
    return (server.status["rollout"] or {}).get("phase")


def is_refused(server: Running, digest: str, why: str) -> bool:
    rollout = server.status["rollout"] or {}
    return (rollout.get("candidate"), rollout.get("phase")) == (digest, "refused") and why in rollout["reason"]


def processes(parent: int) -> int:
    return len(psutil.Process(parent).children(recursive=True))
