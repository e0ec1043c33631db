"""What a model's bytes depend on beside its inputs."""

import sys

import pytest

from mergeline.errors import CodeError, DataError, VersionError
from mergeline.model.environment import (
    LIBRARIES,
    TRAINING_FORMAT,
    TrainingEnvironment,
    installed_environment,
    read_environment,
    require_installed,
    require_locked,
)

HERE = TrainingEnvironment(1, {"numpy": "2.4.6", "scikit-learn": "1.9.1"})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a team's package of one module; returns the environment that it gives."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(code, name="someteam"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "model.py").write_text(code)
        return installed_environment(f"{name}.model:pipeline")

    return make


class TestImports:
    def test_what_the_package_imports_is_in_it(self, package):
        found = package("import msgspec.json\nfrom sklearn.pipeline import Pipeline\ndef late():\n    import yaml\n")
        assert found.libraries.keys() == {*LIBRARIES, "msgspec", "PyYAML"}
        assert found.training_format == TRAINING_FORMAT

    def test_the_standard_library_the_engine_and_the_teams_own_modules_are_not(self, package, tmp_path):
        (tmp_path / "ours.py").touch()
        found = package("import json, ours, mergeline.files, someteam.other\nfrom . import features\n")
        assert found.libraries.keys() == set(LIBRARIES)

    def test_what_only_readers_of_types_import_is_not(self, package):
        found = package("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import msgspec, nowhere_at_all\n")
        assert found.libraries.keys() == set(LIBRARIES)

    def test_a_library_that_is_not_installed_is_told_with_its_line(self, package):
        with pytest.raises(CodeError, match=r"no library offers 'nowhere_at_all'") as caught:
            package("import json\nimport nowhere_at_all\n")
        assert caught.value.where.endswith("model.py:2")

    def test_a_library_that_is_only_tried_may_be_missing(self, package):
        found = package("try:\n    import nowhere_at_all\nexcept ImportError:\n    nowhere_at_all = None\n")
        assert found.libraries.keys() == set(LIBRARIES)

    def test_a_file_that_is_no_python_is_told(self, package):
        with pytest.raises(CodeError, match="not Python"):
            package("def broken(:\n")

    def test_nothing_of_the_package_is_run(self, package):
        package("raise RuntimeError\n")
        assert "someteam.model" not in sys.modules


class TestLock:
    def lock(self, **versions):
        return "version = 1\n" + "".join(
            f'\n[[package]]\nname = "{name.replace("_", "-")}"\nversion = "{version}"\nsource = {{}}\n'
            for name, version in versions.items()
        )

    def test_the_locked_versions_pass(self):
        require_locked(HERE, self.lock(numpy="2.4.6", scikit_learn="1.9.1", ruff="1.0"))

    def test_another_version_is_told_with_both(self):
        with pytest.raises(VersionError, match=r"scikit-learn 1\.9\.1 is installed, the lock names 1\.9\.2"):
            require_locked(HERE, self.lock(numpy="2.4.6", scikit_learn="1.9.2"))

    def test_a_lock_for_two_pythons_takes_either(self):
        require_locked(HERE, self.lock(numpy="2.4.5") + self.lock(numpy="2.4.6"))


class TestInstalled:
    def test_the_same_passes(self):
        require_installed(HERE, HERE)

    def test_another_library_says_what_to_do(self):
        written = HERE._replace(libraries={**HERE.libraries, "scikit-learn": "1.8.0"})
        with pytest.raises(VersionError, match=r"scikit-learn is 1\.9\.1, expected 1\.8\.0") as caught:
            require_installed(written, HERE)
        assert "make install" in str(caught.value)

    def test_another_training_format_is_told(self):
        with pytest.raises(VersionError, match="the training format is 1, this engine's is 2"):
            require_installed(HERE, HERE._replace(training_format=2))


class TestDigest:
    def test_it_is_another_one_for_another_library_or_format(self):
        libraries = {**HERE.libraries, "scikit-learn": "1.9.2"}
        found = {HERE.digest, HERE._replace(libraries=libraries).digest, HERE._replace(training_format=2).digest}
        assert len(found) == 3

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"training_format": 1, "libraries": 3}'])
    def test_a_damaged_file_is_told(self, tmp_path, text):
        path = tmp_path / "environment.json"
        path.write_text(text)
        with pytest.raises(DataError, match="no environment"):
            read_environment(path)
