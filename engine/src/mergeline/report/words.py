"""How numbers and judgements are worded, the same in every report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergeline.evaluate.results import Estimate, Status
from mergeline.report.document import Line, Range, Span, bold, code, joined, line, muted

MARKS = {Status.FAIL: "❌", Status.WARN: "⚠️", Status.PASS: "✅", Status.SKIP: "➖"}
STATUS_WORDS = {Status.FAIL: "failed", Status.WARN: "warning", Status.PASS: "passed", Status.SKIP: "skipped"}


def decimals(*values: float) -> int:
    """The decimals that show four figures of the largest value, at most four."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return 4
    return min(4, max(0, 3 - math.floor(math.log10(largest))))


def figure(value: float, places: int | None = None) -> str:
    """A number as people read it: four figures, a true minus, thousands apart."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and abs(value) < 0.001 and places is None:
        return f"{value:.2e}".replace("-", "−", 1) if value < 0 else f"{value:.2e}"
    text = f"{abs(value):,.{decimals(value) if places is None else places}f}"
    return f"−{text}" if value < 0 and any(digit in text for digit in "123456789") else text


def signed(value: float, places: int | None = None) -> str:
    """A difference, with its sign."""
    text = figure(value, places)
    return text if value <= 0 or not math.isfinite(value) or not text.strip("0.,") else f"+{text}"


def estimate(value: Estimate) -> Line:
    """A value, and its interval in brackets."""
    places = decimals(value.value)
    if value.low is None or value.high is None:
        return line(figure(value.value, places))
    return line(
        f"{figure(value.value, places)} ", muted(f"[{figure(value.low, places)}, {figure(value.high, places)}]")
    )


def gain(value: Estimate, places: int) -> Line:
    """A difference with its interval, to the decimals of what it is a difference of."""
    if value.low is None or value.high is None:
        return line(bold(signed(value.value, places)))
    interval = f"[{signed(value.low, places)}, {signed(value.high, places)}]"
    return line(bold(signed(value.value, places)), " ", muted(interval))


def reading(value: Estimate) -> Line:
    """What the interval of a gain says by itself."""
    if value.low is None or value.high is None:
        return line("–", joined(" no interval"))
    if value.low > 0:
        return line("▲", joined(" better"))
    return line("▼", joined(" worse")) if value.high < 0 else line("≈", joined(" unclear"))


def metric_name(name: str, higher_is_better: bool) -> Line:
    """A metric, and which way is better."""
    return line(code(name), joined(" ↑" if higher_is_better else " ↓"))


def probability(value: float) -> str:
    """A p-value or q-value, with its relation where it is only bounded."""
    if math.isnan(value):
        return "undefined"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """A share of one."""
    return "undefined" if math.isnan(share) else f"{100 * share:.0f} %"


def count(number: int, one: str, many: str | None = None) -> str:
    """So many things, in the singular or the plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number_of_bytes: int) -> str:
    """A file size."""
    if number_of_bytes < 1_000_000:
        return f"{number_of_bytes / 1000:,.1f} kB"
    return f"{number_of_bytes / 1_000_000:,.1f} MB"


def short(digest: str) -> Span:
    """Enough of a digest to tell two apart."""
    prefix, _, rest = digest.rpartition(":")
    return code(digest if len(rest) <= 12 else f"{prefix}:{rest[:12]}…".removeprefix(":"))


def ranges(estimates: Sequence[Estimate], marks: Sequence[float]) -> tuple[Line, ...]:
    """The intervals drawn on one common line that also holds `marks`; empty where there is no interval."""
    ends = [end for value in estimates for end in (value.low, value.value, value.high) if end is not None]
    finite = [end for end in [*ends, *marks] if math.isfinite(end)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return (value - low) / width

    return tuple(
        (Range(place(value.low), place(value.value), place(value.high), tuple(place(mark) for mark in marks)),)
        if value.low is not None
        and value.high is not None
        and all(map(math.isfinite, (value.low, value.value, value.high)))
        else ()
        for value in estimates
    )
