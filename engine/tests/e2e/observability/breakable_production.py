"""A server with traffic whose models fail when they are told to, and what watching finds of another one's journal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import production_journal
import yaml
from serve_clients import Asking
from serve_process import QUICK, START, Running, running
from serve_samples import RECORD, Production, Pushed, make_model, push

from mergeline.files import write_json
from mergeline.model import artifact
from mergeline.model.artifact import MODEL_FILE, PROFILE_FILE, SIGNATURE_FILE, folder_digest
from mergeline.model.profile import Profile, make_profile
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.signature import Signature
from mergeline.watch.report import write_watched
from mergeline.watch.results import Outcome

BREAKABLE = '''
"""A model that does what a file says."""
import time
from pathlib import Path
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Breakable(ClassifierMixin, BaseEstimator):
    classes_ = np.array([False, True])

    def __init__(self, orders=""):
        self.orders = orders

    def fit(self, rows, target):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, rows):
        orders = Path(self.orders)
        order = orders.read_text() if orders.exists() else ""
        if order == "raise":
            raise ValueError("as it was told")
        if order == "sleep" and (rows["hour"] == 7).any():
            time.sleep(0.8)
        late = rows["hour"].to_numpy(dtype=float) / 24
        return np.column_stack([1 - late, late])
'''
STEPS = [{"weight": 50, "hold": "1h"}]


def analysis(**bounds: object) -> dict:
    """An analysis that is measured every second."""
    given = {"metric": "error_rate", "interval": "1s", "success": "<= 1", "failure": "> 1", "minSamples": 5}
    return {"name": "errors", **given, **bounds}


def profile_of(folder: Path) -> Profile:
    """What watching compares with: rows as the clients send them, and a holdout that the model gets half right."""
    signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
    rows = pd.DataFrame([{**RECORD, "hour": place % 24, "temp": place % 40} for place in range(480)])
    scores = rows["hour"].to_numpy() / 24
    return make_profile(
        to_features(rows, signature.columns), scores, scores > 0.5, rows["temp"].to_numpy() < 20, signature
    )


class Breakables:
    """Two models, their store, and manifests that name them. Needs `breakable` to be importable."""

    def __init__(self, root: Path) -> None:
        self.production = Production(root)
        self.stable, self.candidate = self._push("stable", seed=1), self._push("candidate", seed=2)

    def _push(self, role: str, seed: int) -> Pushed:
        from breakable import Breakable

        folder = self.production.root / f"{role}-model" / "model"
        lineage = make_model(folder, seed=seed)
        (folder / MODEL_FILE).write_bytes(artifact.dump_pipeline(Breakable(str(self.orders(role)))))
        write_json(folder / PROFILE_FILE, profile_of(folder).model_dump(mode="json"))
        return Pushed(folder_digest(folder), push(folder, self.production.store), lineage)

    def orders(self, role: str) -> Path:
        """The file that the model reads."""
        return self.production.root / f"{role}-orders"

    @contextmanager
    def told(self, role: str, order: str) -> Iterator[None]:
        """A time in which a model fails as it is told."""
        self.orders(role).write_text(order)
        try:
            yield
        finally:
            self.orders(role).unlink()

    def deploy(self, *, candidate: dict | None = None, version: int = 1, **rollout: object) -> None:
        """Write a manifest; with a section `rollout`, or with a candidate of its own, something rolls out."""
        stable = self.stable.release(version)
        spec: dict = {"stable": stable if version == 1 else self.candidate.release(version)}
        if rollout or candidate:
            spec["candidate"] = candidate or self.candidate.release(2)
            spec["rollout"] = {"strategy": "canary", "steps": STEPS, **rollout}
        document = {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "flights"}}
        self.production.write(yaml.safe_dump({**document, "spec": spec}, sort_keys=False))


@contextmanager
def serving(root: Path, port: int, copies: Path, **guard: float) -> Iterator[Running]:
    """The real server of a repository; it seals its journal each second, and copies it to a folder."""
    journal = {"seal_seconds": 1, "sync": f"file://{copies}"}
    params = {**QUICK, "serve": {**QUICK["serve"], "journal": journal, "drain_seconds": 0, "guard": guard}}
    params["model"] = {**params["model"], "trusted_types": ["breakable.Breakable"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(root / "tmp"), "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", START, str(root), str(port)]
    with running(command, f"http://127.0.0.1:{port}", root / "log", environment) as server:
        yield server


class Traffic(Asking):
    """Clients that ask without a pause, whatever becomes of the server."""

    def __init__(self, url: str, clients: int = 2) -> None:
        super().__init__(clients)
        self._url, self.wrong = url, threading.Event()

    @contextmanager
    def mistaken(self) -> Iterator[None]:
        """A time in which the clients send what does not fit."""
        self.wrong.set()
        try:
            yield
        finally:
            self.wrong.clear()

    def _ask(self, number: int) -> None:
        sent = 0
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self.ended.is_set():
                sent += 1
                hour = "seven" if self.wrong.is_set() else sent % 24
                record = {**RECORD, "hour": hour, "temp": sent % 40, "flight_id": f"{number}-{sent}"}
                with suppress(httpx.TransportError):
                    client.post("/predict", json=record)
                time.sleep(0.03)


class Watching:
    """What `mergeline watch` writes for Prometheus, from journals that hold what it is to find."""

    def __init__(self, root: Path, textfiles: Path) -> None:
        self._production = production_journal.Production(root)
        self._textfiles = textfiles

    def finds(self, outcome: Outcome, ago: timedelta = timedelta(), *, week_before: bool = False) -> None:
        """Make such a journal, look at it as if it were so long ago, and write the files."""
        made, rows = self._production, 20 if outcome is Outcome.INCONCLUSIVE else 4000
        start, end = production_journal.START, production_journal.END
        shutil.rmtree(made.journal, ignore_errors=True)
        shift = 1.0 if outcome is Outcome.DRIFT else 0.0
        if week_before:
            made.answer(start - (end - start), start, rows)
        answered = made.answer(start, end, rows, frame=production_journal.draw(made.rng, rows, shift))
        made.label(answered, made.rng.random(rows) < 0.5 if outcome is Outcome.DEGRADED else None)
        found = made.look(now=datetime.now(UTC) - ago)
        assert found.outcome is outcome, found.headline
        write_watched(found, self._textfiles)


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount 32 MB of memory at `place`; False, and nothing is mounted, without the right to."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that the disk of `folder` has left."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(1 << 16))
    with suppress(OSError), ballast.open("ab", buffering=0) as stream:
        while True:
            stream.write(b"0" * 512)
    return ballast
