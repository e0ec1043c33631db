"""Merging, retention, readers and copies to object storage."""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from journal_samples import DAY, NOON, SIGNATURE, append, ids, settings

from mergeline.errors import MergelineError
from mergeline.journal.compactor import Kept, expired, keep, retain
from mergeline.journal.folders import KEEPER_LOCK, READING_LOCK, Keeping, exclusive, sealed_files, shared
from mergeline.journal.journal import Journal, Minder
from mergeline.journal.merge import merge_all, sources_of
from mergeline.journal.parquet_export import seal_all
from mergeline.journal.sync import read_status, read_synced, sync_all, wait_seconds
from mergeline.journal.window import held

FIRST_DAY = date(2026, 1, 1)


@pytest.fixture
def store():
    """A place in fsspec's own memory: object storage as far as the copying can see."""
    system = MemoryFileSystem()
    system.makedirs("/bucket", exist_ok=True)
    yield system
    system.rm("/bucket", recursive=True)


def segments(folder: Path, count: int, *, day: int = 0, name: str = "a", **values) -> list[str]:
    """So many sealed segments, of one record each; returns the ids."""
    names = [f"{name}-{day}-{number}" for number in range(count)]
    for key in names:
        journal = Journal(folder, settings(**values))
        append(journal.recorder(SIGNATURE), [key], time_ns=NOON + day * DAY)
        journal.close()
    seal_all(folder)
    return names


def stored(store: MemoryFileSystem) -> set[str]:
    return {path.removeprefix("/bucket/journal/") for path in store.find("/bucket")}


def local(folder: Path) -> set[str]:
    return {str(file.path.relative_to(folder)) for file in sealed_files(folder)}


class TestMerging:
    def test_the_files_of_a_day_that_is_over_become_one(self, folder):
        names = segments(folder, 3)
        assert merge_all(folder, FIRST_DAY + timedelta(days=1)) == 1
        (file,) = sealed_files(folder)
        assert ids(folder) == sorted(names)
        assert len(sources_of(file.path)) == 3
        assert pq.read_metadata(file.path).row_group(0).column(0).compression == "ZSTD"

    def test_what_comes_late_for_a_day_joins_it(self, folder):
        names = segments(folder, 2)
        merge_all(folder, FIRST_DAY + timedelta(days=1))
        names += segments(folder, 1, name="late")
        merge_all(folder, FIRST_DAY + timedelta(days=1))
        assert len(sealed_files(folder)) == 1
        assert ids(folder) == sorted(names)

    def test_todays_files_wait_until_there_are_sixteen(self, folder):
        names = segments(folder, 15)
        assert merge_all(folder, FIRST_DAY) == 0
        names += segments(folder, 1, name="b")
        assert merge_all(folder, FIRST_DAY) == 1
        assert len(sealed_files(folder)) == 1
        assert ids(folder) == sorted(names)

    def test_files_with_other_columns_are_not_merged(self, folder):
        segments(folder, 2)
        segments(folder, 2, name="dropped", drop=["carrier"])
        merge_all(folder, FIRST_DAY + timedelta(days=1))
        assert len(sealed_files(folder)) == 2

    def test_files_of_different_days_stay_apart(self, folder):
        segments(folder, 2)
        segments(folder, 2, day=1)
        merge_all(folder, FIRST_DAY + timedelta(days=9))
        assert [file.day for file in sealed_files(folder)] == [FIRST_DAY, FIRST_DAY + timedelta(days=1)]


class TestReaders:
    def test_files_are_not_merged_or_deleted_while_somebody_reads(self, folder):
        segments(folder, 3)
        keeping = Keeping(str(folder), keep_days=1)
        later = datetime(2026, 3, 1, tzinfo=UTC)
        segments(folder, 1, day=1)
        with held(str(folder)):
            keep(keeping, later)
            assert len(sealed_files(folder)) == 4
        keep(keeping, later)
        assert len(sealed_files(folder)) == 1

    def test_two_may_read_at_once(self, folder):
        segments(folder, 1)
        with held(str(folder)), held(str(folder)):
            assert len(ids(folder)) == 1

    def test_a_reader_ends_what_a_crash_interrupted(self, folder):
        names = segments(folder, 2)
        files = sealed_files(folder)
        merge_all(folder, FIRST_DAY + timedelta(days=1))
        (merged,) = sealed_files(folder)
        # As after a kill between the moment when the merged file counts and the deletion of its sources.
        hidden = merged.path.with_name(f".{merged.path.name}.ready")
        merged.path.rename(hidden)
        files[0].path.write_bytes(hidden.read_bytes())
        with held(str(folder)):
            assert ids(folder) == sorted(names)

    def test_a_folder_that_is_not_there_has_no_rows(self, tmp_path):
        with held(str(tmp_path / "nothing")):
            assert ids(tmp_path / "nothing") == []


