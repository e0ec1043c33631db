"""Keeps a warm environment for jobs: what is installed here, with the bytecode of what the verbs import."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from local_github.tools import ROOT, find_uv

# What the verbs and DVC import. Anything left out is compiled by the job that needs it: slower, not wrong.
_IMPORTED = (
    "dvc.cli, dvc.commands.repro, dvc.repo.reproduce, dvc.stage.run",
    "pandas, pyarrow.parquet, sklearn.ensemble, sklearn.inspection, sklearn.pipeline, skops.io, scipy.stats",
    "pandera.pandas, onnxruntime, github, ruamel.yaml, typer, duckdb",
)


OFFLINE = "offline"
"""Beside the environment where uv could install all of it from its own cache: then jobs need no network."""


def warm_environment(cache: Path = ROOT / ".tools" / "github-env") -> Path | None:
    """A copy of this environment for jobs to take over with hard links; None where links cannot be had.

    Jobs run `uv sync --locked` on it all the same, so what they work with is what uv.lock says. It is made once for
    each state of uv.lock, and kept.
    """
    state = hashlib.sha256((ROOT / "uv.lock").read_bytes() + sys.version.encode() + sys.prefix.encode())
    place, source = cache / state.hexdigest()[:16] / "venv", Path(sys.prefix)
    if sys.prefix == sys.base_prefix:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "warm.lock"):
        if place.exists():
            return place
        for old in cache.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            made = Path(scratch) / "venv"
            if not link_copy(source, made):
                return None
            if _sync(made, "--all-groups") and _sync(made, "--no-dev"):
                (Path(scratch) / OFFLINE).touch()
            move_scripts(source, made, place)
            move_scripts(made, made, place)
            _compile(made)
            Path(scratch).rename(place.parent)
            Path(scratch).mkdir()  # for the context manager to remove
    return place


def link_copy(source: Path, place: Path) -> bool:
    """Copy by hard links; whether they can be had: where not, uv installs from its own cache."""
    if subprocess.run(["cp", "-al", str(source), str(place)], capture_output=True, check=False).returncode:
        shutil.rmtree(place, ignore_errors=True)
        return False
    return True


def _sync(environment: Path, groups: str) -> bool:
    """Whether uv can make it what uv.lock says out of its own cache."""
    uv = find_uv()
    if uv is None:
        return False
    settings = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment)}
    command = [uv, "sync", "--locked", "--offline", "--quiet", groups]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, check=False).returncode == 0


def move_scripts(source: Path, copied: Path, final: Path) -> None:
    """Scripts name the Python beside them: write those of the copy anew, for where it will be."""
    for script in (copied / "bin").iterdir():
        if script.is_symlink() or not script.is_file() or script.stat().st_size > 100_000:
            continue
        text, mode = script.read_bytes(), script.stat().st_mode
        if str(source).encode() in text:
            script.unlink()  # the file is shared with the source: a new one must take its place
            script.write_bytes(text.replace(str(source).encode(), str(final).encode()))
            script.chmod(mode)


def _compile(environment: Path) -> None:
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    running = [
        subprocess.Popen(
            [str(environment / "bin" / "python"), "-c", f"import {names}"],
            env=settings,
            cwd=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for names in _IMPORTED
    ]
    for process in running:
        process.wait()
