"""What goes into the image, without building it."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest
import yaml

from mergeline.errors import DigestError, MergelineError
from mergeline.image.build import GROUP, PYTHON, bundle, find_uv, leave_out
from mergeline.serve.container import container_settings
from mergeline.store.objects import Store

REPOSITORY = Path(__file__).resolve().parents[4]
SERVICE = REPOSITORY / "deploy" / "service"
LEAVE_OUT = resources.files("mergeline.image").joinpath("leave-out.txt").read_text()
BENTO = yaml.safe_load((SERVICE / "bentofile.yaml").read_text())


def test_the_libraries_are_built_for_the_python_of_the_base_image():
    assert re.match(rf"python:{PYTHON}-slim", BENTO["docker"]["base_image"])


def test_the_image_holds_the_extra_serve_and_neither_what_trains_nor_what_tracks():
    export = [find_uv(), "export", "--quiet", "--locked", "--only-group", GROUP, "--no-hashes", "--no-annotate"]
    told = subprocess.run(export, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    names = {line.partition("==")[0] for line in told.splitlines() if "==" in line}
    assert {"bentoml", "onnxruntime", "scikit-learn", "skops"} <= names
    assert names.isdisjoint({"dvc", "dvc-s3", "mlflow", "duckdb", "pandera", "onnx", "fairlearn", "pygithub"})


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("pyarrow/libarrow.so.2500", True),
        ("pyarrow/libarrow_python.so.2500", True),
        ("pyarrow/libarrow_python.so.2500.1.0", False),
        ("pyarrow/libarrow_substrait.so.2500", True),
        ("pyarrow/libarrow_flight.so.2500", False),
        ("botocore/data/s3/2006-03-01/service-2.json.gz", True),
        ("botocore/data/s3control/2018-08-20/service-2.json.gz", False),
        ("botocore/data/endpoints.json", True),
        ("pandas/tests/test_frame.py", False),
        ("numpy/testing/__init__.py", True),
        ("sklearn/tree/_tree.pyx", False),
        ("bin/bentoml", False),
    ],
)
def test_the_patterns_leave_out(name, stays, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    assert leave_out(tmp_path, LEAVE_OUT) == (0 if stays else 5)
    assert file.exists() is stays


def test_the_served_copy_holds_the_models_of_the_manifest_and_nothing_else(tmp_path):
    spec = yaml.safe_load((REPOSITORY / "deploy/manifest.yaml").read_text())["spec"]
    named = [spec["stable"], spec["previous"]]
    digests = bundle(REPOSITORY, Store(str(REPOSITORY / "store")), tmp_path / "copy")
    copy = Store(str(tmp_path / "copy" / "store"))
    assert digests == tuple(release["digest"] for release in named)
    assert [copy.missing(release["source"]) for release in named] == [(), ()]
    held = {path.name for path in (tmp_path / "copy" / "store").rglob("*") if path.is_file()}
    assert held == {Path(path).name for release in named for path, _ in copy.objects(release["source"])}


def test_the_served_copy_is_not_made_from_a_damaged_store(tmp_path):
    stable = yaml.safe_load((REPOSITORY / "deploy/manifest.yaml").read_text())["spec"]["stable"]
    bundle(REPOSITORY, Store(str(REPOSITORY / "store")), tmp_path / "copy")
    (tmp_path / "copy" / "store" / stable["source"]).write_bytes(b"[]")
    with pytest.raises(DigestError):
        bundle(REPOSITORY, Store(str(tmp_path / "copy" / "store")), tmp_path / "again")


def places(**more: str) -> dict[str, str]:
    named = {"root": str(REPOSITORY), "manifest": "m.yaml", "store": "s3://models", "cache": "/tmp/models", **more}
    return {f"MERGELINE_SERVE_{name.upper()}": value for name, value in named.items()}


def test_a_container_takes_its_settings_from_the_params_and_a_variable_before_them():
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())["serve"]
    settings = container_settings(places(max_records="7"))
    assert settings.max_records == 7
    assert settings.poll_seconds == params["poll_seconds"]
    assert settings.store == "s3://models"


def test_a_container_refuses_a_variable_that_no_setting_reads():
    with pytest.raises(MergelineError, match="MERGELINE_SERVE_MAX_RECORD"):
        container_settings(places(max_record="7"))


def test_a_container_starts_beside_services_of_its_name():
    links = {"MERGELINE_PORT": "tcp://10.0.0.1:3000", "MERGELINE_SERVICE_HOST": "10.0.0.1"}
    own = {
        "MERGELINE_SERVE_PORT": "tcp://10.0.0.1:3000",
        "MERGELINE_SERVE_PORT_3000_TCP_ADDR": "10.0.0.1",
        "MERGELINE_SERVE_SERVICE_HOST": "10.0.0.1",
        "MERGELINE_SERVE_SERVICE_PORT_HTTP": "3000",
    }
    assert container_settings({**places(), **links, **own}) == container_settings(places())
    with pytest.raises(MergelineError, match="MERGELINE_SERVE_PORT"):
        container_settings(places(port="3000"))


def test_a_container_without_a_root_says_which_variable_to_set():
    with pytest.raises(MergelineError, match="MERGELINE_SERVE_ROOT"):
        container_settings({})


def test_the_containerfile_and_the_compose_file_agree_on_places():
    server = yaml.safe_load((REPOSITORY / "deploy/compose.yaml").read_text())["services"]["server"]
    recipe = (SERVICE / "Containerfile.j2").read_text()
    inside = {volume.split(":")[1] for volume in server["volumes"]}
    assert inside == {
        "/srv/mergeline/deploy",
        "/srv/mergeline/store",
        "/srv/mergeline/params.yaml",
        "/var/lib/mergeline",
    }
    assert "VOLUME /var/lib/mergeline" in recipe
    assert "WORKDIR /srv/mergeline" in recipe


def test_the_compose_file_mounts_what_is_there_and_gives_the_server_no_rights():
    server = yaml.safe_load((REPOSITORY / "deploy/compose.yaml").read_text())["services"]["server"]
    mounted = [volume.split(":")[0] for volume in server["volumes"] if volume.startswith(".")]
    assert [place for place in mounted if not (REPOSITORY / "deploy" / place).exists()] == []
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert all(volume.endswith(":ro") for volume in server["volumes"] if volume.startswith("."))
