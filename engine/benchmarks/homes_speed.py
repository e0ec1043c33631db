"""What ten models in one repository cost one of them: its plan and its proposal, against that one alone.

Both repositories are made in a scratch folder: the recipe iris, once and ten times under other names. Seconds of the
clock, and of the processor (with child processes), which are what can be compared on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mergeline.files import write_text
from mergeline.github.git import Git
from mergeline.github.local_forge import LocalForge

ROOT = Path(__file__).resolve().parents[2]
MODELS = 10


def run(root: Path, *arguments: str, **variables: str) -> tuple[float, float]:
    """Run a verb; its seconds of the clock and of the processor."""
    place = Path(sys.executable).parent
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "DVC_SITE_CACHE_DIR": str(root.parent / "dvc")}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(place / "mergeline"), *arguments], cwd=root, env=environment | variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3, 4):  # a model that the gate does not accept took its time all the same
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make(place: Path, count: int) -> Path:
    """A repository of so many models, all released; those after the first are copies of it under other names."""
    root, forge = place / "work", LocalForge.create(place / "forge")
    (root / ".dvc").mkdir(parents=True)
    (root / "src").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    shutil.copy(ROOT / "uv.lock", root / "uv.lock")
    write_text(root / ".dvc" / ".gitignore", "/cache\n")
    write_text(root / ".gitignore", "/build/\n__pycache__/\n")
    git = Git.init(root)
    git.run("remote", "add", "origin", forge.url)
    run(root, "new-model", "iris")
    first = root / "models" / "iris"
    for number in range(1, count):
        name = f"iris{number}"
        copy = root / "models" / name
        shutil.copytree(first, copy, ignore=shutil.ignore_patterns("build", "report", "model", "evaluation"))
        for file in ("params.yaml", "dvc.lock", "deploy/manifest.yaml"):
            write_text(copy / file, (copy / file).read_text().replace("name: iris\n", f"name: {name}\n"))
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "Start", settings=git.identity())
    git.run("push", "--quiet", "origin", "main")
    return root


def main() -> None:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as scratch:
        roots = {count: make(Path(scratch, str(count)), count) for count in (1, MODELS)}
        for turn in range(repeats):
            for count, root in roots.items():
                params = root / "models" / "iris" / "params.yaml"
                write_text(params, params.read_text().replace(f"seed: {turn + 7}", f"seed: {turn + 8}"))
                git = Git(root)
                git.run("add", "--all")
                git.run("commit", "--quiet", "--message", "Change", settings=git.identity())
                event = root.parent / "event.json"
                write_text(event, f'{{"pull_request": {{"head": {{"sha": "{git.find("HEAD")}"}}}}}}')
                plan = run(root, "ci", "scope", GITHUB_EVENT_PATH=str(event))
                propose = run(root, "propose", "--model", "iris")
                told = "; ".join(
                    f"{name} {clock:.1f} s, processor {cpu:.1f} s"
                    for name, (clock, cpu) in {"plan": plan, "propose": propose}.items()
                )
                print(f"{count:>2} models: {told}", flush=True)


if __name__ == "__main__":
    main()
