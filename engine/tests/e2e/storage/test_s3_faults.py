"""Store and journal in a real S3 that fails for a while: nothing is lost, and all goes on when the fault ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faulty_s3 import FAULTS, Proxy
from production_journal import END, START
from production_journal import Production as Watched
from serve_samples import Production
from test_reload import Server

from mergeline.errors import StoreError, WatchError
from mergeline.journal.sync import read_synced, sync_all
from mergeline.store.objects import Store, object_path

pytestmark = pytest.mark.slow(minutes=3)


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("dvc")), *arguments], cwd=folder, capture_output=True, text=True,
        check=False, timeout=200, env={**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "s")},
    )  # fmt: skip


@pytest.mark.parametrize("fault", ["503", "cut", "gone"])
def test_what_dvc_could_not_push_or_pull_comes_with_the_next_call(tmp_path, s3: Proxy, fault):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "model").mkdir(parents=True)
    for name in "abc":
        (here / "model" / name).write_bytes(name.encode() * 300_000 + fault.encode())
    url = f"s3://shop/{fault}/models"
    for words in (("init", "--no-scm", "-q"), ("remote", "add", "-d", "store", url), ("add", "model")):
        assert dvc(here, *words).returncode == 0
    with s3.failing(fault):
        assert dvc(here, "push").returncode != 0
    assert dvc(here, "push").returncode == 0
    md5 = (here / "model.dvc").read_text().partition("md5: ")[2].split()[0]
    Store(url).fetch_folder(object_path(md5), tmp_path / "fetched")
    assert (tmp_path / "fetched" / "c").read_bytes() == (here / "model" / "c").read_bytes()

    shutil.copytree(here, there, ignore=shutil.ignore_patterns("model", "cache", "s", "tmp"))
    with s3.failing(fault):
        assert dvc(there, "pull").returncode != 0
    assert dvc(there, "pull").returncode == 0
    assert sorted(path.name for path in (there / "model").iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_server_serves_on_and_takes_the_new_model_when_the_fault_ends(tmp_path, s3: Proxy, fault):
    production = Production(tmp_path)
    first, second = production.push(seed=1), production.push(seed=2)
    bucket = f"s3://shop/{fault}/store"
    for path in production.store.rglob("*"):
        if path.is_file():
            Store(bucket).put(path.relative_to(production.store).as_posix(), path)
    production.release(first)
    server = Server(production, store=bucket)
    wait_for(server, first.digest)
    production.release(second, 2)
    with s3.failing(fault):
        for _ in range(2):
            server.poll(31)
            assert server.digest == first.digest or fault == "slow"
    wait_for(server, second.digest)
    assert server.error is None


def wait_for(server: Server, digest: str) -> None:
    deadline = time.monotonic() + 150
    while server.digest != digest:
        assert time.monotonic() < deadline, server.error
        server.poll(31)
        time.sleep(0.1)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_journal_is_copied_whole_and_watched_there_as_it_is_here(tmp_path, s3: Proxy, fault):
    made = Watched(tmp_path)
    made.label(made.answer(START, END, 3000))
    address = f"s3://shop/{fault}/journal"
    files = {path.relative_to(made.journal).as_posix() for path in made.journal.rglob("*.parquet")}
    with s3.failing(fault):
        status = sync_all(made.journal, address, now=1000.0)
    if fault != "slow":
        assert (status.failures, status.copied, status.waiting) == (1, 0, len(files))
        assert read_synced(made.journal) == {}
        status = sync_all(made.journal, address, now=status.next_try)
    assert (status.failures, status.error, status.waiting) == (0, None, 0)
    assert read_synced(made.journal).keys() == files

    here = made.look()
    if fault != "slow":
        with s3.failing(fault), pytest.raises(WatchError):
            made.look(watch={"journal": address})
    assert repr(made.look(watch={"journal": address})) == repr(here)


def test_a_store_that_takes_a_connection_and_never_answers_ends_a_copy_in_time(tmp_path, s3: Proxy, monkeypatch):
    monkeypatch.setattr("mergeline.files.PUT_SECONDS", 2.0)
    (tmp_path / "object").write_bytes(b"content")
    store, started = Store("s3://shop/silent/store"), time.monotonic()
    with s3.failing("silent writes"), pytest.raises(StoreError, match="the store does not answer"):
        store.put("files/md5/9a/0364b9e99bb480dd25e1f0284c8555", tmp_path / "object")
    assert time.monotonic() - started < 20
    store.put("files/md5/9a/0364b9e99bb480dd25e1f0284c8555", tmp_path / "object")
    assert store.read("files/md5/9a/0364b9e99bb480dd25e1f0284c8555") == b"content"


@pytest.mark.parametrize("after", [0.3, 0.6])
def test_a_store_that_goes_away_while_it_is_read_is_an_error_and_no_damage(tmp_path, s3: Proxy, after):
    made = Watched(tmp_path)
    made.label(made.answer(START, END, 3000))
    address = f"s3://shop/{after}/journal"
    assert sync_all(made.journal, address).error is None
    here = repr(made.look())
    timer = threading.Timer(after, s3.turn, ["gone"])
    timer.start()
    try:
        found = repr(made.look(watch={"journal": address}))  # it may be through before
    except WatchError as error:
        found = error.what
    finally:
        timer.join()
        s3.turn("")
    assert found == here or "does not answer" in found or "cannot be read" in found
    assert repr(made.look(watch={"journal": address})) == here
