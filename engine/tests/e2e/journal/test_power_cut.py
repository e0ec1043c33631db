"""The power goes while servers write: then the disk is a copy of its image, with nothing of what was in memory."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from journal_samples import rows

from mergeline.journal.parquet_export import seal_all

pytestmark = pytest.mark.slow

CUTS = int(os.environ.get("MERGELINE_POWER_CUTS", "6"))

SERVER = """
import os, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from journal_samples import SIGNATURE, answers, batch
from mergeline.journal.journal import Journal
from mergeline.params import JournalParams

journal = Journal(Path(sys.argv[1]), JournalParams(seal_seconds=0.3, fsync=sys.argv[3] == "fsync"))
journal.start()
recorder = journal.recorder(SIGNATURE)
told = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(10**9):
    key = f"{os.getpid()}-{number}"
    assert recorder.append(batch([key]), answers([key]), ("stable",), time.time_ns()) is not None
    os.write(told, f"{key}\\n".encode())  # the answer
    if number % 20 == 0:
        time.sleep(0.002)
"""


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this user may not mount an image: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    made = tmp_path / "disk.img"
    with made.open("wb") as stream:
        stream.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", made], check=True)
    return made


@pytest.mark.parametrize("way", ["fsync", "default"])
def test_after_a_power_cut_every_row_is_there_once_and_with_fsync_every_answered_one(tmp_path, image, way):
    dice, cut, answered = random.Random(way), tmp_path / "cut.img", tmp_path / "answered"
    answered.mkdir()
    lost_at_all = False
    for number in range(CUTS):
        with mounted(image, tmp_path / "disk") as disk:
            arguments = [str(disk / "journal"), str(answered / f"{number}"), way, *sys.path]
            server = subprocess.Popen([sys.executable, "-c", SERVER, *arguments], start_new_session=True)
            wait_for(answered / f"{number}")
            time.sleep(dice.uniform(0.2, 1.5))
            os.killpg(server.pid, signal.SIGSTOP)
            received = {path.name: path.read_text().rpartition("\n")[0].splitlines() for path in answered.iterdir()}
            shutil.copyfile(image, cut)  # what the disk holds now; the rest was in memory
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        cut.replace(image)
        with mounted(image, tmp_path / "disk") as disk:
            seal_all(disk / "journal")
            times = Counter(row["_id"] for row in rows(disk / "journal"))
        assert [key for key, count in times.items() if count > 1] == []
        keys = [key for path in received.values() for key in path]
        lost = [key for key in keys if key not in times]
        lost_at_all |= bool(lost)
        assert len(keys) > 100 * (number + 1)
        if way == "fsync":
            assert lost == []
            # Of each server at most the one request that was written, and not answered yet.
            assert len(times) - len(keys) <= number + 1
    assert lost_at_all == (way == "default"), "without fsync the last moment is lost, or this is no power cut"


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < 2000:
        assert time.monotonic() < end
        time.sleep(0.05)
