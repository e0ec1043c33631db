"""Whatever is interrupted, and wherever: every row is there once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from journal_samples import DAY, NOON, SIGNATURE, answers, append, ids, rows, written
from journal_samples import settings as journal_settings

from mergeline.journal.folders import LIVE, partitions
from mergeline.journal.journal import Journal
from mergeline.journal.merge import merge_partition, recover
from mergeline.journal.parquet_export import seal_all
from mergeline.journal.wal_format import Found, Gap, read_segment


def test_a_segment_cut_at_any_byte_gives_back_its_whole_records(tmp_path):
    whole = written(tmp_path / "journal", ["a"], ["b", "c"], ["d"]).read_bytes()
    ends = []
    with (path := tmp_path / "whole").open("w+b") as stream:
        stream.write(whole)
        found = [each for each in read_segment(stream) if isinstance(each, Found)]
        ends = [each.at for each in found[1:]] + [len(whole)]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with path.open("rb") as stream:
            read = list(read_segment(stream))
        kept = [each for each in read if isinstance(each, Found)]
        assert kept == found[: sum(end <= cut for end in ends)], cut
        gaps = [each for each in read if isinstance(each, Gap)]
        assert len(gaps) == (cut not in (0, found[0].at, *ends)), cut
        assert all(gap.is_torn for gap in gaps if gap.at), cut


@settings(max_examples=60)
@given(data=st.data())
def test_damage_in_the_middle_costs_the_records_that_it_hits_and_no_others(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    path = written(folder, *([f"{number}"] for number in range(6)))
    whole = path.read_bytes()
    with path.open("rb") as stream:
        starts = [each.at for each in read_segment(stream)]
    first = data.draw(st.integers(starts[1], len(whole) - 1))  # the first record is the layout
    last = data.draw(st.integers(first, min(first + 40, len(whole) - 1)))
    path.write_bytes(whole[:first] + bytes(byte ^ 0xFF for byte in whole[first : last + 1]) + whole[last + 1 :])
    bounds = pairwise(starts[1:])  # the last record is the layout once more
    kept = [f"{number}" for number, (start, end) in enumerate(bounds) if end <= first or start > last]
    seal_all(folder)
    assert ids(folder) == kept
    if first not in range(starts[-1] + 4, starts[-1] + 8):  # a wrong length of the last record looks like half of it
        assert (folder / "damaged" / path.name).exists()


def test_a_clients_bytes_cannot_look_like_a_record(tmp_path):
    innocent = written(tmp_path / "other", ["forged"])
    forged = innocent.read_bytes().decode("latin-1")
    journal = Journal(tmp_path / "journal", journal_settings())
    append(journal.recorder(SIGNATURE), [forged])
    journal.close()
    (path,) = (tmp_path / "journal" / LIVE).glob("*.log")
    content = bytearray(path.read_bytes())
    content[60] ^= 1  # so that the reader must look for the next record, inside what the client sent
    path.write_bytes(bytes(content))
    seal_all(tmp_path / "journal")
    assert "forged" not in ids(tmp_path / "journal")


class Journalling(RuleBasedStateMachine):
    """Servers that write and die, and keepers that seal and merge, in any order."""

    def __init__(self):
        super().__init__()
        self.folder = Path(os.environ["MERGELINE_TEST_FOLDER"]) / os.urandom(8).hex()
        self.expected: list[str] = []
        self.number = 0
        self.journal: Journal | None = None

    def teardown(self):
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def server(self) -> Journal:
        self.journal = self.journal or Journal(self.folder, journal_settings())
        return self.journal

    @rule(records=st.integers(1, 3), day=st.integers(0, 1), role=st.sampled_from(["stable", "candidate"]))
    def answer(self, records, day, role):
        names = [f"{self.number}.{index}" for index in range(records)]
        self.number += 1
        append(self.server().recorder(SIGNATURE), names, time_ns=NOON + day * DAY, role=role)
        self.expected += names

    @rule(cut=st.integers(1, 10_000))
    def die_in_the_middle_of_a_request(self, cut):
        journal = self.server()
        before = {path: path.stat().st_size for path in (self.folder / LIVE).glob("*.log")}
        append(journal.recorder(SIGNATURE), [f"unanswered-{self.number}"])
        self.number += 1
        after = {path: path.stat().st_size for path in (self.folder / LIVE).glob("*.log")}
        journal.close()
        self.journal = None
        for path, whole in after.items():
            kept = before.get(path, 0)
            if whole > kept:  # of the last request any part may have reached the disk, but not all
                os.truncate(path, kept + cut % (whole - kept))

    @rule()
    def stop(self):
        self.server().close()
        self.journal = None

    @rule()
    def seal(self):
        seal_all(self.folder)

    @rule(over=st.booleans())
    def merge(self, over):
        for _, place in partitions(self.folder, "predictions"):
            merge_partition(place, self.folder / LIVE, over=over)

    @rule()
    def look_for_what_was_interrupted(self):
        recover(self.folder)

    @invariant()
    def every_answered_prediction_is_there_once(self):
        if self.journal is None:
            seal_all(self.folder)
            assert ids(self.folder) == sorted(self.expected)


def test_any_order_of_requests_deaths_seals_and_merges_keeps_every_answer_once(tmp_path, monkeypatch):
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setenv("MERGELINE_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr("mergeline.journal.merge.MERGE_AT", 2)
    run_state_machine_as_test(Journalling, settings=settings(max_examples=20, stateful_step_count=15))


CRASH = """
import os, sys
sys.modules["numpy"] = sys.modules["pandas"] = None
from datetime import date
from pathlib import Path
import shutil
import pyarrow.parquet
from mergeline.journal import merge
from mergeline.journal.parquet_export import seal_all

