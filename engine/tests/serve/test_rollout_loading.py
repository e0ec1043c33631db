from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from prometheus_client import CollectorRegistry
from serve_samples import COLUMNS, Production, Pushed, make_model, push, wrap_pipeline

from mergeline.model.artifact import MODEL_FILE, folder_digest
from mergeline.scorer.signature import Column, Kind
from mergeline.serve.metrics import Metrics
from mergeline.serve.reload import Reloader
from mergeline.serve.settings import Settings
from mergeline.serve.state import CurrentState, Serving

CANARY = {"strategy": "canary", "steps": [{"weight": 5, "hold": "15m"}]}


def deploy(production: Production, stable, candidate=None, *, rollout=CANARY) -> None:
    """Write a manifest that rolls `candidate` out beside `stable`."""
    spec = {"stable": stable.release(1)}
    if candidate is not None:
        spec |= {"candidate": candidate.release(2), "rollout": rollout}
    document = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}, "spec": spec}
    production.write(yaml.safe_dump(document, sort_keys=False))


class Server:
    """A reloader with a clock that a test moves by hand."""

    def __init__(self, production: Production, **more) -> None:
        self.now, self.current, self.swaps = datetime(2026, 1, 1, tzinfo=UTC), CurrentState(), 0
        names = ("root", "manifest", "store")
        settings = Settings(
            **{name: str(getattr(production, name)) for name in names}, cache=str(production.root / "cache"), **more
        )
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self._reloader = Reloader(settings, self.current, metrics, clock=lambda: self.now, after_swap=self._count)

    def _count(self) -> None:
        self.swaps += 1

    def poll(self, seconds: float = 0) -> Serving:
        self.now += timedelta(seconds=seconds)
        self._reloader.poll()
        return self.current.state.serving


@pytest.fixture
def stable(production):
    return production.push(seed=1)


@pytest.fixture
def candidate(production):
    return production.push(seed=2)


def test_a_candidate_is_loaded_beside_stable(production, stable, candidate):
    deploy(production, stable, candidate)
    serving = Server(production).poll()
    assert serving.stable.model.digest == stable.digest
    assert (serving.candidate.model.digest, serving.candidate.version) == (candidate.digest, 2)
    assert (serving.rolling_out, serving.refused) == (candidate.digest, None)
    assert serving.rollout.steps[0].weight == 5


def test_without_one_there_is_none(production, stable):
    deploy(production, stable)
    serving = Server(production).poll()
    assert (serving.candidate, serving.rolling_out) == (None, None)


class TestRefusal:
    """Whatever is wrong with a candidate, stable is served, the reason is kept, and it heals."""

    def test_an_object_that_is_not_in_the_store_yet(self, production, stable, candidate):
        stored = production.object_of(candidate, MODEL_FILE)
        good = stored.read_bytes()
        stored.unlink()
        deploy(production, stable, candidate)
        server = Server(production)
        serving = server.poll()
        assert (serving.stable.model.digest, serving.candidate) == (stable.digest, None)
        assert "not in the store" in str(serving.refused.error)
        assert server.current.state.failure is None
        stored.write_bytes(good)
        assert server.poll(60).candidate.model.digest == candidate.digest
        assert server.current.state.serving.refused is None

    def test_a_new_stable_model_is_served_though_the_candidate_is_broken(self, production, stable, candidate):
        deploy(production, stable)
        server = Server(production)
        server.poll()
        newer = production.push(seed=3)
        production.object_of(candidate, MODEL_FILE).unlink()
        deploy(production, newer, candidate)
        serving = server.poll()
        assert (serving.stable.model.digest, serving.candidate) == (newer.digest, None)

    def test_one_that_needs_a_column_that_requests_lack(self, production, stable):
        extra = Column(name="tail", kind=Kind.CATEGORY, nullable=True, example="N725MQ")
        deploy(production, stable, production.push(seed=2, columns=(*COLUMNS, extra)))
        assert "which requests to stable don't have" in str(Server(production).poll().refused.error)

    def test_one_that_is_called_otherwise(self, production, stable):
        deploy(production, stable, production.push(seed=2, name="trains"))
        assert "called 'trains'" in str(Server(production).poll().refused.error)

    def test_one_with_another_origin(self, production, stable, candidate):
        deploy(production, stable, candidate)
        text = production.manifest.read_text()
        production.write(text.replace(candidate.lineage.data, "md5:" + "f" * 32 + ".dir"))
        refused = Server(production).poll().refused
        assert "made from data" in str(refused.error)
        assert refused.error.where == "spec.candidate.lineage.data"

    def test_a_sticky_column_that_records_do_not_carry(self, production, stable, candidate):
        deploy(production, stable, candidate, rollout={**CANARY, "sticky": "tailnumb"})
        assert "did you mean `tailnum`?" in str(Server(production).poll().refused.error)

    def test_it_is_tried_again_after_ever_longer_waits_and_swaps_nothing(self, production, stable, candidate):
        production.object_of(candidate, MODEL_FILE).unlink()
        deploy(production, stable, candidate)
        server = Server(production)
        first = server.poll()
        for _ in range(100):
            server.poll(1)
        assert server.swaps == 1
        assert server.current.state.serving.stable is first.stable
        assert server.current.state.serving.refused.since == first.refused.since


