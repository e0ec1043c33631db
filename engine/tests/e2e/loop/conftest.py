"""The toy problem as a scratch repository."""

import shutil

import pytest
from filelock import FileLock
from loop_project import DEAD_SERVER, ROOT, Project, make_project

from toy_data import toy_params, write_months


@pytest.fixture(scope="session")
def templates(tmp_path_factory, worker_id):
    """The toy problem before and after its first release, made once for all workers."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    place = shared / "templates"
    with FileLock(shared / "templates.lock"):
        if not (place / "done").exists():
            write_months(place / "started" / "work" / "data", rows=1500)
            params = toy_params(tracking={"uri": DEAD_SERVER}).model_dump(mode="json", by_alias=True)
            project = make_project(place / "started" / "work", ROOT / "engine" / "tests" / "packages" / "toy", params)
            shutil.copytree(place / "started", place / "released", symlinks=True)
            project = Project(place / "released" / "work").moved()
            project.release_first()
            (place / "done").touch()
    return place


@pytest.fixture
def project(templates, tmp_path):
    """The toy problem as a repository of its own; nothing is released yet."""
    shutil.copytree(templates / "started", tmp_path, symlinks=True, dirs_exist_ok=True)
    return Project(tmp_path / "work").moved()


@pytest.fixture
def released(templates, tmp_path):
    """The same with a first model released."""
    shutil.copytree(templates / "released", tmp_path, symlinks=True, dirs_exist_ok=True)
    return Project(tmp_path / "work").moved()
