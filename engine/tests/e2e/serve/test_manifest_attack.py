"""A manifest that is another thing a hundred times a second: the server serves on, and ends with what stays."""

from __future__ import annotations

import random
import shutil
import time
from contextlib import suppress

import psutil
import pytest
from serve_clients import Clients
from serve_process import serving
from serve_samples import Production

from odd_files import make_odd

pytestmark = pytest.mark.slow

SECONDS, A_SECOND = 10.0, 100
ODD = ["FIFO", "folder", "holes", "loop", "socket", "/dev/zero", "/proc/self/mem", "nowhere"]
TEXTS = [b"", b"\0" * 4096, b"# x\n" * 2_500_000, b"\xff\xfe", b"spec: &a [*a]", b"a: " * 10_000, b"[" * 100_000]


def test_it_serves_on_and_ends_with_what_stays(tmp_path):
    production, chance = Production(tmp_path), random.Random(14)
    first, second = (production.push(seed=seed, compiled=True) for seed in (1, 2))
    texts = [production.release(model, number) for number, model in ((2, second), (1, first))]
    with serving(production, poll_seconds=0.02) as server:
        server.wait(server.ready)
        memory, sizes = psutil.Process(server.process.pid), []
        before, threads, files = memory.memory_info().rss, memory.num_threads(), memory.num_fds()
        with Clients(server.url, count=2) as clients:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                clear(production)
                match chance.randrange(3):
                    case 0:
                        make_odd(production.manifest, chance.choice(ODD))
                    case 1:
                        production.manifest.write_bytes(chance.choice(TEXTS))
                    case _:
                        production.write(chance.choice(texts) + f"# {chance.random()}\n")
                sizes.append(memory.memory_info().rss)
                time.sleep(1 / A_SECOND)
            clear(production)
            production.write(texts[0])
            server.wait(lambda: server.status["stable"]["digest"] == second.digest, seconds=10)
            server.wait(lambda: server.status["error"] is None, seconds=10)
            clients.wait_for(100)
        assert clients.cut == []
        assert {told.status for told in clients.told} == {200}
        assert {told.body["digest"] for told in clients.told} == {first.digest, second.digest}
        assert max(sizes) - before < 200_000_000
        server.wait(lambda: memory.num_threads() <= threads + 2 and memory.num_fds() <= files + 5, seconds=10)
        assert server.status["following"]["restarts"] == 0


def clear(production: Production) -> None:
    with suppress(OSError):
        production.manifest.unlink()
    shutil.rmtree(production.manifest, ignore_errors=True)
