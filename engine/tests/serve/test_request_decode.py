from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serve_samples import RECORD, make_signature

from mergeline.requests.decode import BodyReader
from mergeline.requests.problems import RequestError
from mergeline.requests.records import Batch, RecordReader, parse_json
from mergeline.scorer.signature import Column, Kind

SIGNATURE = make_signature(
    columns=(
        Column(name="temp", kind=Kind.NUMBER, nullable=True, minimum=-50, maximum=60),
        Column(name="wind", kind=Kind.NUMBER, nullable=False),
        Column(name="hour", kind=Kind.INTEGER, nullable=False, minimum=0, maximum=23),
        Column(name="seats", kind=Kind.INTEGER, nullable=True),
        Column(name="holiday", kind=Kind.BOOLEAN, nullable=True),
        Column(name="origin", kind=Kind.CATEGORY, nullable=False, categories=("JFK", "EWR"), closed=True),
        Column(name="carrier", kind=Kind.CATEGORY, nullable=True, categories=("UA", "AA")),
    )
)
GOOD = {"temp": 12.5, "wind": 3, "hour": 8, "holiday": False, "origin": "JFK", "carrier": "UA", "flight_id": "UA1"}
TYPED, EXPLAINING = BodyReader(SIGNATURE), RecordReader(SIGNATURE)
MAX_RECORDS = 3

NAMES = [*SIGNATURE.names, "flight_id", "scheduled_at", "tailnum", "late", "tmep"]
NUMBERS = ["0", "-0", "1", "8", "8.0", "23", "24", "-50", "60.000001", "1e1", "1E-400", "1e400", "01", ".5", "1.",
           "-", "+1", "NaN", "Infinity", "-Infinity", "9223372036854775807", "9223372036854775808",
           "-9223372036854775808", "-9223372036854775807", "1" + "0" * 29, "0.1", "5e-324"]  # fmt: skip
TEXTS = [
    "2013-07-01T08:00",
    "9999-12-31T23:59",
    "",
    "JFK",
    "UA",
    "a:b",
    '":',
    "é",
    "\u2028",
    "\x7f",
    "😀",
    "x" * 200,
    "x" * 201,
]
RAW = ['"\\ud800"', '"\\u003a"', '"a\nb"', '"\x00"', "{}", "[]", '{"a": 1}', "tru", '"', "", "'UA'", "null"]
VALUES = st.one_of(
    st.sampled_from(["null", "true", "false", *NUMBERS, *RAW]),
    st.sampled_from(TEXTS).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**65), 2**65).map(str),
    st.text(max_size=3).map(json.dumps),
)
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4)


@st.composite
def objects(draw) -> str:
    """A record that is right but for a few members, which may come twice."""
    kept = draw(st.sets(st.sampled_from(list(GOOD))))
    members = [(name, json.dumps(value)) for name, value in GOOD.items() if name not in kept or draw(st.booleans())]
    members = draw(st.permutations([*members, *draw(PAIRS)]))
    return "{" + draw(st.sampled_from([",", ", ", " ,\n"])).join(f'"{name}":{value}' for name, value in members) + "}"


BODIES = st.one_of(
    objects(),
    st.lists(objects(), max_size=MAX_RECORDS + 1).map(lambda records: f"[{','.join(records)}]"),
    st.tuples(objects(), st.sampled_from(["", " ", "x", "{}", "\x00"])).map("".join),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


def values(batch: Batch) -> tuple:
    """A batch without the ids that were made up, and with NaN equal to itself."""
    rows = [[None if isinstance(v, float) and math.isnan(v) else v for v in row] for row in batch.rows]
    kinds = [[type(v) for v in row] for row in batch.rows]
    ids = [key if not (isinstance(key, str) and len(key) == 32) else "made" for key in batch.ids]
    return rows, kinds, ids, batch.many, batch.unread


def explained(body: bytes) -> tuple | tuple[int, str, tuple]:
    try:
        return values(EXPLAINING.read(parse_json(body), MAX_RECORDS))
    except RequestError as error:
        return error.status, error.what, error.problems


def read(body: bytes) -> tuple | tuple[int, str, tuple]:
    try:
        return values(TYPED.read(body, MAX_RECORDS))
    except RequestError as error:
        return error.status, error.what, error.problems


@given(BODIES)
@example(json.dumps(GOOD)[:-1].encode() + b',"temp":1}')
@example(json.dumps({**GOOD, "carrier": "a:b"})[:-1].encode() + b',"temp":1}')
@example(json.dumps({**GOOD, "carrier": "a"})[:-1].encode() + b',"carrier":"\\u003a"}')
@example(b'{"wind":1,"hour":1,"origin":"JFK","hour":2}')
@settings(max_examples=settings().max_examples * 6)
def test_both_ways_of_reading_agree_on_every_body(body):
    assert read(body) == explained(body)


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0, 1, None, "JFK", "a:b", True, 0.5]))))
@settings(max_examples=settings().max_examples * 2)
def test_both_ways_agree_on_every_array(changes):
    body = json.dumps([{**GOOD, **change} for change in changes]).encode()
    assert read(body) == explained(body)


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        [GOOD, GOOD],
        {name: GOOD[name] for name in ("wind", "hour", "origin")},
        {
            **GOOD,
            "temp": None,
            "carrier": None,
            "flight_id": None,
            "tailnum": "N1:2",
            "scheduled_at": "2013-07-01T08:00",
        },
        dict(reversed(GOOD.items())),
    ],
)
def test_ordinary_bodies_need_no_explaining(body, monkeypatch):
    reader = BodyReader(SIGNATURE)
    monkeypatch.delattr(reader, "_explain")
    batch = reader.read(json.dumps(body).encode(), MAX_RECORDS)
    assert values(batch) == explained(json.dumps(body).encode())


def test_time_and_metadata_are_kept_beside_the_rows():
    record = {**RECORD, "tailnum": "N104UW", "scheduled_at": "2013-07-01T08:00"}
    reader = BodyReader(make_signature())
    assert reader.read(json.dumps(record).encode(), 1).unread == (("2013-07-01T08:00", "N104UW"),)
    assert reader.read(json.dumps(RECORD).encode(), 1).unread == ((None, None),)


@pytest.mark.parametrize(
    ("text", "kept"), [("1e999", None), (str(10**30), "(a whole number of more than 64 bits)"), ('"\\ud800"', "?")]
)
def test_metadata_that_no_storage_takes_are_made_storable(text, kept):
    body = json.dumps(RECORD)[:-1] + f',"tailnum":{text}}}'
    assert BodyReader(make_signature()).read(body.encode(), 1).unread == ((None, kept),)


def test_a_name_with_a_colon_is_read_too():
    reader = BodyReader(make_signature(columns=(Column(name="a:b", kind=Kind.NUMBER, nullable=False),)))
    assert reader.read(b'{"a:b": 1}', 1).rows == ((1.0,),)
    with pytest.raises(RequestError, match="given twice"):
        reader.read(b'{"a:b": 1, "a:b": 2}', 1)