class TestRetention:
    @given(
        files=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 100)), max_size=30),
        days=st.integers(1, 40),
        size=st.integers(1, 1000),
    )
    def test_what_is_kept_fits_and_is_the_newest(self, files, days, size):
        today = FIRST_DAY + timedelta(days=30)
        kept = [Kept(Path(str(i)), FIRST_DAY + timedelta(days=d), s, float(i)) for i, (d, s) in enumerate(files)]
        gone, rest = [], kept
        while now := expired(rest, today, days, size):  # a pass after another
            gone, rest = [*gone, *now], [file for file in rest if file not in now]
        assert sum(file.size for file in rest) <= size
        newest = max((file.day for file in kept), default=today)
        assert all(file.day > newest - timedelta(days=days) for file in rest)
        assert not rest or not gone or max(file.day for file in gone) <= min(file.day for file in rest)
        newest_gone = [file for file in gone if file.day > newest - timedelta(days=days)][-1:]
        assert all(sum(file.size for file in [*rest, last]) > size for last in newest_gone)  # no more than needed

    def test_a_clock_that_jumps_deletes_nothing_by_itself_and_a_day_at_once_when_rows_follow_it(self, folder):
        for day in range(4):
            segments(folder, 1, day=day)
        ahead = datetime(2036, 1, 1, tzinfo=UTC)
        keeping = Keeping(str(folder), keep_days=2)
        for _ in range(3):
            keep(keeping, ahead)
        assert [file.day.day for file in sealed_files(folder)] == [3, 4]  # the newest row's day and the one before

        segments(folder, 1, day=(ahead - datetime(2026, 1, 1, tzinfo=UTC)).days)
        status = keep(keeping, ahead)
        assert len(sealed_files(folder)) == 2
        assert status is not None
        assert status.expired_days == 1

    def test_old_days_go_with_their_folders(self, folder):
        segments(folder, 1)
        kept = segments(folder, 1, day=1)
        gone = retain(folder, FIRST_DAY + timedelta(days=1), keep_days=1, keep_bytes=10**9, copied=None)
        assert len(gone) == 1
        assert ids(folder) == kept
        assert [path.name for path in (folder / "predictions").iterdir()] == ["day=2026-01-02"]

    def test_what_is_not_copied_yet_is_not_deleted(self, folder):
        segments(folder, 2)
        segments(folder, 1, day=1)
        first, second, newest = (file.path for file in sealed_files(folder))
        copied = {str(first.relative_to(folder))}
        retain(folder, FIRST_DAY + timedelta(days=9), keep_days=1, keep_bytes=10**9, copied=copied)
        assert [file.path for file in sealed_files(folder)] == [second, newest]


class TestKeeper:
    def test_one_pass_seals_merges_and_deletes_and_says_so(self, folder):
        segments(folder, 2)
        for day in (8, 9):
            journal = Journal(folder, settings())
            append(journal.recorder(SIGNATURE), [f"{day}"], time_ns=NOON + day * DAY)
            journal.close()
        now = datetime(2026, 1, 10, 12, tzinfo=UTC)
        first = keep(Keeping(str(folder), keep_days=9), now)
        assert first is not None
        assert first.expired_days == 1
        status = keep(Keeping(str(folder), keep_days=9), now)
        assert ids(folder) == ["8", "9"]
        assert status is not None
        assert (status.sealed_predictions, status.deleted_files, status.files, status.error) == (2, 1, 2, None)
        assert status.bytes == sum(file.path.stat().st_size for file in sealed_files(folder))

    def test_a_second_keeper_leaves(self, folder):
        segments(folder, 1)
        started, ended = threading.Event(), threading.Event()

        def hold():
            with exclusive(folder / KEEPER_LOCK) as held:
                assert held
                started.set()
                ended.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        started.wait(10)
        assert keep(Keeping(str(folder)), datetime.now(UTC)) is None
        ended.set()
        holder.join()


