"""Candidates of many kinds beside stable ones of many kinds, under load: the default guard tells ill from well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from serve_clients import Clients
from serve_process import serving
from serve_samples import PARAMS, RECORD, Production

pytestmark = pytest.mark.slow

SECONDS = 6
CLEAR = {**RECORD, "hour": 1}
"""What is asked again and again: every model that has learned anything answers it alike."""
SLOW = '''
import itertools
import time
from mergeline.traffic.drill import Drill

CALLS = itertools.count(1)


class Slow(Drill):
    """The wrapped model, which takes so many seconds longer for each call."""

    def __init__(self, model=None, seconds=0.0):
        self.model, self.seconds = model, seconds

    def predict_proba(self, rows):
        time.sleep(self.seconds)
        return self.model.predict_proba(rows)


class Failing(Slow):
    """The wrapped model, which fails at every fourth call."""

    def predict_proba(self, rows):
        if next(CALLS) % 4 == 0:
            raise ValueError("every fourth call fails")
        return self.model.predict_proba(rows)
'''


def logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=0)


def neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(15)


def vectors() -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    return CalibratedClassifierCV(SVC(), cv=3, ensemble=False)


def stack() -> Any:
    from sklearn.ensemble import StackingClassifier

    return StackingClassifier([("forest", forest()), ("neighbours", neighbours())], logistic(), cv=3)


def boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=30, random_state=0)


def network() -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(with_mean=False), MLPClassifier((20,), max_iter=500, tol=1e-2, random_state=0))


def slow(seconds: float) -> Callable[[], Any]:
    def make() -> Any:
        from guarded_candidate import Slow

        return Slow(logistic(), seconds)

    return make


def failing() -> Any:
    from guarded_candidate import Failing

    return Failing(logistic())


@pytest.fixture
def production(tmp_path, monkeypatch):
    (tmp_path / "guarded_candidate.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    trusted = ["guarded_candidate.Slow", "guarded_candidate.Failing"]
    monkeypatch.setitem(PARAMS["model"], "trusted_types", trusted)
    return Production(tmp_path)


@pytest.mark.parametrize(
    ("stable", "compiled", "candidate"),
    [
        (logistic, True, forest),
        (neighbours, False, vectors),
        (forest, False, stack),
        (boosting, True, network),
        (logistic, True, slow(0.15)),
    ],
    ids=["compiled logistic, forest", "neighbours, vectors", "forest, stack", "compiled boosting, network", "slow"],
)
def test_a_healthy_candidate_stays(production, stable, compiled, candidate):
    status, told = roll_out(production, stable, candidate, compiled=compiled, until=lambda _: False)
    assert {each.status for each in told} == {200}
    assert status["rollout"]["phase"] == "progressing", status["rollout"]["reason"]
    assert status["counts"]["candidate"]["requests"] > 20
    assert status["counts"]["candidate"]["failed"] == 0


@pytest.mark.parametrize(
    ("candidate", "rule"),
    [(failing, "requests failed"), (slow(1.5), "requests failed")],
    ids=["failing", "too slow"],
)
def test_a_sick_candidate_goes_within_seconds_and_no_caller_notices(production, candidate, rule):
    begun = time.monotonic()
    status, told = roll_out(
        production, neighbours, candidate, until=lambda status: status["rollout"]["phase"] == "failed"
    )
    assert status["rollout"]["phase"] == "failed"
    assert rule in status["rollout"]["reason"]
    assert {each.status for each in told} == {200}
    print(f"{rule}: {time.monotonic() - begun:.1f} s; {status['rollout']['reason']}")  # noqa: T201 - shown by pytest -s


def roll_out(
    production: Production,
    stable: Callable[[], Any],
    candidate: Callable[[], Any],
    *,
    until: Callable[[dict], bool],
    compiled: bool = False,
) -> tuple[dict, list]:
    """The last status, and what callers were told, of a canary of 30 % that is asked for some seconds."""
    first = production.push(seed=1, compiled=compiled, estimator=stable())
    second = production.push(seed=1, estimator=candidate())
    rollout = {"strategy": "canary", "steps": [{"weight": 30, "hold": "1h"}]}
    spec = {"stable": first.release(1), "candidate": second.release(2), "rollout": rollout}
    document = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}, "spec": spec}
    production.write(yaml.safe_dump(document))
    with serving(production) as server:
        server.wait(lambda: (server.status["rollout"] or {}).get("phase") == "progressing")
        with Clients(server.url, count=2, record=CLEAR) as clients:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or (len(clients.told) < 100 and time.monotonic() < end + 30):
                time.sleep(0.1)
                if until(server.status):
                    break
            if not until(server.status):
                assert server.predict([CLEAR] * 50).status_code == 200
        return server.status, clients.told
