"""A model's way through staging and production with the real verbs: pipeline, git, servers and a local forge."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from forge_with_buttons import ForgeWithButtons
from mergeline.documents import parse
from mergeline.github.git import Git
from mergeline.manifest.schema import Manifest
from test_one_loop import ask, server
from toy_data import orders

pytestmark = pytest.mark.slow

STAGING, PRODUCTION = "deploy/staging/manifest.yaml", "deploy/manifest.yaml"


def served(project, path):
    """The version that main's manifest makes stable."""
    text = ForgeWithButtons(project.root.parent / "forge").git.show("main", path)
    return parse(text, Manifest, path).spec.stable.version


def merge_open(project):
    """Merge the one pull request that is open, and bring main here."""
    forge = ForgeWithButtons(project.root.parent / "forge")
    [pull] = forge.list_open()
    forge.merge(pull.number)
    project.git.run("fetch", "--quiet", "origin")
    project.git.run("switch", "--quiet", "--force-create", "main", "origin/main")
    return pull


def revert(project):
    """Revert the newest commit of main on a branch, as GitHub's button does, and merge that."""
    forge = ForgeWithButtons(project.root.parent / "forge")
    project.git.run("switch", "--quiet", "--force-create", "revert", "origin/main")
    merge = ["-m", "1"] if len(project.git.run("rev-list", "--parents", "-1", "HEAD").split()) > 2 else []
    project.git.run("revert", "--no-edit", *merge, "HEAD", settings=project.git.identity())
    project.git.push("origin", "revert", expected=project.git.remote_head("origin", "revert"))
    forge.open_or_update("revert", "main", "Revert", "words")
    return merge_open(project)


def two_days_ago():
    return {"GIT_COMMITTER_DATE": (datetime.now(UTC) - timedelta(days=2)).isoformat()}


def test_a_model_goes_to_staging_by_the_gate_and_to_production_by_promotion(released, monkeypatch, tmp_path):
    project = released
    project.set_params(release={"environments": ["staging", "production"], "soak": "1d"})
    project.commit_all("Staging first")
    assert "staging: manifest" in project.mergeline("verify").stdout

    # The gate writes staging.
    project.set_params(model={"arguments": {"C": 0.9}}, gate={"margin": 0.2})
    with monkeypatch.context() as past:
        past.setenv("GIT_COMMITTER_DATE", two_days_ago()["GIT_COMMITTER_DATE"])
        project.mergeline("propose", "--pull-request")
        merge_open(project)
    assert (served(project, STAGING), served(project, PRODUCTION)) == (2, 1)

    # Staging serves it, and production does not.
    clone = Git.clone(ForgeWithButtons(project.root.parent / "forge").url, tmp_path / "staging").folder
    record = json.loads(orders("2024-05", 1).drop(columns=["returned"]).to_json(orient="records", date_format="iso"))[0]
    with server(project, clone, "--environment", "staging") as url:
        assert ask(url, record)["version"] == 2
        found = project.mergeline("promote", "--url", f"{url}/status", "--json")
        assert json.loads(found.stdout)[0]["outcome"] == "promote"
        project.git.run("checkout", "--quiet", "--", "deploy")
        project.mergeline("promote", "--to", "production", "--url", f"{url}/status", "--pull-request")
    pull = merge_open(project)
    assert "Merging this goes to production: it replaces version 1 by version 2 at once" in pull.body
    assert (served(project, STAGING), served(project, PRODUCTION)) == (2, 2)
    project.mergeline("verify", "--before", project.git.run("rev-parse", "HEAD^1"))
    assert "version 2" in project.mergeline("history").stdout
    assert "version 2" in project.mergeline("history", "--environment", "staging").stdout

    # A promotion that is reverted, and one environment that is rolled back.
    revert(project)
    assert (served(project, STAGING), served(project, PRODUCTION)) == (2, 1)
    project.mergeline("verify")
    project.mergeline("rollback", "it was slow", "--environment", "staging", "--pull-request")
    merge_open(project)
    assert (served(project, STAGING), served(project, PRODUCTION)) == (1, 1)
    project.mergeline("verify")
    assert "nothing" in project.mergeline("promote").stdout

    # The next model has a number of its own.
    project.set_params(model={"arguments": {"C": 0.8}})
    project.mergeline("propose", "--pull-request")
    merge_open(project)
    assert served(project, STAGING) == 3
    assert "wait" in project.mergeline("promote").stdout


def test_a_release_that_is_reverted_gives_no_number_away_and_can_be_gone_back_to(released):
    released.set_params(model={"arguments": {"C": 0.9}}, gate={"margin": 0.2})
    released.mergeline("propose", "--pull-request")
    merge_open(released)
    assert served(released, PRODUCTION) == 2
    before = released.git.run("rev-parse", "HEAD")
    revert(released)
    assert served(released, PRODUCTION) == 1
    released.mergeline("verify", "--before", before)
    assert released.run("dvc", "pull", "--quiet").returncode == 0
    released.mergeline("report", "--base", before)  # its champion's objects are in the history alone

    released.set_params(model={"arguments": {"C": 0.8}}, gate={"margin": 0.2})
    released.mergeline("propose", "--pull-request")
    merge_open(released)
    assert served(released, PRODUCTION) == 3
    released.mergeline("rollback", "version 3 is slow", "--to", "2", "--pull-request")
    merge_open(released)
    assert served(released, PRODUCTION) == 2
    released.mergeline("verify")
