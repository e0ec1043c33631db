"""`propose` with a store in a real S3 that takes nothing for a while, and what the verbs ask of it."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from loop_project import DEAD_SERVER, ROOT, Project, make_project
from serve_process import START, running

from mergeline.serve.run import CACHE_FOLDER, open_listener
from toy_data import toy_params, write_months

if TYPE_CHECKING:
    from faulty_s3 import Proxy

pytestmark = pytest.mark.slow(minutes=2)


@pytest.fixture
def project(tmp_path, s3: Proxy) -> Project:
    """The toy problem with its store in S3, below a name of its own; nothing is released yet."""
    write_months(tmp_path / "work" / "data", rows=1500)
    params = toy_params(tracking={"uri": DEAD_SERVER}).model_dump(mode="json", by_alias=True)
    made = make_project(tmp_path / "work", ROOT / "engine" / "tests" / "packages" / "toy", params)
    address = f"s3://shop/{tmp_path.name}/models"
    assert made.run("dvc", "remote", "modify", "store", "url", address).returncode == 0
    return made


def test_a_store_that_takes_nothing_is_told_in_time_and_the_next_proposal_brings_all(project, s3: Proxy):
    (address,) = (line.split()[1] for line in project.run("dvc", "remote", "list").stdout.splitlines())
    before = project.state()
    for fault, reason, seconds in (
        ("403 writes", "Access Denied", 120),  # with training, on a busy machine
        ("503 writes", "try again", 120),
        ("silent writes", "it has been silent for 120 s", 240),
    ):
        started = time.monotonic()
        with s3.failing(fault):
            told = project.mergeline("propose", code=1).stderr
        assert time.monotonic() - started < seconds
        last = told[told.rindex("mergeline: ") :]
        assert last.startswith(f"mergeline: {address} (dvc push): the store took no new objects: "), told
        assert reason in last
        assert "propose again" in last
        assert (f"{address} has not taken everything after 1" in told) or fault != "silent writes"
        assert "Traceback" not in told
        assert project.state() == before

    assert "took no new objects" not in project.mergeline("propose").stderr
    project.commit_all("First model")
    project.mergeline("verify")


OBJECTS, LISTED = 6000, 6
"""Objects beside those of the test, and requests that list them."""


def fill(address: str) -> None:
    """Put many small objects into a store, as years of releases do."""
    import fsspec

    system, folder = fsspec.url_to_fs(address)
    contents = {
        hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(): text.encode()
        for text in map(str, range(OBJECTS))
    }
    system.pipe({f"{folder}/files/md5/{name[:2]}/{name[2:]}": content for name, content in contents.items()})


def asked(s3: Proxy, work) -> Counter[str]:
    """How many requests of each kind reach the store meanwhile."""
    s3.requests.clear()
    work()
    return Counter(request.partition(" ")[0] for request in s3.requests)


def start_a_server(project: Project, address: str) -> None:
    """A server that has no model yet, until it is ready."""
    shutil.rmtree(project.root / CACHE_FOLDER, ignore_errors=True)
    with open_listener("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    scratch = project.root.parent / f"scratch-{time.monotonic_ns()}"
    scratch.mkdir()
    command = [sys.executable, "-c", START, str(project.root), str(port), "", address]
    environment = {**project.environment, "TMPDIR": str(scratch)}
    with running(command, f"http://127.0.0.1:{port}", scratch / "log", environment) as server:
        server.wait(server.ready)
        assert server.status["stable"]["version"] == 1


def test_what_is_asked_of_the_store_does_not_grow_with_it(project, s3: Proxy):
    (address,) = (line.split()[1] for line in project.run("dvc", "remote", "list").stdout.splitlines())
    project.mergeline("propose")
    project.commit_all("First model")

    def seeded(seed: int) -> None:
        """Other models, alike in the number of their files."""
        project.set_params(model={"seed": seed})
        project.mergeline("propose")
        project.git.run("checkout", "--quiet", ".")

    def look(seed: int) -> dict[str, Counter[str]]:
        return {
            "server": asked(s3, lambda: start_a_server(project, address)),
            "verify": asked(s3, lambda: project.mergeline("verify")),
            "unchanged": asked(s3, lambda: project.mergeline("propose")),
            "propose": asked(s3, lambda: seeded(seed)),
        }

    few = look(5)
    fill(address)
    many = look(6)
    assert few["server"] == many["server"]
    assert set(few["server"]) <= {"GET", "HEAD"}
    assert few["verify"] == many["verify"]
    for verb in ("unchanged", "propose"):
        # Of a large store DVC lists one part alone, and asks for each object of its own, which are some thirty.
        assert many[verb]["GET"] < few[verb]["GET"] + LISTED, (few, many)
        assert many[verb].total() < 2 * few[verb].total(), (few, many)
