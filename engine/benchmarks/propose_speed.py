"""How long a proposal takes, and where the time goes, beside a plain `dvc repro` project of the same steps.

Both run in scratch folders on the same data, in turn. The peer validates with pandera, splits, fits the same pipeline
once and computes four metrics, as most people write it; it has no intervals, slices, stress tests, gate or report.

With `--against COMMIT` the peer is this repository at another commit, run with the same libraries: `propose` with
nothing changed and with other params, gate, report, MLflow and store included. Processor seconds are given too:
on a busy machine they are what can be compared.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 2
PEER = {
    "validate.py": """
import pandas as pd, pathlib
from flights.schema import Flights
for path in sorted(pathlib.Path("data").glob("*.parquet")):
    Flights.to_schema().update_columns({c: {"coerce": True} for c in Flights.to_schema().columns}).validate(
        pd.read_parquet(path), lazy=True)
pathlib.Path("valid.txt").write_text("ok")
""",
    "split.py": """
import pandas as pd, pathlib
paths = sorted(pathlib.Path("data").glob("*.parquet"))
pd.concat(map(pd.read_parquet, paths[:-1])).to_parquet("train.parquet")
pd.read_parquet(paths[-1]).to_parquet("test.parquet")
""",
    "train.py": """
import joblib, pandas as pd
from flights.model import pipeline
rows = pd.read_parquet("train.parquet")
joblib.dump(pipeline(7, learning_rate=0.1, max_iter=30).fit(rows, rows["late"]), "model.joblib")
""",
    "evaluate.py": """
import json, joblib, pandas as pd, pathlib
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
rows = pd.read_parquet("test.parquet")
scores = joblib.load("model.joblib").predict_proba(rows)[:, 1]
pathlib.Path("metrics.json").write_text(json.dumps({f.__name__: float(f(rows["late"], scores)) for f in (
    roc_auc_score, average_precision_score, log_loss, brier_score_loss)}))
""",
}
PEER_PIPELINE = """
stages:
  validate: {cmd: python validate.py, deps: [data, validate.py], outs: [valid.txt]}
  split: {cmd: python split.py, deps: [data, valid.txt, split.py], outs: [train.parquet, test.parquet]}
  train: {cmd: python train.py, deps: [train.parquet, train.py], outs: [model.joblib]}
  evaluate: {cmd: python evaluate.py, deps: [model.joblib, test.parquet, evaluate.py], metrics: [metrics.json]}
"""


def sources(folder: Path) -> list[Path]:
    """Where the engine and the team's package are: this checkout's engine, or that of a first-edition clone."""
    engine = folder / "engine" / "src" if (folder / "engine").exists() else ROOT / "engine" / "src"
    return [folder / "src" if (folder / "src").exists() else ROOT / "src", engine]


def run(folder: Path, *command: str, expect: tuple[int, ...] = (0,)) -> float:
    """Seconds that one command takes."""
    place = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(place) for place in sources(folder)),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_TRACKING_URI": "",
    }
    start = time.perf_counter()
    done = subprocess.run(
        [str(place / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, check=False
    )
    if done.returncode not in expect:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr.decode()}")
    return time.perf_counter() - start


def make_ours(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    run(folder, "dvc", "pull", "--quiet", "data.dvc")
    return folder


def make_peer(folder: Path, data: Path) -> Path:
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    run(folder, "dvc", "init", "--quiet")
    subprocess.run(["cp", "-rL", str(data), str(folder / "data")], check=True)
    for name, text in PEER.items():
        (folder / name).write_text(text)
    (folder / "dvc.yaml").write_text(PEER_PIPELINE)
    run(folder, "dvc", "add", "--quiet", "data")
    return folder


def best(seconds: list[float]) -> float:
    """The least of the repeats: what the work takes when nothing else runs."""
    return min(seconds)


def make_at(folder: Path, commit: str) -> Path:
    """A clone at `commit` whose model is proposed and committed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit], check=True)
    run(folder, "dvc", "pull", "--quiet", "data.dvc")
    run(folder, "mergeline", "propose", "--base", "HEAD")
    subprocess.run(["git", "-C", str(folder), "add", "--all"], check=True)
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com"]
    subprocess.run(["git", "-C", str(folder), *author, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    return folder


def against(commit: str, rounds: int) -> None:
    """Print what two commits of this repository take for the same proposals, in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        sides = {"here": make_at(Path(scratch, "here"), "HEAD"), commit: make_at(Path(scratch, "there"), commit)}
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for number in range(rounds):
            for side, folder in sides.items():
                params = folder / "params.yaml"
                for what, command in (
                    ("dvc status", ("dvc", "status")),
                    ("nothing changed", ("mergeline", "propose", "--base", "HEAD")),
                    ("params changed", ("mergeline", "propose", "--base", "HEAD")),
                ):
                    if what == "params changed":
                        params.write_text(params.read_text().replace("max_iter: 30", f"max_iter: {31 + number}"))
                    before = _processor_seconds()
                    wall = run(folder, *command)
                    taken.setdefault((what, side), []).append((wall, _processor_seconds() - before))
                subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", "--", "."], check=True)
                run(folder, "dvc", "checkout", "--quiet")
        for (what, side), pairs in taken.items():
            wall, processor = (best([pair[index] for pair in pairs]) for index in (0, 1))
            print(f"{what:<16} {side:<12} {wall:6.1f} s   processor {processor:6.1f} s")


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=REPEATS)
    asked = parser.parse_args()
    if asked.against:
        against(asked.against, asked.rounds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        ours = make_ours(Path(scratch) / "ours")
        peer = make_peer(Path(scratch) / "peer", ours / "data")
        for folder in (ours, peer):
            run(folder, "dvc", "repro")
        times: dict[str, list[float]] = {}
        for repeat in range(REPEATS):
            for stage in ("validate", "train", "evaluate"):
                times.setdefault(f"ours: {stage}", []).append(run(ours, "mergeline", stage))
                times.setdefault(f"peer: {stage}", []).append(run(peer, "python", f"{stage}.py"))
            times.setdefault("ours: dvc repro --force", []).append(run(ours, "dvc", "repro", "--force"))
            times.setdefault("peer: dvc repro --force", []).append(run(peer, "dvc", "repro", "--force"))
            times.setdefault("peer: dvc repro, no change", []).append(run(peer, "dvc", "repro"))
            times.setdefault("ours: propose, no change", []).append(run(ours, "mergeline", "propose"))
            params = ours / "params.yaml"
            params.write_text(params.read_text().replace("max_iter: 30", f"max_iter: {101 + repeat}"))
            times.setdefault("ours: propose, params changed", []).append(run(ours, "mergeline", "propose"))
            times.setdefault("ours: gate", []).append(run(ours, "mergeline", "gate"))
            subprocess.run(["git", "-C", str(ours), "checkout", "--quiet", "--", "."], check=True)
            run(ours, "dvc", "repro", "--force")
        for name, taken in times.items():
            print(f"{name:<34} {best(taken):6.1f} s")
        full = best(times["ours: dvc repro --force"]) / best(times["peer: dvc repro --force"])
        none = best(times["ours: propose, no change"]) / best(times["peer: dvc repro, no change"])
        print(f"full reproduction, ours / peer     {full:6.2f}")
        print(f"nothing changed, ours / peer       {none:6.2f}")


if __name__ == "__main__":
    main()
