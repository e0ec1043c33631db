"""Each extra, installed from a wheel into an environment of its own, has what its verbs import."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[3]
WHOLE_PACKAGES = {
    "": ("documents", "params", "manifest", "errors", "files"),
    "github": ("documents", "params", "manifest", "github", "ci", "store"),
    "serve": ("serve", "journal", "manifest", "store"),
    "watch": ("watch", "stats", "traffic"),
    "train": ("dataset", "evaluate", "model", "scorer", "release", "report"),
}
"""For each extra, the packages whose modules all must import with it."""
ABSENT = {
    "": {"numpy", "pandas", "sklearn", "mlflow", "dvc", "bentoml", "github"},
    "github": {"pandas", "sklearn", "mlflow", "dvc", "bentoml"},
    "serve": {"mlflow", "dvc", "duckdb", "pandera", "github"},
    "watch": {"mlflow", "dvc", "bentoml", "github"},
    "train": {"bentoml", "github"},
}
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(f"mergeline.{name}")
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"mergeline.{name}."):
        if ".build_" not in found.name:  # they run where the model is made, with the extra `train`
            importlib.import_module(found.name)
"""


def uv(*arguments):
    program = os.environ.get("UV") or shutil.which("uv") or str(ENGINE.parent / ".tools" / "bin" / "uv")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The engine as a wheel."""
    place = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--out-dir", str(place), str(ENGINE))
    [found] = place.glob("mergeline-*.whl")
    return found


@pytest.fixture(params=WHOLE_PACKAGES)
def installed(request, wheel, tmp_path):
    """An environment with one extra: its Python, and which extra it is."""
    place, chosen = tmp_path / "venv", ["--extra", request.param] if request.param else []
    uv("venv", "--quiet", "--python", sys.executable, str(place))
    uv("export", "--quiet", "--locked", "--project", str(ENGINE), "--no-default-groups", "--no-emit-project",
       "--output-file", str(tmp_path / "requirements.txt"), *chosen)  # fmt: skip
    install = ("pip", "install", "--quiet", "--python", str(place / "bin" / "python"), "--no-deps")
    uv(*install, "--requirements", str(tmp_path / "requirements.txt"))
    uv(*install, str(wheel))
    return place / "bin" / "python", request.param


def run(python, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([str(python), *arguments], capture_output=True, text=True, env=environment, check=False)


def test_it_imports_what_it_is_for_and_lacks_what_it_is_not_for(installed):
    python, extra = installed
    done = run(python, "-c", IMPORT_ALL, *WHOLE_PACKAGES[extra])
    assert done.returncode == 0, done.stderr
    for name in sorted(ABSENT[extra]):
        assert "ModuleNotFoundError" in run(python, "-c", f"import {name}").stderr, name


def test_the_command_line_starts(installed):
    python, _ = installed
    done = run(python, str(python.with_name("mergeline")), "--help")
    assert done.returncode == 0, done.stderr
    assert "propose" in done.stdout
