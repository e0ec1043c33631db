"""A GitHub on this machine, for every test that needs one."""

import pytest


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A running local GitHub; each test makes a repository of its own in it."""
    from local_github.github import local_github
    from local_github.tools import MissingToolError, find_tools

    try:
        tools = find_tools()
    except MissingToolError as error:
        pytest.skip(str(error))
    with local_github(tmp_path_factory.mktemp("github"), tools) as running:
        yield running
        assert running.hub.errors == []


@pytest.fixture
def models(hub, tmp_path, monkeypatch, request):
    """A repository on it with one commit on main, and a clone; nobody else's settings count."""
    from github_examples import Models

    for name in ("GITHUB_TOKEN", "GH_TOKEN", "GH_HOST", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**hub.environment(), "GIT_CONFIG_GLOBAL": "/dev/null", "GITHUB_SERVER_URL": hub.url}.items():
        monkeypatch.setenv(name, value)
    return Models(hub, tmp_path, monkeypatch)
