"""Lineage: digests that others can check, and differences that read well."""

import importlib.metadata
import json
import subprocess

import pytest

from mergeline.errors import CodeError
from mergeline.model.artifact import load_model
from mergeline.model.environment import TRAINING_FORMAT, TrainingEnvironment, team_package
from mergeline.model.lineage import changes, git_tree


class TestGitTree:
    def test_it_is_the_id_that_git_gives(self, tmp_path):
        package = tmp_path / "package"
        (package / "sub" / "deep").mkdir(parents=True)
        (package / "a.py").write_text("a = 1\n")
        (package / "sub.py").write_text("sorts before the folder sub\n")
        (package / "sub-1.py").write_text("and this too\n")
        (package / "sub" / "b.py").write_text("")
        (package / "sub" / "deep" / "run").write_text("#!\n")
        (package / "sub" / "deep" / "run").chmod(0o755)
        (package / "sub" / "empty").mkdir()
        (package / "__pycache__").mkdir()
        (package / "__pycache__" / "a.pyc").write_bytes(b"\0")
        before = git_tree(package)
        (package / "__pycache__" / "a.pyc").unlink()
        git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.com"]
        for command in (["init", "-q"], ["add", "package"], ["commit", "-qm", "x"]):
            subprocess.run([*git, *command], check=True)
        found = subprocess.run([*git, "rev-parse", "HEAD:package"], check=True, capture_output=True, text=True)
        assert before == git_tree(package) == found.stdout.strip()


class TestChanges:
    def test_params_and_partitions_that_differ_are_listed(self, trained):
        before = load_model(trained()).lineage
        after = load_model(trained(model={"arguments": {"C": 0.5}}, split={"train": 1})).lineage
        found = [(change.kind, change.what, change.before, change.after) for change in changes(before, after)]
        assert found == [
            ("params", "model.arguments.C", "(none)", "0.5"),
            ("params", "split.train", "null", "1"),
            ("data", "trained on", "2024-01 to 2024-02 (2 partitions)", "2024-02"),
        ]

    def test_the_same_origin_has_none(self, trained):
        lineage = load_model(trained()).lineage
        assert changes(lineage, lineage) == ()


class TestFirstEdition:
    """Lineage files of models that were released before there was a training format."""

    def test_they_are_read(self, trained):
        path = trained() / "lineage.json"
        rewrite_first_edition(path)
        assert load_model(path.parent).lineage.training_format is None

    def test_the_engine_that_made_them_is_no_difference(self, trained):
        new = load_model(trained()).lineage
        old = new.model_copy(update={"training_format": None, "libraries": {**new.libraries, "mergeline": "0.1.0"}})
        assert [(change.what, change.before, change.after) for change in changes(old, new)] == [
            ("training format", "(none)", "1")
        ]


def rewrite_first_edition(path):
    document = json.loads(path.read_text())
    del document["training_format"]
    document["libraries"]["mergeline"] = "0.1.0"
    path.write_text(json.dumps(document))


class TestEnvironment:
    def test_it_names_what_the_model_is_made_of_and_no_tool(self, trained):
        lineage = load_model(trained()).lineage
        assert lineage.libraries["scikit-learn"] == importlib.metadata.version("scikit-learn")
        assert {"numpy", "pandas", "skops"} <= lineage.libraries.keys()
        assert not lineage.libraries.keys() & {"mergeline", "ruff", "pytest", "dvc", "mlflow", "bentoml"}
        made = TrainingEnvironment(TRAINING_FORMAT, lineage.libraries)
        assert lineage.environment == made.digest


def test_a_package_that_is_not_installed_is_told():
    with pytest.raises(CodeError, match="there is no package 'nowhere'"):
        team_package("nowhere.model:make")