class TestCopies:
    def test_sealed_files_are_copied_and_their_copies_can_be_read(self, folder, store):
        names = segments(folder, 2)
        status = sync_all(folder, "memory://bucket/journal")
        assert (status.copied, status.waiting, status.error) == (2, 0, None)
        assert stored(store) == local(folder)
        found = []
        for path in store.find("/bucket"):
            with store.open(path) as stream:
                found += pq.read_table(stream).column("_id").to_pylist()
        assert sorted(found) == names

    def test_only_what_is_new_is_copied(self, folder, store):
        segments(folder, 1)
        sync_all(folder, "memory://bucket/journal")
        (path,) = store.find("/bucket")
        made = store.created(path)
        segments(folder, 1, name="b")
        assert sync_all(folder, "memory://bucket/journal").copied == 2
        assert store.created(path) == made

    def test_a_merged_file_takes_the_place_of_its_sources(self, folder, store):
        segments(folder, 3)
        sync_all(folder, "memory://bucket/journal")
        merge_all(folder, FIRST_DAY + timedelta(days=1))
        sync_all(folder, "memory://bucket/journal")
        assert stored(store) == local(folder)
        assert len(stored(store)) == 1
        assert set(read_synced(folder)) == local(folder)

    def test_copies_go_though_the_file_between_them_and_the_merged_one_was_never_copied(self, folder, store):
        names = segments(folder, 2)
        sync_all(folder, "memory://bucket/journal")
        for name in ("b", "c"):  # the store is away meanwhile
            merge_all(folder, FIRST_DAY + timedelta(days=1))
            names += segments(folder, 1, name=name)
        merge_all(folder, FIRST_DAY + timedelta(days=1))
        sync_all(folder, "memory://bucket/journal")
        assert stored(store) == local(folder)
        assert ids(folder) == sorted(names)

    def test_a_copy_with_other_bytes_does_not_count(self, folder, store, monkeypatch):
        segments(folder, 1)

        def damaged(self, local_path, remote_path, **_):
            self.pipe_file(remote_path, Path(local_path).read_bytes()[:-1])

        monkeypatch.setattr(MemoryFileSystem, "put_file", damaged)  # a store that loses the last byte
        status = sync_all(folder, "memory://bucket/journal", now=1000.0)
        assert "other bytes" in (status.error or "")
        assert (status.copied, status.waiting) == (0, 1)
        assert read_synced(folder) == {}

    def test_a_store_that_is_away_is_tried_again_later_and_later(self, folder, tmp_path):
        segments(folder, 1)
        obstacle = tmp_path / "store"
        obstacle.write_text("a file where the folder should be")
        address = f"file://{obstacle}/journal"
        first = sync_all(folder, address, now=1000.0)
        assert (first.failures, first.failing_since, first.next_try, first.waiting) == (1, 1000.0, 1030.0, 1)
        assert sync_all(folder, address, now=1029.0) == first  # too early
        assert sync_all(folder, address, now=1030.0).next_try == 1090.0
        obstacle.unlink()
        healed = sync_all(folder, address, now=1090.0)
        assert (healed.failures, healed.error, healed.waiting) == (0, None, 0)
        assert read_status(folder) == healed
        assert len(list((tmp_path / "store" / "journal").rglob("*.parquet"))) == 1

    def test_a_clock_that_is_set_back_makes_no_wait_longer(self, folder, tmp_path):
        segments(folder, 1)
        obstacle = tmp_path / "store"
        obstacle.write_text("a file where the folder should be")
        year = 365 * 86_400.0
        sync_all(folder, f"file://{obstacle}/journal", now=year)
        obstacle.unlink()
        assert sync_all(folder, f"file://{obstacle}/journal", now=1000.0).copied == 1

    def test_the_wait_is_bounded(self):
        assert [wait_seconds(failures) for failures in (1, 2, 3, 100)] == [30.0, 60.0, 120.0, 1800.0]

    def test_an_unknown_kind_of_store_is_told(self, folder):
        segments(folder, 1)
        assert "nonsense" in (sync_all(folder, "nonsense://bucket").error or "")

    def test_retention_deletes_here_what_is_safe_there(self, folder, store):
        segments(folder, 1)
        segments(folder, 1, day=1)
        keeping = Keeping(str(folder), keep_days=1, sync="memory://bucket/journal")
        later = datetime(2026, 3, 1, tzinfo=UTC)
        keep(keeping, later)
        assert len(sealed_files(folder)) == 2
        sync_all(folder, keeping.sync or "")
        keep(keeping, later)
        assert len(sealed_files(folder)) == 1
        assert len(stored(store)) == 2


@pytest.mark.slow
def test_a_server_seals_and_copies_by_itself(folder, tmp_path):
    journal = Journal(folder, settings(seal_seconds=0.2, sync=f"file://{tmp_path}/store"))
    journal.start()
    append(journal.recorder(SIGNATURE), ["a"])
    journal.close(seconds=30)
    assert [path.parent.parent.name for path in (tmp_path / "store").rglob("*.parquet")] == ["day=2026-01-01"]
    assert journal.status()["keeper"]["sync"] == {
        "to": f"file://{tmp_path}/store",
        "copied": 1,
        "waiting": 0,
        "error": None,
    }


def test_a_keeper_that_can_write_nothing_at_all_is_told(full_disk):
    folder = full_disk.folder / "journal"
    journal = Journal(folder, settings())
    append(journal.recorder(SIGNATURE), ["a"], time_ns=NOON)
    journal.close()
    minder = Minder(Keeping(str(folder), seal_seconds=0.0))
    full_disk.fill()
    minder.tick()
    end = time.monotonic() + 30
    while minder.status()["error"] is None and time.monotonic() < end:
        time.sleep(0.05)
        minder.tick()
    assert minder.status()["error"].startswith("the last pass ended with 1")
    full_disk.make_room()
    while minder.status()["error"] is not None and time.monotonic() < end:
        time.sleep(0.05)
        minder.tick()
    minder.finish(10, last_pass=True)
    assert (minder.status()["error"], ids(folder)) == (None, ["a"])


def test_a_foreign_lock_is_told_with_how_to_find_its_holder(tmp_path):
    lock = tmp_path / READING_LOCK
    with exclusive(lock), pytest.raises(MergelineError, match=r"held the journal's lock.*\n.*fuser"):
        shared(lock, seconds=0.1).__enter__()
    with shared(lock, seconds=0.1), shared(lock, seconds=0.1):
        pass
