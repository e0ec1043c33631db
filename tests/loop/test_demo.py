"""`make demo` in a clone of this repository, as a stranger runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mergeline.release.manifest import read_manifest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A clone in which the demo has run."""
    root = tmp_path_factory.mktemp("demo") / "mergeline"
    subprocess.run(["git", "clone", "--quiet", f"file://{ROOT}", str(root)], check=True)
    done = subprocess.run(
        [sys.executable, "scripts/demo.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done.stdout


def test_it_shows_that_the_served_bytes_are_the_reviewed_ones(demo):
    root, shown = demo
    digest = read_manifest(root / "demo" / "flights" / "deploy" / "manifest.yaml").spec.stable.digest
    assert f"reviewed = merged = stored = served: {digest}" in shown


def test_it_rejects_the_worse_model_and_releases_the_better_one(demo):
    root, shown = demo
    spec = read_manifest(root / "demo" / "flights" / "deploy" / "manifest.yaml").spec
    assert "✓ rejected, and nothing but the report was written" in shown
    assert spec.stable.version == 2
    assert spec.previous == read_manifest(root / "deploy" / "manifest.yaml").spec.stable


def test_it_leaves_the_clone_clean_and_nothing_running(demo):
    root, _ = demo
    status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    assert [path for path in Path("/proc").glob("[0-9]*/cwd") if points_into(path, root)] == []


def points_into(link, folder):
    try:
        return link.resolve().is_relative_to(folder)
    except OSError:
        return False
