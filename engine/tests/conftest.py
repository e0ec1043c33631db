"""How every test runs."""

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from mergeline.process import prepare

# One suite, one result: examples are the same in every run, and a slow machine is not a failure.
# `make test` tries a quarter of the examples that `make test-thorough` does.
settings.register_profile("thorough", deadline=None, derandomize=True, database=None)
settings.register_profile("quick", settings.get_profile("thorough"), max_examples=25)
settings.load_profile("quick")

# As verbs do; and one thread for each of the processes that share the cores.
prepare()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A test's repository lives for seconds: git tidies nothing up, waits for no disk, and brings no sample hooks.
_GIT = {"maintenance.auto": "false", "core.fsync": "none"}
os.environ |= {"GIT_TEMPLATE_DIR": "", "GIT_CONFIG_COUNT": str(len(_GIT))}
for _number, (_name, _value) in enumerate(_GIT.items()):
    os.environ |= {f"GIT_CONFIG_KEY_{_number}": _name, f"GIT_CONFIG_VALUE_{_number}": _value}


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """One worker takes all that share a fixture; the longest first, lest one core wait for the last of them."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (shared := _shared(item)):
            item.add_marker(pytest.mark.xdist_group(shared))
    yield
    items.sort(key=_minutes, reverse=True)


def _minutes(item):
    """How long it takes, about: what its mark says, as slow(minutes=4)."""
    slow = item.get_closest_marker("slow")
    return slow.kwargs.get("minutes", 1) if slow else 0


def _shared(item):
    """The module or class that something it needs is made once for: in two workers it would be made twice."""
    made = getattr(item, "_fixtureinfo", None)
    scopes = {last.scope for *_, last in made.name2fixturedefs.values()} if made else set()
    if "module" in scopes:
        return item.path.stem
    return f"{item.path.stem}.{item.cls.__name__}" if "class" in scopes and item.cls else None


def pytest_collection_finish():
    """What was imported stays: looking through it for garbage again and again would take a tenth of the time."""
    gc.collect()
    gc.freeze()


class FullDisk(NamedTuple):
    """A disk of 40 MB, and what fills it and makes room again."""

    folder: Path
    fill: Callable[[], None]
    make_room: Callable[[], None]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[FullDisk]:
    """A disk of its own, which is empty at first."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    ballast = folder / "ballast"

    def fill() -> None:
        with ballast.open("ab", buffering=0) as stream:
            try:
                while stream.write(b"x" * 4096):
                    pass
            except OSError:
                return

    yield FullDisk(folder, fill, ballast.unlink)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def known_to_git(monkeypatch):
    """Git knows who commits, also where the machine has told it nobody."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.com")
