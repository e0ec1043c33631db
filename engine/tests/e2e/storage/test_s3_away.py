"""A server keeps answering while the store and the journal's copies are out of reach, and makes up for it after."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from serve_clients import Clients
from serve_process import serving
from serve_samples import RECORD, Production

from mergeline.journal.sync import read_status, read_synced
from mergeline.journal.window import Clock, find_journal
from mergeline.store.objects import Store

if TYPE_CHECKING:
    from faulty_s3 import Proxy

pytestmark = pytest.mark.slow(minutes=4)

AWAY_SECONDS = 60


@pytest.mark.parametrize("fault", ["gone", "silent"])
def test_a_minute_without_s3_loses_no_row_and_no_release(tmp_path, s3: Proxy, fault):
    production = Production(tmp_path)
    first, second = production.push(seed=1), production.push(seed=2)
    store, journal = f"s3://shop/away-{fault}/store", f"s3://shop/away-{fault}/journal"
    for path in production.store.rglob("*"):
        if path.is_file():
            Store(store).put(path.relative_to(production.store).as_posix(), path)
    production.release(first)
    folder = tmp_path / "journal"
    with serving(production, store=store, journal={"sync": journal, "seal_seconds": 5}) as server:
        server.wait(lambda: server.ready() and server.status["stable"]["digest"] == first.digest)
        with Clients(server.url, count=2, record=RECORD) as clients:
            server.wait(lambda: read_synced(folder))
            with s3.failing(fault):
                began = time.monotonic()
                production.release(second, 2)
                if fault == "gone":  # silence is waited for longer than this minute, by reads and by copies
                    server.wait(lambda: server.status["error"] is not None, seconds=AWAY_SECONDS)
                    server.wait(lambda: read_status(folder).failures > 0, seconds=2 * AWAY_SECONDS)
                time.sleep(max(0.0, AWAY_SECONDS - (time.monotonic() - began)))
                assert server.status["stable"]["digest"] == first.digest
            server.wait(lambda: server.status["stable"]["digest"] == second.digest, seconds=240)
            server.wait(lambda: server.status["error"] is None, seconds=30)
        assert {each.status for each in clients.told} == {200}
        assert not clients.cut
        assert max(each.seconds for each in clients.told) < 5
        asked = {each.id for each in clients.told}
        now = datetime.now(UTC)

        def copied() -> bool:
            import duckdb
            import fsspec

            fsspec.get_filesystem_class("s3").clear_instance_cache()  # another process that looks has no old listing
            found = find_journal(duckdb.connect(), journal, now - timedelta(days=1), now, Clock.ARRIVAL)
            return not found.unreadable and sum(file.rows for file in found.files) == len(asked)

        server.wait(copied, seconds=240)
