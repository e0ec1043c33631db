"""A repository with two models: the toy problem at its root, and iris in models/."""

import shutil

import pytest
import yaml
from filelock import FileLock
from loop_project import DEAD_SERVER, ROOT, Project, make_project

from toy_data import toy_params, write_months


class TwoModels(Project):
    """The repository, whose verbs take `--model`."""

    def tune(self, model, /, **sections):
        """Change sections of the params of a model."""
        path = (self.root / "models" / model if model != "orders" else self.root) / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for name, section in sections.items():
            values[name] = {**values[name], **section}
        path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture(scope="session")
def two_models(tmp_path_factory, worker_id):
    """Both released, made once for all workers."""
    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    place = shared / "two-models"
    with FileLock(shared / "two-models.lock"):
        if not (place / "done").exists():
            write_months(place / "work" / "data", rows=1500)
            params = toy_params(tracking={"uri": DEAD_SERVER}).model_dump(mode="json", by_alias=True)
            made = make_project(place / "work", ROOT / "engine" / "tests" / "packages" / "toy", params)
            made.release_first()
            project = TwoModels(made.root)
            (place / "said.txt").write_text(project.mergeline("new-model", "iris", "--recipe", "iris").stdout)
            project.tune("iris", tracking={"uri": DEAD_SERVER})
            project.commit_all("A second model")
            (place / "done").touch()
    return place


@pytest.fixture
def project(two_models, tmp_path):
    """A copy of the test's own."""
    shutil.copytree(two_models, tmp_path, symlinks=True, dirs_exist_ok=True)
    return TwoModels(tmp_path / "work").moved()
