"""The rendered files, by the tools of those who run them: kustomize, the API's schemas, checkov, KServe's own types."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes_tools import (
    CHECKOV,
    CRDS,
    KSERVE,
    ROOT,
    VALIDATE,
    check_custom_resources,
    documents,
    isolated,
    kustomize,
)

from mergeline.kubernetes.render import render

pytestmark = pytest.mark.slow

COMPONENTS = ("autoscaling", "gateway-api", "argo-rollouts", "kserve")
READ_KSERVE = """
import json, sys, kserve
from kserve import models
from kubernetes.client import models as core

def check(value, kind, where):
    if kind.startswith("list["):
        for number, item in enumerate(value):
            check(item, kind[5:-1], f"{where}[{number}]")
        return
    known = getattr(models, kind, None) or getattr(core, kind, None)
    if known is None:
        return
    names = {json_name: name for name, json_name in known.attribute_map.items()}
    for key, item in value.items():
        if key not in names:
            sys.exit(f"{where}: no {key} in {kind}")
        check(item, known.openapi_types[names[key]], f"{where}.{key}")

check(json.load(sys.stdin), "V1beta1InferenceService", "InferenceService")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """This repository's own deployment, with a staging, rendered."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(
        ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("kubernetes", "kustomization.yaml")
    )
    (folder / "deploy" / "staging").mkdir()
    shutil.copy(ROOT / "deploy" / "manifest.yaml", folder / "deploy" / "staging")
    shutil.copy(ROOT / "params.yaml", folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    render(folder)
    return folder


@pytest.fixture(scope="module")
def built(home, tmp_path_factory) -> dict[str, str]:
    """What kustomize makes of each environment, and of production with each component."""
    texts = {"production": kustomize(home / "deploy"), "staging": kustomize(home / "deploy" / "staging")}
    for component in COMPONENTS:
        folder = tmp_path_factory.mktemp(component) / "deploy"
        shutil.copytree(home / "deploy", folder)
        overlay = folder / "kubernetes" / "overlays" / "production" / "kustomization.yaml"
        document = yaml.safe_load(overlay.read_text())
        document["components"] = [f"../../components/{component}"]
        overlay.write_text(yaml.safe_dump(document))
        texts[component] = kustomize(folder)
    return texts


def find(text: str, kind: str) -> dict:
    (found,) = [document for document in documents(text) if document["kind"] == kind]
    return found


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_every_overlay_builds_on_its_own(home, overlay):
    assert "StatefulSet" in kustomize(home / "deploy" / "kubernetes" / "overlays" / overlay)


def test_another_manifest_changes_nothing_but_the_content_of_its_configmap(home, built, tmp_path):
    folder = tmp_path / "deploy"
    shutil.copytree(home / "deploy", folder)
    manifest = folder / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("version: 2", "version: 3"))
    before, after = documents(built["production"]), documents(kustomize(folder))
    (changed,) = [place for place, document in enumerate(after) if document != before[place]]
    assert before[changed]["metadata"] == after[changed]["metadata"]
    assert after[changed]["data"]["manifest.yaml"] == manifest.read_text()


@pytest.mark.parametrize("name", ["production", "staging", *COMPONENTS])
def test_kubernetes_own_kinds_hold_to_the_strict_schema(built, name, tmp_path):
    own = [
        each for each in documents(built[name]) if each["apiVersion"].split("/")[0] not in {*CRDS, "serving.kserve.io"}
    ]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump_all(own))
    done = isolated("kubernetes-validate", "--strict", str(tmp_path / "own.yaml"), packages=(VALIDATE, "pyyaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed ") == len(own)


def test_custom_resources_hold_to_their_schemas_and_a_wrong_key_is_caught(home, built, tmp_path):
    found = [each for text in built.values() for each in documents(text) if each["apiVersion"].split("/")[0] in CRDS]
    found += [yaml.safe_load(path.read_text()) for path in (home / "deploy" / "kubernetes" / "argocd").glob("*.yaml")]
    assert {each["kind"] for each in found} == {kind for kinds in CRDS.values() for kind in kinds}
    assert check_custom_resources(found, tmp_path / "right") == ""
    wrong = copy.deepcopy(find(built["argo-rollouts"], "Rollout"))
    wrong["spec"]["strategy"]["canary"]["stepz"] = []
    assert "stepz" in check_custom_resources([wrong], tmp_path / "wrong")


def test_kserve_knows_every_key_of_the_inference_service(built):
    service = find(built["kserve"], "InferenceService")
    done = isolated("python", "-c", READ_KSERVE, packages=(KSERVE, "pandas<3"), stdin=json.dumps(service))
    assert done.returncode == 0, done.stderr
    service["spec"]["predictor"]["containers"][0]["imaged"] = "x"
    wrong = isolated("python", "-c", READ_KSERVE, packages=(KSERVE, "pandas<3"), stdin=json.dumps(service))
    assert "imaged" in wrong.stderr


@pytest.mark.parametrize("name", ["production", "staging"])
def test_checkov_finds_nothing_that_has_no_reason(built, name, tmp_path):
    (tmp_path / "all.yaml").write_text(built[name])
    done = isolated(
        "checkov", "--file", str(tmp_path / "all.yaml"), "--framework", "kubernetes", "--output", "json", "--quiet",
        "--skip-download", packages=(CHECKOV,), LOG_LEVEL="CRITICAL",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["results"]["failed_checks"] == []
    assert report["summary"]["passed"] > 80
    reasons = find(built[name], "StatefulSet")["metadata"]["annotations"].values()
    assert report["summary"]["skipped"] == len(reasons)
    assert all(len(reason.partition("=")[2]) > 20 for reason in reasons)


@pytest.mark.parametrize("name", ["argo-rollouts", "kserve"])
def test_what_takes_the_statefulsets_place_runs_the_same_container(built, name):
    known = find(built["production"], "StatefulSet")["spec"]["template"]["spec"]
    assert "StatefulSet" not in {each["kind"] for each in documents(built[name])}
    if name == "kserve":
        spec = find(built[name], "InferenceService")["spec"]["predictor"]
        assert spec["minReplicas"] == 3
    else:
        rollout = find(built[name], "Rollout")
        spec = rollout["spec"]["template"]["spec"]
        assert rollout["spec"]["replicas"] == 3
    assert spec["containers"] == known["containers"]
    mounted = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
