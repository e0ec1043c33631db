"""The verbs: the loop's come first, and holds and rollouts are groups of verbs."""

from __future__ import annotations

import pytest
from release_examples import release, sha256
from typer.testing import CliRunner

from mergeline.cli.app import FIRST
from mergeline.cli.verbs import app
from mergeline.manifest.edit import empty_manifest, promote


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a verb in a folder whose manifest serves version 1."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "manifest.yaml").write_text(promote(empty_manifest("flights"), release(1)))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_verbs_of_the_loop_come_first(run):
    lines = [line.split()[0] for line in run("--help").output.splitlines() if line.startswith("  ") and line.strip()]

    assert [verb for verb in lines if verb in FIRST] == list(FIRST)
    assert lines.index("doctor") < lines.index("validate")


def test_a_hold_is_added_listed_and_removed(run):
    digest = sha256("bad")

    run("hold", "add", digest, "charges twice")
    listed = run("hold", "list").output
    run("hold", "remove", digest)

    assert listed == f"{digest}  charges twice\n"
    assert run("hold", "list").output == "no model is held\n"


def test_the_model_that_serves_cannot_be_held(run):
    done = run("hold", "add", release(1).digest, "it is bad")

    assert "mergeline rollback" in str(done.exception.hint)


def test_a_hold_needs_a_reason_and_a_digest(run):
    assert "reason" in str(run("hold", "add", sha256("bad"), " ").exception)
    assert "no digest" in str(run("hold", "add", "7", "bad").exception)


def test_no_rollout_can_be_ended_where_nothing_rolls_out(run):
    assert "nothing rolls out" in str(run("rollout", "promote").exception)


def test_what_is_taken_back_needs_a_reason_and_the_hint_is_the_command(run):
    assert 'mergeline rollback "REASON"' in str(run("rollback").exception.hint)
