"""Fresh labelled rows of a journal become the next model, with the real pipeline and a local forge."""

import json

import pytest
import yaml
from loop_project import Project, kill_when, runs_stage

from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git
from mergeline.manifest.schema import read_manifest
from toy_data import orders
from toy_journal import turned, write_journal

pytestmark = pytest.mark.slow

LENIENT = {"max_calibration_error": 1.0, "max_stress_loss": 5.0, "max_unfairness": 1.0, "max_latency_ms": 10_000}
"""The world turns at once here, and a model of both worlds is neither fair nor calibrated."""


@pytest.fixture
def watched(released):
    """A released model, a journal, and a gate that looks at the comparison alone."""
    released.set_params(gate=LENIENT, retrain={"min_labels": 500})
    (released.root / ".gitignore").write_text((released.root / ".gitignore").read_text() + "/journal\n")
    released.commit_all("How to retrain")
    return released


def forge(project):
    return ForgeWithButtons(project.root.parent / "forge")


def issue(project):
    return yaml.safe_load((forge(project).folder / "issues" / "retraining-orders.yaml").read_text())


def say_watched(project, outcome):
    folder = project.root / "build" / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    digest = read_manifest(project.root / "deploy" / "manifest.yaml").spec.stable.digest
    told = {"outcome": outcome, "headline": "amount has moved", "digest": digest}
    (folder / "watch.json").write_text(json.dumps(told))


def test_a_proven_gain_becomes_a_pull_request_whose_merge_releases_it(watched):
    write_journal(watched.root, turned(orders("2024-04", 5000)))
    say_watched(watched, "degraded")
    assert "proven" in watched.mergeline("challenge", "--end", "2024-05-01").stdout
    done = watched.mergeline("retrain", "--pull-request", "--end", "2024-05-01")
    assert "proposed." in done.stdout, done.stdout + done.stderr
    (pull,) = forge(watched).list_open()
    assert (pull.branch, pull.title) == ("retrain/orders", "orders: version 2, retrained")
    assert set(pull.labels) == {"model", "retraining"}
    assert "amount has moved" in pull.body
    assert "proven" in pull.body
    assert forge(watched).has_comment(pull.number, "report")
    check = yaml.safe_load((forge(watched).folder / "checks" / pull.head / "mergeline.yaml").read_text())
    assert check["success"] is True
    assert watched.git.changed() == ()
    assert sorted(path.stem for path in (watched.root / "data").iterdir()) == ["2024-01", "2024-02", "2024-03"]

    again = watched.mergeline("retrain", "--pull-request", "--end", "2024-05-01")
    assert "cooling down" in again.stdout
    forge(watched).merge(pull.number)
    clone = watched.root.parent / "clone"
    Git.clone(forge(watched).url, clone)
    other = Project(clone)
    assert other.run("dvc", "pull", "--quiet").returncode == 0
    other.mergeline("verify", "--before", watched.git.run("rev-parse", "HEAD"))
    assert read_manifest(clone / "deploy" / "manifest.yaml").spec.stable.version == 2
    assert len(list((clone / "data").iterdir())) == 5
    assert "unchanged" in other.mergeline("propose").stdout
    assert "cooling down" in other.mergeline("retrain", "--journal", str(watched.root / "journal")).stdout


def test_a_steady_world_proposes_nothing(watched):
    write_journal(watched.root, orders("2024-04", 3000))
    before = watched.state()
    done = watched.mergeline("retrain", "--pull-request", "--end", "2024-05-01")
    assert done.stdout.splitlines()[-1].startswith("no gain: ")
    assert forge(watched).list_open() == ()
    assert watched.state() == before


def test_missing_labels_are_told_in_one_issue_that_is_closed_by_itself(watched):
    write_journal(watched.root, orders("2024-04", 200))
    say_watched(watched, "drift")
    for _ in range(2):
        assert "too few labels" in watched.mergeline("retrain", "--tell", "--end", "2024-05-01").stdout
    assert (issue(watched)["number"], issue(watched)["is_open"]) == (1, True)
    assert "at least 500" in issue(watched)["body"]
    say_watched(watched, "steady")
    watched.mergeline("retrain", "--tell", "--end", "2024-05-01")
    assert (issue(watched)["is_open"], issue(watched)["notes"]) == (False, ["Production is steady again."])


def test_too_many_bad_rows_stop_it_and_are_laid_aside_with_reasons(watched):
    rows = turned(orders("2024-04", 3000))
    rows.loc[:400, "amount"] = -1.0
    write_journal(watched.root, rows)
    before = watched.state()
    done = watched.mergeline("retrain", "--pull-request", "--end", "2024-05-01", code=1)
    assert "401 of 3,000 fresh rows break the schema" in done.stderr
    assert "build/quarantine/quarantine.jsonl" in done.stderr
    assert len((watched.root / "build" / "quarantine" / "quarantine.jsonl").read_text().splitlines()) == 401
    assert watched.state() == before
    assert forge(watched).list_open() == ()


def test_one_that_was_killed_at_any_point_leaves_the_repository_as_it_was_and_the_next_succeeds(watched):
    write_journal(watched.root, turned(orders("2024-04", 5000)))
    before, own = watched.state(), watched.root / ".dvc" / "tmp" / "retraining"
    verb = ("retrain", "--pull-request", "--end", "2024-05-01")
    points = (
        lambda _: (watched.root / "build" / "retraining").exists(),
        lambda _: any(own.glob("*/.git")),
        lambda _: any(own.glob("*/data/2024-04*")),
        lambda session: runs_stage(session, "train"),
        lambda session: runs_stage(session, "evaluate"),
        lambda _: any(own.glob("*/build/retraining-proposal/*")),
    )
    for seen in points:
        kill_when(watched, seen, *verb)
        assert watched.state() == before
        assert watched.git.changed() == ()
        assert sorted(path.stem for path in (watched.root / "data").iterdir()) == ["2024-01", "2024-02", "2024-03"]

    assert "proposed." in watched.mergeline(*verb).stdout
    assert len(forge(watched).list_open()) == 1
    assert [path.name for path in own.iterdir()] == ["lock"]
