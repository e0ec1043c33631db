"""Full disks, killed workers and damaged segments: what the journal loses, and that it says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
from journal_samples import NOON, SIGNATURE, append, ids, settings, written
from pyarrow import parquet

from mergeline.journal.compactor import keep
from mergeline.journal.folders import Keeping, sealed_files
from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.journal.parquet_export import has_closed_segments, seal_all
from mergeline.journal.wal_format import HEADER_BYTES, Found, Layout, read_segment
from mergeline.journal.wal_writer import DECLARE_BYTES, JournalError, Writer
from odd_files import make_odd


class TestDisk:
    def test_a_full_disk_stops_the_journal_and_not_the_answers_and_heals(self, full_disk, monkeypatch):
        folder, fill, make_room = full_disk.folder / "journal", full_disk.fill, full_disk.make_room
        monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.05)
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)
        append(recorder, ["before"])
        fill()
        lost = 0
        while append(recorder, [f"lost-{lost}"]) is not None:  # the page that is begun still takes some
            lost += 1
        assert not journal.is_writing
        assert journal.status()["error"]["what"] == "No space left on device"
        assert journal.counts.lost_predictions == 1
        make_room()
        threading.Event().wait(0.1)
        journal.tend()
        assert journal.is_writing
        append(recorder, ["after"])
        journal.close()
        seal_all(folder)
        assert ids(folder) == sorted(["before", "after", *(f"lost-{number}" for number in range(lost))])

    def test_a_full_disk_stops_the_answers_where_the_params_say_so(self, full_disk):
        journal = Journal(full_disk.folder / "journal", settings(when_full="stop_answering"))
        recorder = journal.recorder(SIGNATURE)
        full_disk.fill()
        many = [f"id-{number}" for number in range(200)]  # more than what is left of a page
        with pytest.raises(JournalError, match=r"No space left(.|\n)*make room"):
            append(recorder, many)
        journal.close()

    def test_labels_are_refused_rather_than_lost(self, tmp_path):
        (tmp_path / "journal").write_text("a file where the folder should be")
        journal = Journal(tmp_path / "journal", settings())
        with pytest.raises(JournalError):
            journal.feedback([Feedback("a", "true", None)], NOON)
        journal.close()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder_is_no_error_and_heals(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.0)
        tmp_path.chmod(0o555)
        journal = Journal(tmp_path / "journal", settings())
        recorder = journal.recorder(SIGNATURE)
        assert append(recorder, ["lost"]) is None
        tmp_path.chmod(0o755)
        assert append(recorder, ["a"]) is not None
        journal.close()

    def test_a_journal_that_cannot_be_made_is_no_error_and_heals(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.0)
        obstacle = tmp_path / "journal"
        obstacle.write_text("a file where the folder should be")
        journal = Journal(obstacle, settings(hash=["tailnum"]))
        recorder = journal.recorder(SIGNATURE)
        assert append(recorder, ["lost"]) is None
        assert not journal.is_writing
        obstacle.unlink()
        assert append(recorder, ["a"]) is not None
        assert journal.is_writing
        journal.close()
        seal_all(obstacle)
        assert ids(obstacle) == ["a"]

    def test_a_folder_that_was_deleted_is_made_again(self, folder):
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)
        append(recorder, ["gone"])
        for path in (folder / "live").iterdir():
            path.unlink()
        journal.tend()
        append(recorder, ["a"])
        journal.close()
        seal_all(folder)
        assert ids(folder) == ["a"]


class TestWorkers:
    def test_a_segment_that_a_server_holds_is_left_alone(self, folder):
        journal = Journal(folder, settings())
        append(journal.recorder(SIGNATURE), ["a"])
        assert seal_all(folder).segments == 0
        journal.close()
        assert seal_all(folder).segments == 1
        assert ids(folder) == ["a"]

    def test_a_segment_that_its_server_has_just_deleted_stops_no_other(self, folder):
        written(folder, ["a"])
        (folder / "live" / "0-gone.log").symlink_to("nowhere")  # it is listed, and cannot be opened
        assert seal_all(folder).segments == 1
        assert ids(folder) == ["a"]

    def test_the_segment_of_a_killed_worker_is_sealed_by_another(self, folder):
        script = (
            "import os, sys; sys.path[:0] = sys.argv[2:]\n"
            "from pathlib import Path\n"
            "from journal_samples import *\n"
            "journal = Journal(Path(sys.argv[1]), settings())\n"
            "append(journal.recorder(SIGNATURE), ['a'])\n"
            "os.kill(os.getpid(), 9)\n"
        )
        killed = subprocess.run([sys.executable, "-c", script, folder, *sys.path], check=False)
        assert killed.returncode == -9
        journal = Journal(folder, settings())
        append(journal.recorder(SIGNATURE), ["b"])
        seal_all(folder)
        assert ids(folder) == ["a"]
        journal.close()

    def test_two_workers_write_segments_of_their_own(self, folder):
        journals = [Journal(folder, settings()) for _ in range(2)]
        for number, journal in enumerate(journals):
            append(journal.recorder(SIGNATURE), [f"worker {number}"])
        for journal in journals:
            journal.close()
        assert seal_all(folder).segments == 2
        assert ids(folder) == ["worker 0", "worker 1"]

    def test_threads_may_append_at_once(self, folder):
        journal = Journal(folder, settings())
        recorder = journal.recorder(SIGNATURE)

        def work(name):
            for number in range(200):
                append(recorder, [f"{name}-{number}"])

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        journal.close()
        seal_all(folder)
        assert ids(folder) == sorted(f"{name}-{number}" for name in "abcd" for number in range(200))

    def test_an_idle_server_leaves_no_segment_behind(self, folder):
        journal = Journal(folder, settings(seal_seconds=1e-9))
        append(journal.recorder(SIGNATURE), ["a"])
        journal.tend()
        journal.tend()  # the second segment is empty, and stays
        journal.close()
        assert len(list((folder / "live").glob("*"))) == 1


@pytest.mark.parametrize("kind", ["folder", "FIFO", "loop", "socket", "/dev/zero"])
def test_what_stands_in_a_segments_place_is_told_and_stops_no_other(folder, kind):
    written(folder, ["a"])
    make_odd(folder / "live" / "0-odd.log", kind)
    status = keep(Keeping(str(folder)), datetime.now(UTC))
    assert (ids(folder), status.sealed_predictions) == (["a"], 1)
    assert "0-odd.log" in status.error
    assert not has_closed_segments(folder)


def test_a_segment_of_holes_is_read_to_a_bound_and_kept_aside(folder, monkeypatch):
    monkeypatch.setattr("mergeline.journal.wal_format.MOST_BYTES", 8 << 20)
    path = written(folder, ["a"], ["b"])
    os.truncate(path, 1 << 40)
    begun = time.monotonic()
    status = keep(Keeping(str(folder)), datetime.now(UTC))
    assert time.monotonic() - begun < 5
    assert (ids(folder), status.damaged_segments) == (["a", "b"], 1)
    assert (folder / "damaged" / path.name).exists()


@pytest.mark.parametrize("length", [0, 4, 300, -1, None])
def test_a_sealed_file_that_is_damaged_is_told_and_stops_nothing_else(folder, length):
    for names in (["a"], ["b"], ["c"]):
        written(folder, names)
        seal_all(folder)
    damaged, *whole = (file.path for file in sealed_files(folder))
    kept = [row for path in whole for row in parquet.read_table(path, columns=["_id"]).column(0).to_pylist()]
    if length is None:
        content = bytearray(damaged.read_bytes())
        content[4:200] = bytes(196)  # the pages, and not the footer
        damaged.write_bytes(content)
    else:
        damaged.write_bytes(damaged.read_bytes()[:length])
    before = damaged.read_bytes()
    written(folder, ["d"])
    status = keep(Keeping(str(folder)), datetime.now(UTC))
    assert status.sealed_predictions == 1
    assert "day=2026-01-01" in status.error
    assert damaged.read_bytes() == before
    assert not list(folder.rglob("*.draft"))
    damaged.unlink()
    status = keep(Keeping(str(folder)), datetime.now(UTC))
    assert status.error is None
    assert ids(folder) == sorted([*kept, "d"])


@pytest.mark.parametrize("at", range(20))
def test_damage_to_a_segments_header_costs_no_row_and_is_told(folder, at):
    path = written(folder, ["a"], ["b"])
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(bytes(content))
    assert seal_all(folder).damaged == 1
    assert ids(folder) == ["a", "b"]
    assert (folder / "damaged" / path.name).exists()


def test_a_lost_declaration_costs_no_row_since_it_is_repeated(folder):
    path = written(folder, ["a"], ["b"])
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 20] ^= 0xFF
    path.write_bytes(bytes(content))
    assert seal_all(folder).damaged == 1
    assert ids(folder) == ["a", "b"]


def test_a_server_that_is_killed_has_repeated_its_declarations(folder):
    writer = Writer(folder / "live", seal_seconds=3600)
    layout = (0, Layout((("temp", "number"),), (), False, ()))
    for _ in range(3):
        writer.append(b"\x91\x01" + bytes(DECLARE_BYTES // 2), layout)
        writer.tend()
    (path,) = (folder / "live").glob("*.log")
    with path.open("rb") as stream:
        found = [each for each in read_segment(stream) if isinstance(each, Found)]
    assert sum(each.is_wanted_first for each in found) == 2
    writer.close()
