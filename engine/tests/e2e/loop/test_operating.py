"""Signing, recording and comparing, in a scratch repository with the real tools."""

import json
import subprocess
import time
import urllib.request

import pytest
import yaml
from test_environments_loop import merge_open

from forge_with_buttons import ForgeWithButtons
from mergeline.dataset.partitions import data_digest
from mergeline.github.git import Git
from mergeline.manifest.schema import read_manifest
from test_one_loop import ask, server
from toy_data import orders

pytestmark = pytest.mark.slow


def test_where_signatures_are_required_nothing_unsigned_passes(released):
    released.mergeline("keys", "keys")
    (released.root / "deploy" / "signing.pub").write_bytes((released.root / "keys" / "signing.pub").read_bytes())
    released.set_params(release={"signing": {"policy": "required"}}, model={"arguments": {"C": 0.9}})
    before = released.state()
    done = released.mergeline("propose", code=1)
    assert "there is no private key to sign with" in done.stderr
    assert released.state()["deploy/manifest.yaml"] == before["deploy/manifest.yaml"]
    assert released.state()["dvc.lock"] == before["dvc.lock"]
    released.mergeline("propose", settings={"MERGELINE_SIGNING_KEY": str(released.root / "keys" / "signing.key")})
    stable = read_manifest(released.root / "deploy" / "manifest.yaml").spec.stable
    assert (released.root / stable.signature).is_file()
    released.mergeline("verify")  # the first model, released before the policy, is signed too
    (released.root / stable.signature).write_text("{}")
    failed = {entry["name"] for entry in json.loads(released.mergeline("verify", "--json", code=1).stdout)
              if entry["status"] == "fail"}  # fmt: skip
    assert "stable: signature" in failed


def test_switching_signing_on_signs_what_is_released_and_production_goes_on(released, tmp_path):
    released.mergeline("keys", "../keys")
    key = {"MERGELINE_SIGNING_KEY": str(tmp_path / "keys" / "signing.key")}
    (released.root / "deploy" / "signing.pub").write_bytes((tmp_path / "keys" / "signing.pub").read_bytes())
    released.set_params(release={"signing": {"policy": "required"}})
    assert "signature" in released.mergeline("verify", code=1).stdout
    assert "no private key" in released.mergeline("propose", code=1).stderr
    done = released.mergeline("propose", settings=key)
    assert "signed: version 1" in done.stderr
    assert "mergeline propose --pull-request" in done.stdout
    released.mergeline("verify")
    done = released.mergeline("propose", "--pull-request")  # all is signed: no key is needed
    assert "pull request #" in done.stderr
    merge_open(released)
    clone = Git.clone(ForgeWithButtons(tmp_path / "forge").url, tmp_path / "production")
    record = json.loads(orders("2024-05", 1).drop(columns=["returned"]).to_json(orient="records", date_format="iso"))[0]
    with server(released, clone.folder) as url:
        assert ask(url, record)["version"] == 1
    released.git.run("switch", "--quiet", "main")
    released.git.run("pull", "--quiet", "origin", "main")
    released.mergeline("verify")
    assert "nothing to propose" in released.mergeline("propose").stdout


