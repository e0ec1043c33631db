from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from serve_samples import RECORD, make_signature

from mergeline.params import Task
from mergeline.requests.problems import RequestError
from mergeline.requests.records import RecordReader, is_event_time
from mergeline.serve.openapi import describe_api, describe_record, example_record
from mergeline.serve.settings import Settings

SIGNATURE = make_signature()
SETTINGS = Settings(root=".", manifest="manifest.yaml", store="store", cache="cache", api_key="secret")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-70, 70),
    st.floats(-70, 70),
    st.sampled_from(
        ["JFK", "EWR", "UA", "12", "", "2013-07-01", "2013-07-01 08:00", "1899-12-31T23:00Z", "2200-01-01"]
    ),
    st.lists(st.integers(), max_size=1),
)
TIMES = FormatChecker(formats=())
TIMES.checks("date-time")(lambda value: not isinstance(value, str) or is_event_time(value))
FIELDS = ("flight_id", "scheduled_at", "tailnum", "late")


@given(
    changes=st.fixed_dictionaries({}, optional=dict.fromkeys((*SIGNATURE.names, *FIELDS), VALUES)),
    left_out=st.sets(st.sampled_from(SIGNATURE.names)),
)
@settings(max_examples=settings().max_examples * 2)
def test_the_description_and_the_reader_take_the_same_records(changes, left_out):
    record = {name: value for name, value in {**RECORD, **changes}.items() if name not in left_out}
    described = Draft202012Validator(describe_record(SIGNATURE), format_checker=TIMES).is_valid(record)
    try:
        RecordReader(SIGNATURE).read(record, max_records=1)
        taken = True
    except RequestError:
        taken = False
    assert taken == described


def test_the_example_is_a_record_that_the_reader_takes():
    assert len(RecordReader(SIGNATURE).read(example_record(SIGNATURE), max_records=1).rows) == 1


@pytest.mark.parametrize("task", list(Task))
def test_every_reference_in_the_document_leads_somewhere(task):
    document = describe_api(make_signature(task), 7, SETTINGS)

    def references(node):
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key == "$ref")
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from references(child)

    found = set(references(document))
    assert found == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
