"""A released model and the local GitHub, for the tests that need one."""

import pytest
from bundle_examples import Scene
from github_fixtures import hub, models  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def made_scene(tmp_path_factory):
    """A scene that no test changes."""
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="session")
def asked(made_scene, tmp_path_factory):
    """A scene with an open pull request, that no test changes."""
    scene = made_scene.copy(tmp_path_factory.mktemp("asked") / "scene")
    scene.pull()
    return scene


@pytest.fixture
def scene(request, made_scene, tmp_path):
    """A scene of the test's own, with a pull request for those that take one."""
    source = request.getfixturevalue("asked") if "pull" in request.fixturenames else made_scene
    return source.copy(tmp_path / "scene")


@pytest.fixture
def pull(scene):
    return scene.forge.get(1)
