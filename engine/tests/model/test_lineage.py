"""Lineage: digests that others can check, and differences that read well."""

import importlib.metadata
import subprocess

import pytest

from mergeline.errors import CodeError
from mergeline.model.artifact import load_model
from mergeline.model.lineage import changes, git_tree, library_versions, package_folder
from toy_data import toy_params


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


class TestEnvironment:
    def test_it_names_what_the_model_is_made_of_and_no_tool(self, trained):
        libraries = load_model(trained()).lineage.libraries
        assert libraries["scikit-learn"] == importlib.metadata.version("scikit-learn")
        assert {"numpy", "pandas", "skops"} <= libraries.keys()
        assert not libraries.keys() & {"ruff", "pytest", "dvc", "mlflow", "bentoml"}

    def test_a_library_that_only_the_model_names_is_in_it(self):
        assert "msgspec" in library_versions({"msgspec.json", "builtins", "sklearn.pipeline"})


def test_a_package_that_is_not_installed_is_told():
    with pytest.raises(CodeError, match="there is no package 'nowhere'"):
        package_folder(toy_params(model={"factory": "nowhere.model:make"}))
