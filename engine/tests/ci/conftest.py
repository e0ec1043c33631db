"""A released model and the local GitHub, for the tests that need one."""

import pytest
from bundle_examples import Scene
from github_fixtures import hub, models  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def made_scene(tmp_path_factory):
    """A scene that no test changes."""
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def scene(made_scene, tmp_path):
    """A scene of the test's own."""
    return made_scene.copy(tmp_path / "scene")