class TestKeeping:
    @pytest.fixture
    def server(self, production, stable, candidate):
        deploy(production, stable, candidate)
        made = Server(production)
        made.poll()
        shutil.rmtree(production.store)
        return made

    def test_another_section_keeps_the_loaded_candidate(self, production, stable, candidate, server):
        before = server.current.state.serving.candidate
        deploy(production, stable, candidate, rollout={**CANARY, "sticky": "tailnum"})
        after = server.poll()
        assert after.candidate.model is before.model
        assert after.rollout.sticky == "tailnum"

    def test_a_candidate_that_becomes_stable_is_not_loaded_again(self, production, candidate, server):
        before = server.current.state.serving.candidate
        deploy(production, candidate)
        after = server.poll(5)
        assert after.stable.model is before.model
        assert after.stable.since == server.now
        assert after.candidate is None

    def test_one_that_the_manifest_names_no_more_is_let_go(self, production, stable, server):
        deploy(production, stable)
        serving = server.poll()
        assert (serving.stable.model.digest, serving.candidate) == (stable.digest, None)


def test_metrics_name_the_candidate_beside_stable(production, stable, candidate):
    deploy(production, stable, candidate)
    server = Server(production)
    server.poll()
    deploy(production, stable)

    def value(role, version, digest):
        labels = {"name": "flights", "role": role, "version": version, "digest": digest}
        return server.registry.get_sample_value("mergeline_model_info", labels)

    assert (value("stable", "1", stable.digest), value("candidate", "2", candidate.digest)) == (1, 1)
    server.poll()
    assert (value("stable", "1", stable.digest), value("candidate", "2", candidate.digest)) == (1, 0)


HANGING = '''
"""A model that answers nothing while a file is there."""
import time
from pathlib import Path
from mergeline.traffic.drill import Drill


class Hanging(Drill):
    def __init__(self, model=None, flag=""):
        self.model, self.flag = model, flag

    def predict_proba(self, rows):
        while Path(self.flag).exists():
            time.sleep(0.01)
        return self.model.predict_proba(rows)
'''


