"""Measures how often watching is wrong: windows like the training rows called drift, changed windows called steady.

    python benchmarks/watch_errors.py [--windows 1000] [--power 100] [--peers] [--quick]

Each window has 30 columns and a score, judged by the repository's own tests, corrections and bounds against one stored
profile of 200,000 rows; an alarm is a window with drift in any column. Windows of a million rows are drawn as counts of
cells (multinomial, from the cells of ten million rows); smaller ones as rows. A changed window has one change in one
column. The whole-row test, which takes longer, judges the first 200 windows against 5,000 training rows.
`--peers` lets Evidently and NannyML judge windows with their defaults against 20,000 training rows, and us the same
windows; for them an alarm is a window with any drifted column. `--quick` shows in two minutes that it all runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mergeline.model.artifact import PROFILE_FILE, SIGNATURE_FILE
from mergeline.model.bin_counts import CategoryCounts, NumberCounts
from mergeline.model.binning import CELLS, Grid, Scale
from mergeline.model.profile import CategoryProfile, NumberProfile, Profile
from mergeline.params import DriftParams
from mergeline.scorer.signature import Signature
from mergeline.watch.drift import Compared, Part, Status, find_drift
from mergeline.watch.multivariate_drift import Rows, compare_rows
from watch_samples import CATEGORIES, LEVELS, NUMBERS, Columns, draw, make_project, names_of, scores_of
from watch_speed import PEERS, run_peer

BOUNDS = DriftParams()
SAMPLED = 5_000
"""Rows of each side in the whole-row test, as `watch.sample_rows` has it."""

Change = Callable[[Columns, np.random.Generator], None]


def shift(deviations: float) -> Change:
    """Move a normal column by so many standard deviations."""

    def change(columns: Columns, _: np.random.Generator) -> None:
        columns["n05"] = np.asarray(columns["n05"], dtype=np.float64) + 10 * deviations

    return change


def swap(columns: Columns, _: np.random.Generator) -> None:
    """Swap two categories with shares of 0.34 and 0.17."""
    values, (first, second) = columns["c05"], names_of(LEVELS[5])[:2]
    columns["c05"] = np.where(values == first, second, np.where(values == second, first, values))


def nulls(columns: Columns, rng: np.random.Generator) -> None:
    """From 2 % to about 15 % nulls in a number."""
    values = np.asarray(columns["n00"], dtype=np.float64).copy()
    values[rng.random(len(values)) < 0.133] = np.nan
    columns["n00"] = values


def novel(columns: Columns, rng: np.random.Generator) -> None:
    """A category that training never saw, in 5 % of the rows."""
    columns["c06"] = np.where(rng.random(len(columns["c06"])) < 0.05, "a new value", columns["c06"])


CHANGES: dict[str, Change] = {
    "shift 0.1 sd": shift(0.1),
    "shift 0.2 sd": shift(0.2),
    "shift 0.5 sd": shift(0.5),
    "categories swapped": swap,
    "nulls 2 → 15 %": nulls,
    "new category, 5 %": novel,
}


def number_counts(grid: Grid, values: np.ndarray) -> NumberCounts:
    """As the engine counts; tests/model/test_grid.py holds the two together."""
    known = values[np.isfinite(values)]
    line = known if grid.scale is Scale.LINEAR else np.arcsinh((known - grid.centre) / grid.spread)
    places = np.clip(np.rint((line - grid.low) * grid.steps), -1, CELLS).astype(np.int64) + 1
    return NumberCounts(np.bincount(places, minlength=CELLS + 2), int(np.isnan(values).sum()), 0)


def category_counts(profile: CategoryProfile, values: np.ndarray) -> CategoryCounts:
    found = dict(zip(*np.unique(values.astype(str), return_counts=True), strict=True))
    named = {str(name): int(count) for name, count in found.items() if name in profile.counts}
    return CategoryCounts(named, len(values) - sum(named.values()), 0)


def observe(profile: Profile, columns: Columns) -> list[Compared]:
    """Rows as the window's counts."""
    found = [
        Compared(Part.INPUT, each, number_counts(each.grid, np.asarray(columns[each.name], dtype=np.float64)))
        for each in profile.numbers
    ]
    found += [Compared(Part.INPUT, each, category_counts(each, columns[each.name])) for each in profile.categories]
    score = profile.scores[0]
    return [*found, Compared(Part.SCORE, score, number_counts(score.grid, scores_of(columns)))]


def alarms(columns: list[Compared]) -> bool:
    return any(finding.status is Status.DRIFT for finding in find_drift(columns, {}, BOUNDS, "training"))


