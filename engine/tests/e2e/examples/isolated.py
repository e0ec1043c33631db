"""Runs a program in an environment of its own, with an example's folder as it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local_github.tools import find_uv

EXAMPLES = Path(__file__).parents[3] / "examples"
ROOT = EXAMPLES.parents[1]


def isolated(
    *command: object, packages: tuple[str, ...], cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it where these packages are, and nothing of ours."""
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is not installed")
    options = [part for package in packages for part in ("--with", package)]
    start = [uv, "run", "--quiet", "--isolated", "--no-project", "--python", "3.11", *options, *map(str, command)]
    return subprocess.run(
        start, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment}, timeout=300
    )


def ran(*command: object, packages: tuple[str, ...], cwd: Path, **environment: str) -> str:
    """What it printed; it must have ended well."""
    done = isolated(*command, packages=packages, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout
