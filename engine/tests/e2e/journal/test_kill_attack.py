"""Servers that write as fast as they can are killed at random moments, many times on one journal.

`MERGELINE_KILLS` sets the number of kills: 50 if it is not given, 1,000 for the long attack.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from journal_samples import rows

from mergeline.journal.folders import LIVE
from mergeline.journal.parquet_export import seal_all

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MERGELINE_KILLS", "50"))
SECONDS_A_KILL = 4.0
"""No attack takes longer than this for each of its kills; a machine with much else to do needs about one."""

ATTACK = """
import ctypes, os, random, signal, sys, threading, time
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from journal_samples import SIGNATURE, answers, batch
from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.params import JournalParams

folder, answered, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def score(name):
    return int(name.rpartition("-")[2]) % 997 / 997

def serve(life, worker, until):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # no worker outlives an attack that was stopped
    journal = Journal(folder, JournalParams(seal_seconds=0.2))
    journal.start()
    recorder = journal.recorder(SIGNATURE)
    told = os.open(answered / f"{life}-{worker}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while time.monotonic() < until:
        ids = [f"{life}-{worker}-{number + each}" for each in range(1 + number % 3)]
        number += len(ids)
        given = [answers([key], score=score(key))[0] for key in ids]
        rows = [(score(key), 8, False, "JFK", "UA") for key in ids]
        ticket = recorder.append(batch(ids, rows), given, ("stable",) * len(ids), time.time_ns())
        assert ticket is not None
        os.write(told, "".join(f"{key}\\n" for key in ids).encode())  # the answer
        if number % 4 == 0:
            journal.shadow(ticket, [answers([key], "candidate", score(key))[0] for key in ids])
        if number % 50 == 0:
            journal.feedback([Feedback(ids[0], "true", None)], time.time_ns())
            time.sleep(0.002)

dice = random.Random(0)
for life in range(kills):
    workers = []
    lifetime = dice.choice((0.02, 0.1, 0.3, 0.6)) * dice.uniform(0.5, 1.5)
    for worker in range(1 + life % 2):
        child = os.fork()
        if child == 0:
            os.setsid()
            serve(life, worker, time.monotonic() + lifetime + 30)
            os._exit(1)
        workers.append(child)
    time.sleep(lifetime)
    for child in workers:
        if dice.random() < 0.7:
            try:
                os.killpg(child, signal.SIGKILL)  # the server, and what exports for it
            except ProcessLookupError:
                os.kill(child, signal.SIGKILL)  # it has not led a group yet
        else:
            os.kill(child, signal.SIGKILL)  # the export goes on alone
    for child in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
"""


def test_no_answered_prediction_is_lost_doubled_or_wrong_however_often_servers_are_killed(tmp_path: Path) -> None:
    folder, answered = tmp_path / "journal", tmp_path / "answered"
    answered.mkdir()
    arguments = [str(folder), str(answered), str(KILLS), *sys.path]
    subprocess.run([sys.executable, "-c", ATTACK, *arguments], check=True, timeout=60 + SECONDS_A_KILL * KILLS)
    wait_until_exported(folder)

    # A kill may cut a write at the end of a page: a last line that is not whole was never received.
    received = [key for path in answered.iterdir() for key in path.read_text().rpartition("\n")[0].splitlines()]
    found = rows(folder)
    times = Counter(row["_id"] for row in found)
    assert len(received) > 20 * KILLS
    assert [key for key in received if key not in times] == []
    assert [key for key, count in times.items() if count > 1] == []
    # Of each worker at most the one request of up to three records that was written, and not answered yet.
    assert len(times) - len(received) <= 3 * len(list(answered.iterdir()))
    assert [row["_id"] for row in found if not is_as_sent(row)] == []
    shadowed = [row for row in found if row["_shadow_digest"]]
    assert len(shadowed) > KILLS
    assert {row["_id"] for row in rows(folder, "feedback")} <= set(times)
    print(f"{KILLS} kills, {len(received):,} answers")  # noqa: T201 - shown by pytest -s


def is_as_sent(row: dict) -> bool:
    """Whether every value of the row is that of its id."""
    score = int(row["_id"].rpartition("-")[2]) % 997 / 997
    return (
        (row["_score"], row["temp"], row["origin"], row["_label"]) == (score, score, "JFK", "false")
        and row["_shadow_score"] in (None, score)
        and row["_digest"].endswith("a" * 64)
    )


def wait_until_exported(folder: Path) -> None:
    for _ in range(300):  # a process that a kill has missed may still be at it
        seal_all(folder)
        if not list((folder / LIVE).glob("*.log")):
            return
        time.sleep(0.1)
    raise AssertionError(f"not exported: {sorted((folder / LIVE).iterdir())}")