def test_the_whole_loop_runs_where_signatures_are_required(project, tmp_path):
    project.mergeline("keys", "keys")
    (project.root / "deploy" / "signing.pub").write_bytes((project.root / "keys" / "signing.pub").read_bytes())
    project.set_params(release={"signing": {"policy": "required"}}, gate={"margin": 0.2})
    key = {"MERGELINE_SIGNING_KEY": str(project.root / "keys" / "signing.key")}
    (project.root / ".gitignore").write_text((project.root / ".gitignore").read_text() + "/keys\n")
    project.commit_all("Signatures are required")
    project.mergeline("propose", "--pull-request", settings=key)
    merge_open(project)
    clone = Git.clone(ForgeWithButtons(tmp_path / "forge").url, tmp_path / "production")
    record = json.loads(orders("2024-05", 1).drop(columns=["returned"]).to_json(orient="records", date_format="iso"))[0]

    def serves(url, version):
        clone.run("pull", "--quiet", "origin", "main")
        end = time.monotonic() + 60
        while (found := ask(url, record)["version"]) != version:
            assert time.monotonic() < end, found
            time.sleep(0.2)
        project.mergeline("verify")

    with server(project, clone.folder) as url:
        serves(url, 1)
        project.set_params(model={"arguments": {"C": 0.9}})
        project.mergeline("propose", "--pull-request", settings=key)
        merge_open(project)
        serves(url, 2)
        project.mergeline("rollback", "version 2 is slow", "--pull-request")
        merge_open(project)
        serves(url, 1)
        project.set_params(model={"arguments": {"C": 0.8}})
        project.mergeline("propose", "--pull-request", settings=key)
        merge_open(project)
        clone.run("fetch", "--quiet", "origin")
        clone.run("checkout", "--quiet", "origin/main", "--", "store")
        manifest = clone.folder / "deploy" / "manifest.yaml"
        manifest.write_text(clone.show("origin/main", "deploy/manifest.yaml"))  # without the signature of version 3
        end = time.monotonic() + 60
        while (error := status(url)["error"]) is None:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert "signature" in error["what"]
        assert ask(url, record)["version"] == 1
        clone.run("reset", "--quiet", "--hard")
        serves(url, 3)


def status(url):
    with urllib.request.urlopen(f"{url}/status", timeout=10) as response:  # noqa: S310 - our own server
        return json.load(response)


def test_a_run_is_recorded_once_and_registered_after_the_merge(project):
    project.set_params(tracking={"uri": "sqlite:///mlflow.db"})
    told = project.mergeline("propose").stderr
    project.commit_all("First model")
    told += project.mergeline("register").stderr
    assert "MLflow" not in told, told
    project.git.run("checkout", "--quiet", "HEAD~1", "--", "deploy")
    project.mergeline("propose", "--base", "HEAD~1")
    query = "select count(*) from {}"
    count = "import sqlite3, sys; print(sqlite3.connect('mlflow.db').execute(sys.argv[1]).fetchone()[0])"
    runs = project.run("python", "-c", count, query.format("runs")).stdout.strip()
    aliases = project.run("python", "-c", count, query.format("registered_model_aliases")).stdout.strip()
    assert (runs, aliases) == ("1", "1")


def test_the_data_digest_in_the_lineage_is_the_one_that_dvc_records(released):
    recorded = yaml.safe_load((released.root / "data.dvc").read_text())["outs"][0]["md5"]
    (released.root / "data" / "ä b").mkdir()
    (released.root / "data" / "ä b" / "x.parquet").write_bytes(b"1")
    lineage = read_manifest(released.root / "deploy" / "manifest.yaml").spec.stable.lineage
    assert lineage.data == f"md5:{recorded}"
    assert released.run("dvc", "add", "--quiet", "data").returncode == 0
    again = yaml.safe_load((released.root / "data.dvc").read_text())["outs"][0]["md5"]
    assert data_digest(released.root / "data") == f"md5:{again}"


def test_dvc_compares_metrics_and_plots_between_commits(released):
    released.set_params(model={"arguments": {"C": 0.01}}, gate={"margin": 0.2})
    released.mergeline("propose")
    metrics = released.run("dvc", "metrics", "diff", "main", "--json")
    assert "roc_auc" in json.loads(metrics.stdout)["evaluation/metrics.json"]
    plots = released.run("dvc", "plots", "diff", "main", "--out", "plots")
    assert plots.returncode == 0, plots.stderr
    page = (released.root / "plots" / "index.html").read_text()
    assert "false positive rate" in page


def test_a_stranger_to_git_can_propose_without_a_name(released):
    released.set_params(model={"arguments": {"C": 0.9}})
    home = released.root.parent / "home"
    home.mkdir()
    done = released.mergeline(
        "propose", "--pull-request", settings={"HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / ".gitconfig")}
    )
    assert "pull request #1" in done.stderr
    author = subprocess.run(
        ["git", "log", "-1", "--format=%an"], cwd=released.root, capture_output=True, text=True, check=True
    )
    assert author.stdout.strip()
