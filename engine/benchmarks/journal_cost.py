"""Measures what the journal costs a server: a write for each request, and the sealing beside it.

    python benchmarks/journal_cost.py [--rounds 5]

The peer is the same answer without a journal: a request of 30 columns is read by the signature, a binary answer is made
for each record, and JSON is written; what a model takes is not counted, which is hard on the journal. Both are timed in
turn in this process, on the processor's time, and each ratio is the median of the rounds. The share of a whole server's
throughput is in serving.py. Sealing is the processor's time of the keeper's own process, with its start. Stalls are
the wall time of single appends, while the keeper seals, and while it does not: a p99 of a server can't be better. The
journal is in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mergeline.journal.journal import Journal
from mergeline.journal.prediction_recorder import Recorder
from mergeline.params import JournalParams, Task
from mergeline.requests.answers import Answer, AnswerMaker, encode
from mergeline.requests.decode import BodyReader
from mergeline.requests.records import Batch
from mergeline.scorer.signature import Column, Kind, Output, Signature

NUMBERS, CATEGORIES = 24, 6
REPEATS = 3000
SEALED_ROWS = 100_000
TARGET_MICROSECONDS = 10.0

SIGNATURE = Signature(
    name="bench",
    columns=(
        *(Column(name=f"number_{i}", kind=Kind.NUMBER, nullable=True) for i in range(NUMBERS)),
        *(Column(name=f"category_{i}", kind=Kind.CATEGORY, nullable=True) for i in range(CATEGORIES)),
    ),
    output=Output(task=Task.BINARY, target="late", classes=(False, True), positive=True, threshold=0.5),
    id="id",
    time="time",
)


def body(records: int) -> bytes:
    """A request of so many records."""
    rng = np.random.default_rng(0)
    rows = [
        {f"number_{i}": float(value) for i, value in enumerate(rng.normal(size=NUMBERS).round(3))}
        | {f"category_{i}": str(rng.choice(["JFK", "EWR", "LGA"])) for i in range(CATEGORIES)}
        | {"id": f"flight-{n}", "time": "2013-07-01T05:00:00"}
        for n in range(records)
    ]
    return json.dumps(rows if records > 1 else rows[0]).encode()


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """The processor's seconds of one call."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def measure(recorder: Recorder, records: int, rounds: int) -> tuple[float, float]:
    """Seconds of a request without the journal, and of its append, for a request of so many records."""
    content, reader = body(records), BodyReader(SIGNATURE)
    maker = AnswerMaker(SIGNATURE.output, version=3, digest="sha256:" + "a" * 64)
    scores, roles = np.linspace(0.1, 0.9, records), ("stable",) * records

    def answer() -> tuple[Batch, list[Answer]]:
        batch = reader.read(content, 1000)
        answers = maker.make(batch.ids, scores)
        encode(answers, many=batch.many)
        return batch, answers

    batch, answers = answer()
    repeats = max(50, REPEATS // records)
    pairs = [
        (
            cpu_seconds(answer, repeats),
            cpu_seconds(lambda: recorder.append(batch, answers, roles, time.time_ns()), repeats),
        )
        for _ in range(rounds)
    ]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def stalls(recorder: Recorder, seconds: float) -> list[float]:
    """The wall time of single appends at 500 a second, sorted."""
    batch = BodyReader(SIGNATURE).read(body(1), 10)
    answers = AnswerMaker(SIGNATURE.output, version=3, digest="sha256:" + "a" * 64).make(batch.ids, np.array([0.5]))
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        recorder.append(batch, answers, ("stable",), time.time_ns())
        found.append(time.perf_counter() - start)
        time.sleep(0.002)
    return sorted(found)


def keeper(folder: Path) -> tuple[subprocess.Popen[bytes], Callable[[], float]]:
    """The keeper's process, and what waits for it and gives its seconds on the processor."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "mergeline.journal.compactor",
        "seal",
        json.dumps({"folder": str(folder)}),
    ]
    process = subprocess.Popen(command)

    def ended() -> float:
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"the keeper ended with {status}")
        return usage.ru_utime + usage.ru_stime

    return process, ended


def fill(folder: Path, rows: int) -> None:
    """A closed journal of so many rows, in requests of one record."""
    journal = Journal(folder, JournalParams())
    recorder, reader = journal.recorder(SIGNATURE), BodyReader(SIGNATURE)
    maker = AnswerMaker(SIGNATURE.output, version=3, digest="sha256:" + "a" * 64)
    batch = reader.read(body(1000), 1000)
    answers = maker.make(batch.ids, np.linspace(0.1, 0.9, 1000))
    for number in range(rows):
        one = number % 1000
        single = Batch(batch.ids[one : one + 1], batch.rows[one : one + 1], False, batch.unread[one : one + 1])
        recorder.append(single, answers[one : one + 1], ("stable",), time.time_ns())
    journal.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="mergeline-journal-") as name:
        journal = Journal(Path(name, "append"), JournalParams())
        recorder = journal.recorder(SIGNATURE)
        print("records   read, answer, write (µs)   append (µs)   with / without the journal")
        for records in (1, 10, 100):
            without, append = (seconds * 1e6 for seconds in measure(recorder, records, rounds))
            note = f"   target: under {TARGET_MICROSECONDS:g} µs" if records == 1 else ""
            print(f"{records:7d}   {without:26.1f}   {append:11.1f}   {(without + append) / without:.2f}{note}")
        journal.close()

        fill(Path(name, "seal"), SEALED_ROWS)
        size = sum(path.stat().st_size for path in Path(name, "seal", "live").iterdir())
        _, ended = keeper(Path(name, "seal"))
        seconds = ended()
        sealed = sum(path.stat().st_size for path in Path(name, "seal").rglob("*.parquet"))
        _, ended = keeper(Path(name, "seal"))
        start = ended()
        print(
            f"\nsealing {SEALED_ROWS:,} rows: {(seconds - start) / SEALED_ROWS * 1e6:.1f} µs a row beside "
            f"{start:.2f} s for its start; {size / 1e6:.0f} MB become {sealed / 1e6:.0f} MB"
        )

        fill(Path(name, "both"), SEALED_ROWS)
        journal = Journal(Path(name, "beside"), JournalParams())
        recorder = journal.recorder(SIGNATURE)
        alone = stalls(recorder, 3.0)
        _, ended = keeper(Path(name, "both"))
        beside = stalls(recorder, 3.0)
        ended()
        journal.close()
        for what, found in (("alone", alone), ("while the keeper seals", beside)):
            quantiles = ", ".join(f"p{q:g} {found[int(len(found) * q / 100) - 1] * 1e6:.0f}" for q in (50, 99, 99.9))
            print(f"single appends {what}: {quantiles}, max {found[-1] * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
