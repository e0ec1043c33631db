"""Tells Prometheus how the journal stands."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.journal.compactor import read_keeper_status
from mergeline.journal.sync import read_status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mergeline.journal.journal import Journal


class JournalMetrics:
    """The journal's metrics of one process; made once, and brought up to date by the journal's own thread.

    Counters add up over workers. `mergeline_journal_writing` is 0 where any worker cannot write. Times are Unix
    timestamps.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # prometheus_client reads PROMETHEUS_MULTIPROC_DIR when it is imported, and the server sets that late.
        from prometheus_client import Counter, Gauge

        self._records = Counter(
            "mergeline_journal_records",
            "Records for the journal by kind (prediction, shadow, feedback) and outcome (written, lost)",
            ["kind", "outcome"],
            registry=registry,
        )
        self._odd = Counter(
            "mergeline_journal_odd_feedback",
            "Labels whose id no recent answer has (unknown), or that replace another (repeated)",
            ["why"],
            registry=registry,
        )
        self._writing = Gauge(
            "mergeline_journal_writing",
            "Whether the disk takes records",
            registry=registry,
            multiprocess_mode="livemin",
        )
        newest = {
            "mergeline_journal_last_pass_timestamp_seconds": "When the keeper last sealed",
            "mergeline_journal_bytes": "Size of the sealed files",
            "mergeline_journal_files": "Number of the sealed files",
            "mergeline_journal_damaged_segments": "Segments that were kept aside because they are damaged",
            "mergeline_journal_waiting_copies": "Sealed files that are not in object storage yet",
            "mergeline_journal_failed_copies": "Attempts to copy in a row that failed",
            "mergeline_journal_free_bytes": "Room that the disk of the journal has left",
            "mergeline_journal_disk_bytes": "Size of the disk of the journal",
        }
        self._newest = {
            name: Gauge(name, text, registry=registry, multiprocess_mode="mostrecent") for name, text in newest.items()
        }
        self._told: dict[tuple[str, str], int] = {}

    def update(self, journal: Journal) -> None:
        """Hand on what was counted since the last time, and how the folder stands."""
        counts = journal.counts
        for kind, outcome, count in (
            ("prediction", "written", counts.predictions),
            ("prediction", "lost", counts.lost_predictions),
            ("shadow", "written", counts.shadows),
            ("shadow", "lost", counts.lost_shadows),
            ("feedback", "written", counts.feedback),
        ):
            self._records.labels(kind, outcome).inc(self._more((kind, outcome), count))
        for why, count in (("unknown", counts.feedback_unknown), ("repeated", counts.feedback_repeated)):
            self._odd.labels(why).inc(self._more(("odd", why), count))
        self._writing.set(journal.is_writing)
        kept, copied = read_keeper_status(journal.folder), read_status(journal.folder)
        for gauge, value in zip(
            self._newest.values(),
            (
                kept.finished,
                kept.bytes,
                kept.files,
                kept.damaged_segments,
                copied.waiting,
                copied.failures,
                *_room(journal.folder),
            ),
            strict=True,
        ):
            gauge.set(value)

    def _more(self, key: tuple[str, str], count: int) -> int:
        told = self._told.get(key, 0)
        self._told[key] = count
        return count - told


def _room(folder: Path) -> tuple[float, float]:
    """What is left of the disk, and its size, in bytes; of the nearest folder above where there is none yet."""
    for place in (folder, *folder.parents):
        try:
            disk = shutil.disk_usage(place)
        except OSError:
            continue
        return disk.free, disk.total
    return math.nan, math.nan