class TestHanging:
    """A model that never comes back from its first prediction keeps nothing else from being served."""

    @pytest.fixture
    def flag(self, tmp_path):
        flag = tmp_path / "hang"
        flag.touch()
        yield flag
        flag.unlink(missing_ok=True)

    @pytest.fixture
    def hanging(self, production, flag, tmp_path, monkeypatch):
        (tmp_path / "hanging.py").write_text(HANGING)
        monkeypatch.syspath_prepend(str(tmp_path))
        from hanging import Hanging

        folder = tmp_path / "hangs" / "model"
        lineage = make_model(folder, seed=9)
        wrap_pipeline(folder, lambda inner: Hanging(inner, str(flag)))
        yield Pushed(folder_digest(folder), push(folder, production.store), lineage)
        sys.modules.pop("hanging", None)

    @pytest.fixture
    def server(self, production):
        return Server(production, load_seconds=1, trusted_types=("hanging.Hanging",))

    @staticmethod
    def poll_until(server: Server, what: Callable[[Serving], object]) -> Serving:
        """A good model may take longer than the second that it has; the next attempt is quicker."""
        end = time.monotonic() + 60
        while (serving := server.poll(60)) is None or not what(serving):
            assert time.monotonic() < end, server.current.state
            time.sleep(0.05)
        return serving

    def test_a_candidate_is_refused_and_stable_serves(self, production, server, stable, hanging):
        deploy(production, stable, hanging)
        serving = self.poll_until(server, lambda serving: serving.refused)
        assert (serving.stable.model.digest, serving.candidate) == (stable.digest, None)
        assert "not ready after 1 seconds, and is still" in serving.refused.error.what
        assert serving.refused.error.where == "spec.candidate"
        assert server.current.state.failure is None

    def test_it_is_ended_and_left_alone_for_a_while(self, production, server, stable, hanging, flag):
        deploy(production, stable, hanging)
        said = "did not answer its own example in 1 seconds, and its process was ended"
        self.poll_until(server, lambda serving: serving.refused and said in serving.refused.error.what)
        loading = [one for one in threading.enumerate() if one.name == "load"]
        flag.unlink()
        assert server.poll(3.9).refused is not None
        assert (loading, [one for one in threading.enumerate() if one.name == "load"]) == ([], [])
        assert self.poll_until(server, lambda serving: serving.candidate).refused is None

    def test_it_is_begun_once_and_no_later_poll_waits_for_it(self, production, server, stable, hanging):
        deploy(production, stable, hanging)
        self.poll_until(server, lambda serving: serving.refused)
        start = time.monotonic()
        for _ in range(20):
            server.poll()
        assert time.monotonic() - start < 10
        assert len([one for one in threading.enumerate() if one.name == "load"]) <= 1

    def test_another_manifest_is_followed_meanwhile(self, production, server, stable, candidate, hanging):
        deploy(production, stable, hanging)
        self.poll_until(server, lambda serving: serving.refused)
        deploy(production, candidate)
        serving = self.poll_until(server, lambda serving: serving.stable.model.digest == candidate.digest)
        assert serving.refused is None
        end = time.monotonic() + 30
        while any(one.name == "load" for one in threading.enumerate()):  # its process is ended, since nobody names it
            assert time.monotonic() < end
            time.sleep(0.05)

    def test_it_is_served_when_it_comes_back(self, production, server, stable, hanging, flag):
        deploy(production, stable, hanging)
        self.poll_until(server, lambda serving: serving.refused)
        flag.unlink()
        assert self.poll_until(server, lambda serving: serving.candidate).refused is None

    def test_a_stable_model_leaves_the_old_one_serving(self, production, server, stable, candidate, hanging):
        deploy(production, stable)
        self.poll_until(server, lambda serving: serving)
        deploy(production, hanging)
        serving = self.poll_until(server, lambda _: server.current.state.failure)
        assert serving.stable.model.digest == stable.digest
        assert server.current.state.failure.error.where == "spec.stable"
        assert "not ready after 1 seconds" in server.current.state.failure.error.what
        deploy(production, candidate)
        self.poll_until(server, lambda serving: serving.stable.model.digest == candidate.digest)
        assert server.current.state.failure is None


class TestEnding:
    """A model that would end the process in its first prediction is refused, and the manifest is followed on."""

    CODE = """
from mergeline.traffic.drill import Drill


class Ending(Drill):
    def __init__(self, model=None, error=""):
        self.model, self.error = model, error

    def predict_proba(self, rows):
        raise {"exits": SystemExit(3), "interrupts": KeyboardInterrupt()}[self.error]
"""

    @pytest.fixture(params=["exits", "interrupts"])
    def ending(self, request, production, tmp_path, monkeypatch):
        (tmp_path / "ending.py").write_text(self.CODE)
        monkeypatch.syspath_prepend(str(tmp_path))
        from ending import Ending

        folder = tmp_path / "ends" / "model"
        lineage = make_model(folder, seed=9)
        wrap_pipeline(folder, lambda inner: Ending(inner, request.param))
        yield Pushed(folder_digest(folder), push(folder, production.store), lineage)
        sys.modules.pop("ending", None)

    @pytest.mark.parametrize("role", ["stable", "candidate"])
    def test_it_is_refused_and_the_next_manifest_is_taken(self, production, stable, candidate, ending, role):
        server = Server(production, trusted_types=("ending.Ending",))
        deploy(production, stable)
        assert server.poll().stable.model.digest == stable.digest
        if role == "stable":
            deploy(production, ending)
        else:
            deploy(production, stable, ending)
        serving = server.poll(60)
        said = server.current.state.failure if role == "stable" else serving.refused
        assert "the model failed" in str(said.error)
        assert serving.stable.model.digest == stable.digest
        deploy(production, candidate)
        assert server.poll(60).stable.model.digest == candidate.digest
