"""The stories of the workflows, each played once for all workers."""

import contextlib
import json
import time

import pytest
from filelock import FileLock, Timeout

from local_github.tools import MissingToolError, find_tools
from mergeline.files import write_json


@pytest.fixture(scope="session")
def tools():
    """What the local GitHub is made of."""
    try:
        return find_tools()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that all workers have in common."""
    base = tmp_path_factory.getbasetemp()
    place = (base if worker_id == "master" else base.parent) / "workflows"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="session")
def told(tools, shared):
    """Plays a story, or reads what another worker's play came to; a worker that waits plays another one meanwhile."""
    from workflow_project import LONG, STORIES, make_template, play

    from local_github.warm import warm_environment

    template = shared / "template" / "work"
    with FileLock(shared / "template.lock"):
        if not (shared / "template" / "done").exists():
            make_template(template)
            (shared / "template" / "done").touch()

    def outcome(story):
        return shared / f"{story}.json"

    def play_one(stories):
        for story in stories:
            with contextlib.suppress(Timeout), FileLock(shared / f"{story}.lock", timeout=0):
                if not outcome(story).exists():
                    found = play(story, tools, template, shared / story, warm_environment())
                    write_json(outcome(story), found)
                    return
        time.sleep(0.5)

    def tell(story):
        while not outcome(story).exists():
            play_one(dict.fromkeys([story, *(name for name in STORIES if name not in LONG)]))
        return json.loads(outcome(story).read_text())

    return tell
