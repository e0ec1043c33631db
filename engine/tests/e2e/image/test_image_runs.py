"""The image is built, opened, and run with nothing that it may write but what is mounted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from image_boxes import USER, buildah, get, opened

from local_github.processes import free_port

REPOSITORY = Path(__file__).resolve().parents[4]
BASE = "localhost/mergeline-test-base:bookworm"
IMAGE = "localhost/mergeline-test:latest"
LARGEST_MB = 640
"""What docs/image.md states, and room for what the next versions of the libraries add."""
RECORD_SCHEMA = ("components", "schemas", "Record", "examples", 0)
FILES = ("src", "engine", "deploy", "store", ".dvc/config", "pyproject.toml", "uv.lock", "params.yaml", "README.md")


def missing() -> str:
    """Why no image can be built here; empty if one can."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return "the image is built once, in one process: make image-test"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux can open an image without an engine"
    if not all(map(shutil.which, ("buildah", "unshare", "git"))) or not (shutil.which("uv") or os.environ.get("UV")):
        return "buildah or uv is not installed: make image-test"
    try:
        return "" if buildah("images", "--quiet", "--filter", f"reference={BASE}") else "no base image: make image-test"
    except subprocess.CalledProcessError as error:
        return f"buildah does not work here: {error.stderr.strip()}"


pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    clone = tmp_path_factory.mktemp("clone")
    for name in FILES:
        source, target = REPOSITORY / name, clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(clone)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "start"], check=True)
    built = subprocess.run(
        [sys.executable, "-m", "mergeline.cli", "image", "build", IMAGE, "--engine", "buildah", "--base", BASE],
        cwd=clone,
        env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(clone / "build" / "image" / "libraries", ignore_errors=True)
    assert built.returncode == 0, built.stderr
    try:
        with opened(IMAGE) as opened_image:
            yield opened_image
    finally:
        buildah("rmi", IMAGE)


@pytest.fixture(scope="module")
def stable():
    return yaml.safe_load((REPOSITORY / "deploy/manifest.yaml").read_text())["spec"]["stable"]


def example(url: str) -> dict:
    found = get(f"{url}/openapi.json")
    for key in RECORD_SCHEMA:
        found = found[key]
    return found


def test_it_serves_its_own_copy_read_only_as_an_unknown_user(image, stable, tmp_path):
    with image.server(tmp_path / "log", port=free_port()) as url:
        assert get(f"{url}/status")["stable"]["digest"] == stable["digest"]
        assert get(f"{url}/predict", example(url))["digest"] == stable["digest"]
        assert get(f"{url}/status")["journal"]["error"]["what"] == "Read-only file system"


def test_it_serves_a_mounted_manifest_and_keeps_a_journal_where_it_may_write(image, stable, tmp_path):
    deploy, kept = tmp_path / "deploy", tmp_path / "kept"
    shutil.copytree(REPOSITORY / "deploy", deploy)
    manifest = yaml.safe_load((deploy / "manifest.yaml").read_text())
    manifest["spec"]["stable"]["version"] = 4711
    (deploy / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    kept.mkdir()
    kept.chmod(0o1777)
    mounts = {"/srv/mergeline/deploy": f"{deploy}:ro", "/var/lib/mergeline": f"{kept}:rw"}
    for folder in tmp_path.parents:  # pytest's folders are its owner's alone
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    settings = {"MERGELINE_SERVE_JOURNAL": json.dumps({"seal_seconds": 0.5})}
    with image.server(tmp_path / "log", port=free_port(), mounts=mounts, environment=settings) as url:
        assert get(f"{url}/predict", example(url))["version"] == 4711
        deadline = time.monotonic() + 60
        while not (sealed := list(kept.glob("journal/predictions/*/*/*.parquet"))) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert sealed, (tmp_path / "log").read_text()
    import pyarrow.parquet as pq

    table = pq.ParquetFile(sealed[0]).read()
    assert table["_digest"].to_pylist() == [stable["digest"]]


def test_it_runs_as_an_unknown_user_that_can_write_only_temporary_files(image):
    places = "/ /srv/mergeline /opt/mergeline/src /var/lib/mergeline /tmp"
    tried = f"id -u; for place in {places}; do touch $place/x && echo $place; done"
    assert image.run("sh", "-c", tried).stdout.split() == [USER, "/tmp"]


def test_the_image_names_a_user_that_is_not_root(image):
    assert image.config["User"].split(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("program", ["gcc", "cc", "c++", "ld", "make", "dvc", "mlflow", "uv", "git"])
def test_the_image_has_no(program, image):
    assert image.run("sh", "-c", f"command -v {program}").returncode != 0


@pytest.mark.parametrize(
    "module",
    [
        "dvc",
        "mlflow",
        "duckdb",
        "pandera",
        "onnx",
        "dvc_s3",
        "fairlearn",
        "github",
    ],
)
def test_the_image_cannot_import(module, image):
    assert "ModuleNotFoundError" in image.run("python3", "-c", f"import {module}").stderr


def test_whatever_the_server_may_need_later_can_be_imported(image):
    modules = (
        "sklearn.ensemble, skops.io, scipy.stats, pandas, pyarrow.parquet, s3fs, onnxruntime, model_signing.verifying"
    )
    assert image.run("python3", "-c", f"import {modules}").stderr == ""


def test_the_health_check_tells_a_server_from_none(image, tmp_path):
    _, *check = image.config["Healthcheck"]["Test"]
    port = free_port()
    assert image.run("env", f"MERGELINE_LISTEN_PORT={port}", *check).returncode != 0
    with image.server(tmp_path / "log", port=port):
        assert image.run("env", f"MERGELINE_LISTEN_PORT={port}", *check).returncode == 0


def test_the_bill_of_materials_is_what_is_installed(image):
    listed = image.run(
        "python3", "-c",
        "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions("
        "path=['/opt/mergeline/libraries'])))",
    ).stdout.split()  # fmt: skip
    bill = json.loads((image.root / "srv/mergeline/sbom.cdx.json").read_text())
    named = {f"{part['name']}=={part['version']}" for part in bill["components"]}

    def normal(name: str) -> str:
        return name.lower().replace("_", "-").replace(".", "-")

    assert {normal(name) for name in listed} <= {normal(name) for name in named}
    assert len(listed) > 50


def test_what_is_added_to_the_base_stays_under_its_size(image):
    folders = (image.root / "opt/mergeline", image.root / "srv/mergeline")
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    assert 100 < size / 1e6 < LARGEST_MB
