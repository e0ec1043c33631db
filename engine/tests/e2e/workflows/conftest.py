"""The stories of the workflows: each is played once, for the tests of one class."""

import pytest
from filelock import FileLock

from local_github.tools import MissingToolError, find_tools


@pytest.fixture(scope="session")
def tools():
    """What the local GitHub is made of."""
    try:
        return find_tools()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def template(tools, tmp_path_factory, worker_id):
    """The repository that stories begin with, made once for all workers."""
    from workflow_project import make_template

    base = tmp_path_factory.getbasetemp()
    place = (base if worker_id == "master" else base.parent) / "template"
    with FileLock(f"{place}.lock"):
        if not (place / "done").exists():
            make_template(place / "work")
            (place / "done").touch()
    return place / "work"


@pytest.fixture(scope="class")
def story(request, tools, template, tmp_path_factory):
    """Plays the story of a class, whose tests read in `told` what it came to, and in `pull` the pull request."""
    from workflow_project import play

    from local_github.warm import warm_environment

    told = play(request.cls.STORY, tools, template, tmp_path_factory.mktemp("story"), warm_environment())
    request.cls.told, request.cls.pull = told, told.get("pull")
