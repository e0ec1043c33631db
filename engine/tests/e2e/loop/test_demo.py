"""`make demo` in a clone of this repository, as a stranger runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mergeline.manifest.schema import read_manifest

pytestmark = pytest.mark.slow(minutes=3)
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A clone in which the demo has run."""
    root = tmp_path_factory.mktemp("demo") / "mergeline"
    subprocess.run(["git", "clone", "--quiet", f"file://{ROOT}", str(root)], check=True)
    done = subprocess.run(
        [sys.executable, "engine/dev/demo.py"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{root}/src:{root}/engine/src", "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done.stdout


def spec_of(root):
    """What the demo's production serves at its end."""
    return read_manifest(root / "demo" / "flights" / "deploy" / "manifest.yaml").spec


def test_it_shows_that_the_served_bytes_are_the_reviewed_ones(demo):
    root, shown = demo
    assert f"reviewed = merged = stored = served: {spec_of(root).previous.digest}" in shown


def test_it_rejects_the_worse_model_and_releases_the_better_one(demo):
    root, shown = demo
    assert "✓ rejected, and nothing but the report was written" in shown
    assert spec_of(root).previous.version == 3
    assert "✓ main now says version 3" in shown


def test_production_changes_and_a_retrained_model_takes_over_as_a_canary(demo):
    root, shown = demo
    assert "✓ production has changed; that alone retrains nothing" in shown
    assert "flights: version 4, retrained" in shown
    assert "✓ #3 merged: version 4 is stable" in shown
    assert (spec_of(root).stable.version, spec_of(root).candidate) == (4, None)


def test_a_faulty_model_is_taken_off_and_held(demo):
    root, shown = demo
    (hold,) = spec_of(root).holds
    assert hold.reason.startswith("guard")
    assert "and the faulty model is under a hold" in shown
    page = (root / "demo" / "flights" / "build" / "site" / "index.html").read_text()
    assert "the rollout of version 5 is aborted" in page


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
