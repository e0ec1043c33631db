"""What goes into the image, without building it."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pathspec import PathSpec

from build_image import PYTHON, leave_out, left_out_packages
from mergeline.errors import DigestError, MergelineError, ToolError
from mergeline.image.contents import bundle
from mergeline.serve.container import container_settings
from mergeline.store.reader import Store

REPOSITORY = Path(__file__).resolve().parents[4]
SERVICE = REPOSITORY / "deploy" / "service"
PACKAGES = SERVICE / "packages.txt"
BENTO = yaml.safe_load((SERVICE / "bentofile.yaml").read_text())
STARTED = (
    "mergeline.serve.container",
    "mergeline.serve.supervisor",
    "mergeline.serve.worker",
    "mergeline.journal.compactor",
)
"""What the image starts, and what that starts as a process."""


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY / "engine" / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (REPOSITORY / "engine" / "src").rglob("*.py")}


def imported_names(node: ast.AST):
    """What a module imports when it runs, at its top or in its functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        if isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imported_names(child)


def needed_modules() -> set[str]:
    found: set[str] = set()
    waiting = list(STARTED)
    while waiting:
        name = waiting.pop()
        if name in MODULES and name not in found:
            found.add(name)
            waiting += imported_names(ast.parse(MODULES[name].read_text()))
            waiting += [name.rpartition(".")[0]]
    return found


def modules_inside() -> set[str]:
    include = PathSpec.from_lines("gitwildmatch", BENTO["include"])  # as BentoML reads them
    exclude = PathSpec.from_lines("gitwildmatch", BENTO["exclude"])
    places = {name: path.relative_to(REPOSITORY).as_posix() for name, path in MODULES.items()}
    return {name for name, place in places.items() if include.match_file(place) and not exclude.match_file(place)}


def test_the_bento_holds_every_module_that_the_server_imports():
    assert needed_modules() - modules_inside() == set()


def test_the_bento_holds_no_module_of_the_engine_that_no_server_imports():
    beyond = modules_inside() - needed_modules()
    assert {
        name for name in beyond if name.startswith("mergeline.") and not name.startswith("mergeline.serve")
    } == set()


def test_the_bento_leaves_out_only_what_is_there():
    places = [pattern.removeprefix("!") for pattern in BENTO["exclude"]]
    assert [place for place in places if not list(REPOSITORY.glob(place))] == []


def test_the_libraries_are_built_for_the_python_of_the_base_image():
    assert re.match(rf"python:{PYTHON}-slim", BENTO["docker"]["base_image"])


def test_a_new_dependency_stays_outside_until_the_server_asks_for_it(tmp_path):
    project, kept = tmp_path / "pyproject.toml", tmp_path / "packages.txt"
    project.write_text('[project]\ndependencies = ["numpy>=2", "dvc[s3]>=3", "new==1"]\n')
    kept.write_text("# what is kept\nnumpy  # rows\n\n")
    assert left_out_packages(project, kept) == ["dvc", "new"]


def test_a_package_that_the_project_does_not_depend_on_is_refused(tmp_path):
    project, kept = tmp_path / "pyproject.toml", tmp_path / "packages.txt"
    project.write_text('[project]\ndependencies = ["numpy>=2"]\n')
    kept.write_text("nunpy\n")
    with pytest.raises(ToolError, match="nunpy"):
        left_out_packages(project, kept)


def test_the_packages_of_the_image_leave_out_those_that_train_and_track():
    left = left_out_packages(REPOSITORY / "pyproject.toml", SERVICE / "packages.txt")
    assert {"dvc", "dvc-s3", "mlflow", "duckdb", "pandera", "onnx", "typer"} <= set(left)


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
    assert leave_out(tmp_path, SERVICE / "leave-out.txt") == (0 if stays else 5)
    assert file.exists() is stays


def test_the_served_copy_holds_the_models_of_the_manifest_and_nothing_else(tmp_path):
    stable = yaml.safe_load((REPOSITORY / "deploy/manifest.yaml").read_text())["spec"]["stable"]
    digests = bundle(REPOSITORY, Store(str(REPOSITORY / "store")), tmp_path / "copy")
    copy = Store(str(tmp_path / "copy" / "store"))
    assert digests == (stable["digest"],)
    assert copy.missing(stable["source"]) == ()
    objects = [path for path in (tmp_path / "copy" / "store").rglob("*") if path.is_file()]
    assert len(objects) == len(list(copy.objects(stable["source"])))


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


def test_nothing_that_stays_needs_what_is_left_out():
    """A direct dependency that `packages.txt` does not name is cut out, also where another package needs it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    left_out = {canonicalize_name(name) for name in left_out_packages(REPOSITORY / "pyproject.toml", PACKAGES)}
    waiting = [canonicalize_name(Requirement(text).name) for text in project]
    waiting = [name for name in waiting if name not in left_out]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            requirements = map(Requirement, requires(name) or ())
            waiting += [
                canonicalize_name(one.name)
                for one in requirements
                if one.marker is None or one.marker.evaluate({"extra": ""})
            ]
    assert needed & left_out == set()
