"""Causes are injected into a real journal, watched, and named first by the diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from production_journal import CANARY, END, START, Production, draw, outcome, score

from mergeline.watch.causes import Cause, Load, Ruling, Server
from mergeline.watch.diagnose import conclusion, diagnose, evidence_of
from toy_data import toy_params

pytestmark = pytest.mark.slow

Change = Callable[[np.random.Generator, pd.DataFrame], pd.DataFrame]

PARAMS = toy_params()
QUICK = Load(requests=10_000, failed=3, p99_ms=8)
QUIET = Server(stable=QUICK, candidate=None, waiting=0)
DAY = timedelta(days=1)


def amounts(change: Callable[[np.random.Generator, pd.Series], object]) -> Change:
    return lambda rng, frame: frame.assign(amount=change(rng, frame["amount"]))


def regions(change: Callable[[np.random.Generator, pd.Series], object]) -> Change:
    return lambda rng, frame: frame.assign(region=change(rng, frame["region"]))


def some(rng: np.random.Generator, rows: pd.Series | pd.DataFrame) -> np.ndarray:
    return rng.random(len(rows)) < 0.3


UPSTREAM = {
    "nothing": (lambda rng, frame: frame, None, ""),
    "ten times": (amounts(lambda rng, values: values * 10), Cause.UNIT, "amount"),
    "a sign is lost": (amounts(lambda rng, values: -values), Cause.UNIT, "amount"),
    "off by ten": (amounts(lambda rng, values: values + 10), Cause.SHIFTED, "amount"),
    "a sentinel": (amounts(lambda rng, values: np.where(some(rng, values), -999, values)), Cause.PILED, "amount"),
    "zero for missing": (amounts(lambda rng, values: np.where(some(rng, values), 0, values)), Cause.PILED, "amount"),
    "stuck": (amounts(lambda rng, values: 50.0), Cause.PILED, "amount"),
    "a little more": (amounts(lambda rng, values: values + 2), Cause.INPUTS, "amount"),
    "wider": (amounts(lambda rng, values: 50 + 1.6 * (values - 50)), Cause.INPUTS, "amount"),
    "a category renamed": (regions(lambda rng, old: old.replace({"north": "North"})), Cause.CATEGORIES, "region"),
    "a category nulled": (regions(lambda rng, old: old.mask(old == "north")), Cause.NULLED, "region"),
    "a unit, and nulls": (
        lambda rng, frame: frame.assign(amount=frame["amount"] * 100, region=frame["region"].mask(some(rng, frame))),
        Cause.UNIT, "amount"),
}  # fmt: skip


def suspects(production: Production, *, server: Server = QUIET, released=None):
    look = production.look(now=END + 3 * DAY)
    evidence = evidence_of(look, "roc_auc", released, server, END, history=True, candidate=CANARY)
    return look, diagnose(evidence, PARAMS)


@pytest.fixture
def labelled(tmp_path: Path) -> Production:
    """A week with answers and labels before the one that is looked at."""
    production = Production(tmp_path)
    production.label(production.answer(START - 7 * DAY, START, 3000))
    return production


def answer(production: Production, change: Change, **options: object) -> pd.DataFrame:
    """The model gets what upstream made of the rows; their truths follow the rows as they were."""
    real = draw(production.rng, 3000)
    rows = production.answer(START, END, 0, frame=change(production.rng, real.copy()), **options)
    production.label(rows, truth=outcome(production.task, score(production.task, real), production.rng))
    return rows


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_change_upstream_is_named_first(labelled, name):
    change, cause, column = UPSTREAM[name]
    answer(labelled, change)
    look, found = suspects(labelled)
    if cause is None:
        assert conclusion(found, look.outcome) is Ruling.CLEARED
    else:
        assert (found[0].cause, found[0].column) == (cause, column)


def test_of_two_causes_at_once_the_data_comes_first_and_both_are_named(labelled):
    answer(labelled, UPSTREAM["ten times"][0])
    slow = Server(stable=QUICK, candidate=Load(requests=3000, failed=0, p99_ms=900), waiting=0)
    _, found = suspects(labelled, server=slow, released=START + DAY)
    named = [each.cause for each in found if each.ruling is Ruling.SUSPECTED]
    assert named[0] is Cause.UNIT
    assert {Cause.CANDIDATE, Cause.RELEASE} <= set(named)


def test_rows_that_come_twice_are_no_traffic(labelled):
    rows = answer(labelled, UPSTREAM["nothing"][0])
    inputs = rows.drop(columns=["_id", "_score", "_time"])
    labelled.answer(START, END, 0, frame=inputs, ids=list(rows["_id"]))
    assert suspects(labelled)[1][0].cause is Cause.REPEATED


@pytest.mark.parametrize("rows", [0, 150])
def test_requests_that_stop_are_no_mystery(labelled, rows):
    if rows:
        labelled.answer(START, END, rows)
    assert suspects(labelled)[1][0].cause is Cause.SILENT


@pytest.mark.parametrize(("released", "cause"), [(None, Cause.CONCEPT), (START + DAY, Cause.RELEASE)])
def test_a_world_that_changes_is_told_from_a_release(labelled, released, cause):
    rows = labelled.answer(START, END, 3000)
    labelled.label(rows, truth=outcome(labelled.task, 1 - np.array(rows["_score"].tolist()), labelled.rng))
    assert suspects(labelled, released=released)[1][0].cause is cause


@pytest.mark.parametrize("failed", [0, 300])
def test_a_bad_canary_beside_a_good_stable_model_is_rolled_back(labelled, failed):
    answer(labelled, UPSTREAM["nothing"][0])
    guessed = {} if failed else {"scores": labelled.rng.random(3000)}
    answer(labelled, UPSTREAM["nothing"][0], digest=CANARY, role="candidate", **guessed)
    both = Server(stable=QUICK, candidate=Load(requests=3000, failed=failed, p99_ms=9), waiting=0)
    first = suspects(labelled, server=both)[1][0]
    assert first.cause is Cause.BAD_CANDIDATE
    assert first.action == "roll back"


def test_a_latency_that_grows_a_little_is_no_cause(labelled):
    answer(labelled, UPSTREAM["nothing"][0])
    slower = Server(stable=Load(requests=10_000, failed=3, p99_ms=60), candidate=None, waiting=4)
    look, found = suspects(labelled, server=slower)
    assert conclusion(found, look.outcome) is Ruling.CLEARED