merge.MERGE_AT = 2
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}

def work(folder, until):
    left = until
    def hook(event, arguments):
        nonlocal left
        if event in STEPS and (event != "open" or (isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), 9)
    sys.addaudithook(hook)
    seal_all(folder)
    merge.merge_all(folder, date(2026, 1, 2))
    left = 10**9

source, target = map(Path, sys.argv[1:3])
until = 0
while True:
    copy = target / str(until)
    shutil.copytree(source, copy)
    child = os.fork()
    if child == 0:
        work(copy, until)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended == 0:
        break
    assert ended == -9, ended
    until += 1
print(until)
"""


@pytest.mark.slow
def test_a_kill_at_any_step_of_sealing_and_merging_neither_loses_nor_doubles_a_row(tmp_path):
    source = tmp_path / "source"
    names = []
    for number in range(4):
        journal = Journal(source, journal_settings())
        recorder = journal.recorder(SIGNATURE)
        for day in (0, 1):
            ticket = append(recorder, [f"{number}-{day}"], time_ns=NOON + day * DAY)
            journal.shadow(ticket, answers([f"{number}-{day}"], "candidate", 0.9))
            names.append(f"{number}-{day}")
        journal.close()
        if number == 1:
            seal_all(source)
    done = subprocess.run([sys.executable, "-c", CRASH, source, tmp_path], capture_output=True, text=True, check=True)
    steps = int(done.stdout)
    assert steps > 20
    for step in range(steps + 1):
        folder = tmp_path / str(step)
        seal_all(folder)  # whoever comes next
        assert ids(folder) == sorted(names), step
        assert {row["_shadow_score"] for row in rows(folder)} == {0.9}, step
        left = [path.name for path in folder.rglob("*") if path.name.startswith(".")]
        assert left == [], step


SERVER = """
import os, sys; sys.path[:0] = sys.argv[2:]
import time
from pathlib import Path
from journal_samples import SIGNATURE, append
from mergeline.params import JournalParams
from mergeline.journal.journal import Journal

journal = Journal(Path(sys.argv[1]), JournalParams(seal_seconds=0.3))
journal.start()
recorder = journal.recorder(SIGNATURE)
number = 0
while True:
    name = f"{os.getpid()}-{number}"
    append(recorder, [name], time_ns=time.time_ns())
    os.write(1, (name + "\\n").encode())  # the answer
    number += 1
    if number % 50 == 0:
        time.sleep(0.001)
"""


@pytest.mark.slow
def test_kill_9_under_load_loses_no_answered_prediction(tmp_path):
    folder, answered = tmp_path / "journal", []
    for lifetime in (1.5, 0.7, 2.5):
        command = [sys.executable, "-c", SERVER, folder, *sys.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as server:
            assert server.stdout
            answered.append(server.stdout.readline())  # it serves
            os.set_blocking(server.stdout.fileno(), False)
            end = time.monotonic() + lifetime
            while time.monotonic() < end:
                answered.append(server.stdout.read() or b"")
                time.sleep(0.01)
            os.killpg(server.pid, signal.SIGKILL)  # the server, and its keeper wherever that stands
            os.set_blocking(server.stdout.fileno(), True)
            answered.append(server.stdout.read())
    received = b"".join(answered).decode().split()
    assert len(received) > 1000
    for _ in range(100):  # a keeper that the kill missed may hold the lock still
        seal_all(folder)
        if not list((folder / LIVE).iterdir()):
            break
        time.sleep(0.1)
    journalled = ids(folder)
    assert len(journalled) == len(set(journalled))
    assert set(received) <= set(journalled)
    # Of each server at most the one request that was journalled, and not answered yet.
    assert len(journalled) - len(received) <= 3


def test_a_crash_before_the_segment_is_deleted_does_not_double_its_rows(tmp_path):
    segment = written(tmp_path, ["a"], ["b"])
    content = segment.read_bytes()
    seal_all(tmp_path)
    segment.write_bytes(content)  # the Parquet file is there, and the segment too
    for _, place in partitions(tmp_path, "predictions"):
        merge_partition(place, tmp_path / LIVE, over=True)
    seal_all(tmp_path)
    assert ids(tmp_path) == ["a", "b"]


def test_a_segment_that_cannot_be_read_is_kept_aside_and_stops_no_other(tmp_path):
    (tmp_path / LIVE).mkdir()
    (tmp_path / LIVE / "0-strange-000001.log").write_bytes(b"something else altogether")
    journal = Journal(tmp_path, journal_settings())
    append(journal.recorder(SIGNATURE), ["a"])
    journal.close()
    sealed = seal_all(tmp_path)
    assert ids(tmp_path) == ["a"]
    assert sealed.segments == 2
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / LIVE).iterdir())