class Cells:
    """The chance of each cell of each column, from many rows, to draw windows of any size from."""

    def __init__(self, profile: Profile, change: Change | None, rows: int, chunk: int = 500_000) -> None:
        rng = np.random.default_rng(17)
        self._profile = profile
        total: list[np.ndarray] | None = None
        for _ in range(rows // chunk):
            columns = draw(rng, chunk)
            if change is not None:
                change(columns, rng)
            counts = [self._flat(each) for each in observe(profile, columns)]
            total = counts if total is None else [a + b for a, b in zip(total, counts, strict=True)]
        self._shares = [counts / counts.sum() for counts in total or []]
        self._like = observe(profile, draw(rng, 10))

    def window(self, rng: np.random.Generator, rows: int) -> list[Compared]:
        """One window, its columns independent of each other."""
        found = []
        for like, shares in zip(self._like, self._shares, strict=True):
            drawn = rng.multinomial(rows, shares)
            if isinstance(like.profile, NumberProfile):
                counts: NumberCounts | CategoryCounts = NumberCounts(drawn[:-1], int(drawn[-1]), 0)
            else:
                named = dict(zip(like.profile.counts, drawn[:-2].tolist(), strict=True))
                counts = CategoryCounts(named, int(drawn[-2]), int(drawn[-1]))
            found.append(Compared(like.part, like.profile, counts))
        return found

    @staticmethod
    def _flat(column: Compared) -> np.ndarray:
        counts, profile = column.counts, column.profile
        if isinstance(counts, NumberCounts):
            return np.append(counts.cells, counts.missing)
        if not isinstance(profile, CategoryProfile):
            raise TypeError(profile.name)
        return np.array([*(counts.named.get(name, 0) for name in profile.counts), counts.other, counts.missing])


def windows(rng: np.random.Generator, rows: int, number: int, change: Change | None) -> Iterator[Columns]:
    for _ in range(number):
        columns = draw(rng, rows)
        if change is not None:
            change(columns, rng)
        yield columns


def rate(profile: Profile, rows: int, number: int, change: Change | None, *, seed: int, known: int) -> float:
    """The share of windows with an alarm; large ones are drawn from the cells of `known` rows."""
    rng = np.random.default_rng(seed)
    if rows > 100_000:
        cells = Cells(profile, change, known)
        return float(np.mean([alarms(cells.window(rng, rows)) for _ in range(number)]))
    return float(np.mean([alarms(observe(profile, columns)) for columns in windows(rng, rows, number, change)]))


def whole_row_rate(signature: Signature, rows: int, number: int) -> float:
    """The share of windows like the training rows that the whole-row test tells from a sample of these."""
    rng = np.random.default_rng(41)
    told = 0
    for columns in windows(rng, min(rows, SAMPLED), number, None):
        found = compare_rows(as_rows(columns), as_rows(draw(rng, SAMPLED)), signature, "training", BOUNDS.min_auc)
        told += found is not None and found.differs
    return told / number


def as_rows(columns: Columns) -> Rows:
    """As the engine hands them over: tuples, None for what is missing."""
    values = [pd.Series(column, dtype=object).where(pd.notna(column), None).tolist() for column in columns.values()]
    return list(zip(*values, strict=True))


def peer_rates(folder: Path, profile: Profile, rows: int, number: int) -> None:
    """The shares of windows with an alarm by the peers' defaults, and by ours, on the same windows."""
    rng = np.random.default_rng(23)
    reference = folder / "reference.parquet"
    pd.DataFrame(draw(rng, 20_000)).to_parquet(reference)
    cases: dict[str, Change | None] = {"null": None, **CHANGES}
    paths: dict[str, list[Path]] = {}
    ours: dict[str, list[bool]] = {}
    for case, change in cases.items():
        paths[case] = [folder / f"{len(paths)}-{place}.parquet" for place in range(number)]
        ours[case] = []
        for path, columns in zip(paths[case], windows(rng, rows, number, change), strict=True):
            pd.DataFrame(columns).to_parquet(path)
            ours[case].append(alarms(observe(profile, columns)))
    tell_shares("mergeline", rows, ours)
    every = [path for case in cases for path in paths[case]]
    for name in ("evidently_drift", "nannyml_drift"):
        found = {line["window"]: line for line in run_peer(name, folder, reference, every) if "window" in line}
        alarmed = {case: [found[str(path)]["columns"] > 0 for path in paths[case]] for case in cases}  # type: ignore[operator]
        tell_shares(PEERS[name][0], rows, alarmed)


def tell_shares(name: str, rows: int, alarmed: dict[str, list[bool]]) -> None:
    """One line: the share of the windows of each kind with an alarm."""
    told = ", ".join(f"{case} {np.mean(found):.0%}" for case, found in alarmed.items())
    print(f"{name}, {rows:,} rows, {len(alarmed['null'])} windows each: {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--power", type=int, default=100)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.windows, given.power = 50, 5
    known = 1_000_000 if given.quick else 10_000_000
    large = 5 if given.quick else 20
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="watch-errors-") as place:
        folder = Path(place)
        make_project(folder)
        profile = Profile.model_validate_json((folder / "model" / PROFILE_FILE).read_bytes())
        signature = Signature.model_validate_json((folder / "model" / SIGNATURE_FILE).read_bytes())
        print(f"{len(NUMBERS) + len(CATEGORIES)} columns, {given.windows} windows like the training rows:")
        for rows in (1_000, 10_000, 1_000_000):
            found = rate(profile, rows, given.windows, None, seed=31, known=known)
            print(f"  {rows:>9,} rows: {found:.1%} with an alarm{'' if found <= 0.05 else ' (over 5 %)'}", flush=True)
        for rows in (1_000, SAMPLED):
            number = min(200, given.windows)
            found = whole_row_rate(signature, rows, number)
            print(f"  {rows:>9,} rows: the whole-row test alarms in {found:.1%} of {number} windows", flush=True)
        print(f"{given.power} changed windows each, the share that is found:")
        for case, change in CHANGES.items():
            shares = [
                (rows, rate(profile, rows, given.power if rows < 100_000 else large, change, seed=37, known=known))
                for rows in (1_000, 5_000, 10_000, 1_000_000)
            ]
            print(f"  {case}: {', '.join(f'{rows:,}: {share:.0%}' for rows, share in shares)}", flush=True)
        if given.peers:
            peer_rates(folder, profile, 1_000, 2 if given.quick else 20)
            peer_rates(folder, profile, 10_000, 1 if given.quick else 10)
    print(f"took {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
