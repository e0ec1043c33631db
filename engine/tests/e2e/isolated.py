"""Runs a program in an environment of its own, or one of ours beside packages that the engine does not need."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local_github.tools import find_uv

ENGINE = Path(__file__).parents[2]
EXAMPLES = ENGINE / "examples"
ROOT = ENGINE.parent
ALONE = ("--isolated", "--no-project", "--python", "3.11")


def isolated(
    *command: object, packages: tuple[str, ...], cwd: Path | None = None, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it where these packages are, and nothing of ours."""
    return _run(ALONE, packages, command, cwd=cwd, stdin=stdin, environment=environment, timeout=300)


def ran(*command: object, packages: tuple[str, ...], cwd: Path, **environment: str) -> str:
    """What it printed; it must have ended well."""
    return _told(isolated(*command, packages=packages, cwd=cwd, **environment))


def beside_engine(*command: object, packages: tuple[str, ...], tests: tuple[str, ...] = (), **environment: str) -> str:
    """What a Python program printed in the engine's own environment with these packages; it must have ended well.

    Args:
        command: the script and its arguments.
        packages: what the engine does not need.
        tests: folders in tests/ that it may import from, beside that one itself.
        environment: more variables.
    """
    path = os.pathsep.join(str(ENGINE / "tests" / folder) for folder in ("", *tests))
    environment = {"PYTHONPATH": path, **environment}
    start = ("python", *command)
    return _told(_run(("--locked",), packages, start, cwd=ENGINE, stdin="", environment=environment, timeout=500))


def _run(
    options: tuple[str, ...],
    packages: tuple[str, ...],
    command: tuple[object, ...],
    *,
    cwd: Path | None,
    stdin: str,
    environment: dict[str, str],
    timeout: int,
) -> subprocess.CompletedProcess[str]:
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is not installed")
    brought = [part for package in packages for part in ("--with", package)]
    return subprocess.run(
        [uv, "run", "--quiet", *options, *brought, *map(str, command)],
        input=stdin, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment},
        timeout=timeout,
    )  # fmt: skip


def _told(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout
