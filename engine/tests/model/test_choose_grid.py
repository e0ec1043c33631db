"""The chosen cells show what changes: a distance found from them is the distance of the values."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from mergeline.model.binning import CELLS, MIN_BEYOND, Grid, Scale, blunted_range, choose_grid

ROWS = 20_000

BODIES = {
    "uniform": lambda rng, rows: rng.uniform(0, 1, rows),
    "normal": lambda rng, rows: rng.normal(15, 8, rows),
    "ages": lambda rng, rows: rng.integers(18, 80, rows).astype(float),
    "prices": lambda rng, rows: rng.gamma(2, 40, rows).round(2),
    "seconds": lambda rng, rows: rng.normal(1_700_000_123, 30, rows),
    "exponential": lambda rng, rows: rng.exponential(2, rows),
}
HEAVY = {
    "lognormal 2.5": lambda rng, rows: rng.lognormal(3, 2.5, rows),
    "lognormal 3": lambda rng, rows: rng.lognormal(3, 3, rows),
    "lognormal 5": lambda rng, rows: rng.lognormal(-2, 5, rows),
    "pareto": lambda rng, rows: rng.pareto(0.8, rows),
    "small pareto": lambda rng, rows: rng.pareto(0.8, rows) * 1e-3,
    "cauchy": lambda rng, rows: rng.standard_cauchy(rows),
    "log-uniform": lambda rng, rows: np.exp(rng.uniform(np.log(1e-6), np.log(1e6), rows)),
    "both signs": lambda rng, rows: rng.choice([-1, 1], rows) * rng.lognormal(0, 4, rows),
    "rare scores": lambda rng, rows: rng.beta(0.3, 30, rows),
}


def cells_of(grid: Grid, values: np.ndarray) -> np.ndarray:
    """Counts by cell, as tests/model/test_grid.py has them."""
    with np.errstate(over="ignore"):
        line = values if grid.scale is Scale.LINEAR else np.arcsinh((values - grid.centre) * (1 / grid.spread))
        places = np.clip(np.rint((line - grid.low) * grid.steps), -1, CELLS).astype(int) + 1
    return np.bincount(places, minlength=CELLS + 2)


def distance(grid: Grid, before: np.ndarray, now: np.ndarray) -> float:
    """The largest distance of the distribution functions, from the cells."""
    first, second = (np.cumsum(cells_of(grid, values)) / len(values) for values in (before, now))
    return float(np.abs(first - second).max())


def assert_seen(before: np.ndarray, now: np.ndarray) -> None:
    found = distance(choose_grid(before), before, now)
    assert found == pytest.approx(stats.ks_2samp(before, now).statistic, abs=0.02)


def with_sentinel(rng: np.random.Generator, body: np.ndarray, share: float, sentinel: float) -> np.ndarray:
    return np.where(rng.random(len(body)) < share, sentinel, body)


@given(
    name=st.sampled_from(sorted(BODIES)),
    share=st.floats(0.001, 0.05),
    sentinel=st.tuples(st.sampled_from([-1, 1]), st.floats(-2, 308)).map(lambda each: each[0] * 10 ** each[1]),
    shift=st.floats(0.1, 3),
    seed=st.integers(0, 1000),
)
@example(name="uniform", share=0.02, sentinel=-999.0, shift=1.0, seed=0)
@example(name="uniform", share=0.002, sentinel=-99_999.0, shift=1.0, seed=0)
@example(name="prices", share=0.005, sentinel=99_999_999.0, shift=1.0, seed=0)
@example(name="normal", share=0.01, sentinel=-9999.0, shift=1.0, seed=0)
@example(name="normal", share=0.02, sentinel=np.finfo(np.float64).max, shift=1.0, seed=0)
def test_a_shift_of_the_body_is_seen_beside_any_sentinel(name, share, sentinel, shift, seed):
    rng = np.random.default_rng(seed)
    body = BODIES[name](rng, ROWS)
    moved = BODIES[name](rng, ROWS) + shift * body.std()
    assert_seen(with_sentinel(rng, body, share, sentinel), with_sentinel(rng, moved, share, sentinel))


@given(name=st.sampled_from(sorted(HEAVY)), factor=st.floats(0.1, 10), seed=st.integers(0, 1000))
def test_a_change_of_a_heavy_tailed_body_is_seen(name, factor, seed):
    rng = np.random.default_rng(seed)
    before, now = HEAVY[name](rng, ROWS), HEAVY[name](rng, ROWS)
    assert_seen(before, now * factor)
    assert_seen(before, np.maximum(now, np.median(before)))


@given(
    name=st.sampled_from(sorted(HEAVY)),
    share=st.floats(0.001, 0.05),
    sentinel=st.sampled_from([-999.0, -1.0, -99_999.0, 1e9, -1e300]),
    seed=st.integers(0, 1000),
)
def test_a_heavy_tailed_body_is_seen_beside_a_sentinel(name, share, sentinel, seed):
    rng = np.random.default_rng(seed)
    before, now = HEAVY[name](rng, ROWS), HEAVY[name](rng, ROWS)
    now = np.maximum(now, np.quantile(before, 0.4))
    assert_seen(with_sentinel(rng, before, share, sentinel), with_sentinel(rng, now, share, sentinel))


@pytest.mark.parametrize("sentinel", [-999.0, 99_999_999.0, -1e300])
def test_more_of_a_sentinel_is_seen(sentinel):
    rng = np.random.default_rng(0)
    before, now = (with_sentinel(rng, rng.normal(size=ROWS), share, sentinel) for share in (0.02, 0.3))
    assert distance(choose_grid(before), before, now) == pytest.approx(0.28, abs=0.02)


def test_several_sentinels_do_not_hide_the_body():
    rng = np.random.default_rng(0)
    codes = np.array([-9e99, -9e200, 9e99, 9e250])
    before, now = (
        np.where(rng.random(ROWS) < 0.04, rng.choice(codes, ROWS), rng.uniform(low, 1, ROWS)) for low in (0, 0.4)
    )
    assert_seen(before, now)


@pytest.mark.parametrize(
    ("value", "now"), [(0.0, 2.4e-4), (1e-4, 4e-4), (7.0, 7.0004), (7.0, 6.9996), (-3.5, 1e6), (20_250_101, 20_250_102)]
)
def test_a_small_change_of_a_constant_is_seen(value, now):
    before = np.full(1000, float(value))
    assert distance(choose_grid(before), before, np.full(1000, float(now))) == 1.0


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, -123_456_789.123, 1.7e18])
def test_rounding_does_not_change_a_constant(value):
    before = np.full(1000, value)
    now = np.nextafter(before, np.inf)
    assert distance(choose_grid(before), before, now) == 0.0


MOST = np.finfo(np.float64).max


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200))
@example(values=[MOST] * 100 + [-MOST] * 100 + list(range(1000)))
@example(values=(np.linspace(-1, 1, 1000) * 1.7e308).tolist())
@example(values=np.linspace(0, 1e-310, 1000).tolist())
@example(values=[-1e308] * 100)
@example(values=[5e-324] * 100)
def test_every_number_has_finite_cells(values):
    grid = choose_grid(np.array(values, dtype=float))
    assert np.isfinite([grid.low, grid.high, grid.centre, grid.spread, grid.steps, 1 / grid.spread]).all()
    edges = grid.edges()
    assert np.isfinite(edges).all()
    assert (np.diff(edges) >= 0).all()
    assert cells_of(grid, np.array(values, dtype=float)).sum() == len(values)


@given(name=st.sampled_from(sorted(HEAVY)), seed=st.integers(0, 1000))
def test_no_extreme_value_of_a_row_is_told(name, seed):
    values = HEAVY[name](np.random.default_rng(seed), 2000)
    grid = choose_grid(values)
    edges = grid.edges()
    told = {grid.low, grid.high, grid.centre, *edges.tolist()}
    assert not told & set(values.tolist())
    assert min((values < edges[0]).sum(), (values > edges[-1]).sum()) >= MIN_BEYOND // 2


@given(
    ends=st.tuples(*[st.floats(-1e9, 1e9)] * 3).map(sorted),
)
def test_a_blunted_end_stays_on_its_side(ends):
    low, middle, high = ends
    least, most = blunted_range(low, middle, high)
    near = 1e-5 * max(map(abs, ends))
    assert low - near <= least <= middle + near
    assert middle - near <= most <= high + near


def test_the_same_values_have_the_same_cells():
    values = np.random.default_rng(0).lognormal(0, 3, 5000)
    assert choose_grid(values) == choose_grid(values[::-1].copy())
