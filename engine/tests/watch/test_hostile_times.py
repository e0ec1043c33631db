"""One caller's record of an impossible time: the row is set aside and named, and everything else goes on."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from production_journal import END, START, Production, reason
from test_challenge import NOW, PARAMS, champion, repository, run  # noqa: F401 - fixtures
from test_challenge_candidate import Rollout, same

from mergeline.dataset.schema import load_schema
from mergeline.watch.challenge import Proof, read_fresh
from toy_data import orders
from toy_journal import turned, write_journal

DAY = 86_400_000_000
LAST = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999 in microseconds since 1970."""
BEFORE_YEAR_1 = -62_135_596_800_000_000 - DAY // 2
"""0001-01-01T00:00+12:00, which UTC has no date for."""
MOMENTS = {
    "the last microsecond": LAST,
    "beyond the calendar": LAST + 1,
    "year 1 with an offset": BEFORE_YEAR_1,
    "infinity": 2**63 - 1,
    "minus infinity": -(2**63) + 1,
    "year 1899": -2_208_988_800_000_001,
    "year 2200": 7_258_118_400_000_000,
}
NO_TIMESTAMP = [-(2**63)]  # no library writes it: the file counts as damaged


def spoil(file, column, moments):
    """Give the first rows of a Parquet file these times."""
    table = pq.read_table(file)
    place = table.schema.get_field_index(column)
    kept = pc.cast(table[column].combine_chunks(), pa.int64()).to_pylist()
    values = pa.array([*moments, *kept[len(moments) :]], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    pq.write_table(table.set_column(place, column, values), file)


def spoil_all(journal, column, moments, *, folder="predictions"):
    """Give a row of each file one of these times; where there are fewer files, several rows."""
    files = sorted((journal / folder).rglob("*.parquet"))
    for number, file in enumerate(files):
        spoil(file, column, moments[number :: len(files)])


@pytest.fixture(params=[[*MOMENTS.values()], NO_TIMESTAMP], ids=["a row of each", "no timestamp at all"])
def moments(request):
    return request.param


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    production = Production(tmp_path_factory.mktemp("labelled"))
    times = [START + (END - START) * place / 3000 for place in range(3000)]
    production.label(production.answer(START, END, 3000, events=times))
    return production


@pytest.fixture
def production(labelled, tmp_path):
    """A copy of a week of labelled answers, to be spoilt."""
    import copy
    import shutil

    shutil.copytree(labelled.root, tmp_path / "work")
    return copy.replace(labelled, root=tmp_path / "work") if hasattr(copy, "replace") else _at(labelled, tmp_path)


def _at(labelled, tmp_path):
    import copy

    found = copy.copy(labelled)
    found.root = tmp_path / "work"
    return found


@pytest.mark.parametrize(("clock", "column"), [("event", "_event_time"), ("arrival", "_time")])
def test_watch_sets_the_row_aside_and_says_so(production, moments, clock, column):
    spoil_all(production.journal, column, moments)
    found = production.look(watch={"clock": clock})
    if moments != NO_TIMESTAMP:
        assert found.quality.implausible == len(moments)
    assert found.outcome == "steady"
    told = reason(found, "clock").value + reason(found, "files").value
    assert "before 1900 or after 2199" in told or "cannot be read" in told
    assert 2900 - 3000 / 7 < found.rows < 3000


def test_watch_judges_by_labels_of_any_time(production, moments):
    spoil_all(production.journal, "_time", moments, folder="feedback")
    found = production.look(now=END)
    assert found.live is not None
    assert found.live.labelled > 2000


@pytest.mark.parametrize(
    ("clock", "column"), [("event", "_event_time"), ("arrival", "_event_time"), ("event", "_time")]
)
def test_what_is_trained_on_leaves_the_row_out_and_says_so(tmp_path, moments, clock, column):
    write_journal(tmp_path, orders("2024-04", 300))
    spoil_all(tmp_path / "journal", column, moments)
    said = []
    params = PARAMS.model_copy(update={"watch": PARAMS.watch.model_copy(update={"clock": clock})})
    rows = read_fresh(str(tmp_path / "journal"), load_schema(params.data), params, NOW, NOW, tell=said.append)
    if moments == NO_TIMESTAMP:
        assert "cannot be read" in said[0]
        return
    assert said == ["set aside, since their time is before 1900 or after 2199: 7 rows"]
    assert len(rows) == 293
    assert rows["placed"].min().year == rows["placed"].max().year == 2024


@pytest.mark.parametrize("column", ["_event_time", "_time"])
def test_challenge_goes_on(repository, column):  # noqa: F811
    write_journal(repository[0], turned(orders("2024-04", 3000)))
    spoil_all(repository[0] / "journal", column, [LAST])
    assert run(repository).result.proof is Proof.PROVEN


def test_a_label_of_the_last_microsecond_is_a_label(repository):  # noqa: F811
    write_journal(repository[0], turned(orders("2024-04", 3000)))
    spoil_all(repository[0] / "journal", "_time", [LAST], folder="feedback")
    assert run(repository).result.proof is Proof.PROVEN


def test_a_candidate_is_judged_all_the_same(tmp_path, moments):
    rollout = Rollout(tmp_path)
    rollout.both(1500, same, canary=True)
    spoil_all(rollout.production.journal, "_time", moments)
    found = rollout.judge()
    assert found.labelled > 1000
    assert "before 1900 or after 2199" in found.reading or "could not be read" in found.reading


@pytest.mark.parametrize("began", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00"])
def test_a_server_that_says_it_began_at_no_time_of_ours_is_believed_no_more_than_that(tmp_path, began):
    from datetime import datetime

    rollout = Rollout(tmp_path)
    rollout.both(1500, same, canary=True)
    rollout.judge(since=datetime.fromisoformat(began))
