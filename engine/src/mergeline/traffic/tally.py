"""Adds up what happened, and says it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_BITS = 7


class Histogram:
    """Latencies in log-linear buckets of microseconds, as HdrHistogram has them (Gil Tene, 2012).

    Each power of two is divided into 128 buckets, so that a value is at most 0.8 % off. Ten minutes in 3,000 integers.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        value = max(0, int(seconds * 1e6))
        shift = max(0, value.bit_length() - _BITS - 1)
        bucket = (shift << _BITS) + (value >> shift)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.count += 1
        self.maximum = max(self.maximum, seconds)

    def quantile(self, share: float) -> float:
        """The latency in seconds that this share of all does not exceed; 0 where there is none."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(_upper_edge(bucket) / 1e6, self.maximum)
        return 0.0


def _upper_edge(bucket: int) -> int:
    """The largest value of a bucket, in microseconds."""
    shift = max(0, (bucket >> _BITS) - 1)
    return (((bucket - (shift << _BITS)) + 1) << shift) - 1


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass
class Tally:
    """What was sent and what came back. Latencies are of requests that got a reply, failed ones included."""

    planned: bool
    seconds: float = 0.0
    requests: int = 0
    records: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    labels: Counter[str] = field(default_factory=Counter)
    labels_left: int = 0
    interrupted: bool = False

    def count(self, status: int, problem: str, records: int, latency: float) -> None:
        """Count one request that ended."""
        self.requests += 1
        self.records += records
        self.statuses[str(status) if status else problem] += 1
        if status:
            self.latency.add(latency)

    @property
    def failed(self) -> int:
        """Requests that got no answer with status 200."""
        return self.requests - self.statuses["200"]

    def line(self, seconds: float) -> str:
        """How it stands, in one line."""
        rate = self.requests / seconds if seconds else 0.0
        quantiles = " ".join(f"{name} {self.latency.quantile(share) * 1e3:.1f}" for name, share in QUANTILES.items())
        labels = f" · {sum(self.labels.values()):,} labels" if self.labels else ""
        done = f"{seconds:.0f} s · {self.requests:,} requests · {rate:,.0f}/s"
        return f"{done} · {quantiles} ms · {self.failed:,} failed{labels}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for machines; latencies are in milliseconds."""
        return {
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "requests": self.requests,
            "records": self.records,
            "requests_per_second": round(self.requests / self.seconds, 2) if self.seconds else 0.0,
            "failed": self.failed,
            "statuses": dict(self.statuses),
            "latency_ms": {
                **{name: round(self.latency.quantile(share) * 1e3, 3) for name, share in QUANTILES.items()},
                "max": round(self.latency.maximum * 1e3, 3),
                "measured_from": "the planned time" if self.planned else "sending",
            },
            "own_lateness_ms_p99": round(self.lateness.quantile(0.99) * 1e3, 3) if self.planned else None,
            "labels": dict(self.labels),
            "labels_not_sent": self.labels_left,
        }

    def text(self) -> str:
        """Everything, for people."""
        found = self.as_dict()
        latency = found["latency_ms"]
        answered = " · ".join(f"{name}: {count:,}" for name, count in sorted(self.statuses.items()))
        lines = [
            f"requests   {self.requests:,} of {self.records:,} records in {self.seconds:.1f} s, "
            f"{found['requests_per_second']:,.1f} a second" + (", interrupted" if self.interrupted else ""),
            f"answered   {answered or 'nothing was sent'}",
            f"latency    p50 {latency['p50']:.2f} ms, p90 {latency['p90']:.2f} ms, p99 {latency['p99']:.2f} ms, "
            f"max {latency['max']:.2f} ms, from {latency['measured_from']}",
        ]
        if self.labels or self.labels_left:
            told = " · ".join(f"{name}: {count:,}" for name, count in sorted(self.labels.items()))
            left = f" · not sent: {self.labels_left:,}" if self.labels_left else ""
            lines.append(f"labels     {told}{left}")
        if self.planned and found["own_lateness_ms_p99"] > 5:
            lines.append(
                f"warning    this program was late itself (p99 {found['own_lateness_ms_p99']:.0f} ms): "
                "the latencies are upper bounds; send less, or from a machine of its own"
            )
        return "\n".join(lines)
