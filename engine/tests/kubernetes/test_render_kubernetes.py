from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from serve_samples import PARAMS

from mergeline.kubernetes.render import render, rules, web_address

ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path):
    """A home on GitHub whose production and staging have a manifest each."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for place in ("deploy/manifest.yaml", "deploy/staging/manifest.yaml"):
        (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / place).write_text("kind: ModelDeployment\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../store\n")
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:acme/Flights.git"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def loaded(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_each_environment_joins_its_own_manifest_under_a_name_that_never_changes(home):
    render(home)
    for folder, namespace in (("deploy", "flights"), ("deploy/staging", "flights-staging")):
        document = loaded(home / folder / "kustomization.yaml")
        (manifest,) = document["configMapGenerator"]
        assert (document["namespace"], manifest["name"]) == (namespace, "flights-manifest")
        assert manifest["files"] == ["manifest.yaml"]
        assert manifest["options"] == {"disableNameSuffixHash": True}
        (overlay,) = document["resources"]
        assert (home / folder / overlay / "kustomization.yaml").exists()


def test_the_pods_mount_the_manifest_as_a_folder_that_kubelet_can_turn(home):
    render(home)
    pod = loaded(home / "deploy/kubernetes/base/statefulset.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "manifest"]
    assert "subPath" not in mount
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert values["MERGELINE_SERVE_MANIFEST"] == f"{mount['mountPath']}/manifest.yaml"


def test_a_pod_that_ends_answers_until_it_is_off_every_list(home):
    render(home)
    pod = loaded(home / "deploy/kubernetes/base/statefulset.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    drain, probe = float(values["MERGELINE_SERVE_DRAIN_SECONDS"]), container["readinessProbe"]
    assert drain > 2 * probe["periodSeconds"] * probe["failureThreshold"]
    assert drain + 20 < pod["terminationGracePeriodSeconds"]  # answers and the journal's end take the rest


def test_image_store_and_repository_come_from_what_the_repository_says(home):
    render(home)
    overlay = loaded(home / "deploy/kubernetes/overlays/production/kustomization.yaml")
    assert overlay["images"][0]["name"] == "ghcr.io/acme/flights"
    assert overlay["configMapGenerator"][0]["literals"] == [
        "MERGELINE_SERVE_STORE=https://raw.githubusercontent.com/acme/Flights/main/store"
    ]
    source = loaded(home / "deploy/kubernetes/argocd/application.yaml")["spec"]["source"]
    assert source == {"repoURL": "https://github.com/acme/Flights.git", "targetRevision": "main", "path": "deploy"}


def test_a_store_in_a_bucket_is_read_from_there(home):
    (home / ".dvc" / "config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = s3://bucket/models\n")
    render(home)
    overlay = home / "deploy/kubernetes/overlays/production/kustomization.yaml"
    assert "MERGELINE_SERVE_STORE=s3://bucket/models" in overlay.read_text()


def test_what_a_team_has_changed_stays_and_what_is_the_engines_is_written_anew(home):
    render(home)
    overlay, base = (home / "deploy/kubernetes" / name for name in ("overlays/production", "base"))
    (overlay / "kustomization.yaml").write_text("mine\n")
    (base / "statefulset.yaml").write_text("old\n")
    done = render(home)
    assert (overlay / "kustomization.yaml").read_text() == "mine\n"
    assert loaded(base / "statefulset.yaml")["kind"] == "StatefulSet"
    assert Path("deploy/kubernetes/overlays/production/kustomization.yaml") in done.kept


def test_the_rules_are_those_that_prometheus_reads_without_kubernetes(home):
    folder = ROOT / "deploy" / "observability" / "rules"
    groups = [group for path in sorted(folder.glob("*.yml")) for group in loaded(path)["groups"]]
    assert yaml.safe_load(rules(folder)) == groups
    assert yaml.safe_load(rules(home)) == []


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("git@github.com:acme/flights.git", "https://github.com/acme/flights"),
        ("ssh://git@github.com/acme/flights.git", "https://github.com/acme/flights"),
        ("https://token@github.com/acme/flights", "https://github.com/acme/flights"),
        ("/srv/git/repository.git", "https://github.com/OWNER/REPOSITORY"),
    ],
)
def test_an_origin_is_understood_and_its_password_is_never_written(origin, address):
    assert web_address(origin) == address
