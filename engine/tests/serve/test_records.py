from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.errors import ModelError
from mergeline.params import Task
from mergeline.requests.problems import MAX_ECHO_CHARACTERS, MAX_PROBLEMS, RequestError
from mergeline.requests.records import RecordReader, parse_json
from mergeline.scorer.signature import Column, Kind, Output, Signature

FEATURE_KINDS = [kind for kind in Kind if kind is not Kind.TIME]


def signature_of(*columns: Column, **roles) -> Signature:
    output = Output(task=Task.BINARY, target="late", classes=(False, True), positive=True, threshold=0.5)
    return Signature(name="flights", columns=columns, output=output, **roles)


def column(name: str = "x", kind: Kind = Kind.NUMBER, **rules) -> Column:
    return Column(name=name, kind=kind, nullable=rules.pop("nullable", False), **rules)


def read(document, *columns: Column, **roles):
    return RecordReader(signature_of(*columns, **roles)).read(document, max_records=5)


def refusal(document, *columns: Column, **roles) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(document, *columns, **roles)
    return caught.value


def reasons(document, *columns: Column, **roles) -> list[str]:
    error = refusal(document, *columns, **roles)
    assert error.status == 422
    return [problem.reason for problem in error.problems]


class TestBody:
    def test_an_object_is_one_record_and_an_array_is_many(self):
        assert read({"x": 1.5}, column()).many is False
        batch = read([{"x": 1.5}, {"x": 2}], column())
        assert batch.many is True
        assert batch.rows == ((1.5,), (2.0,))

    def test_values_come_in_the_order_of_the_signature_whatever_the_order_of_the_fields(self):
        assert read({"b": 2, "a": 1}, column("a"), column("b")).rows == ((1.0, 2.0),)

    def test_an_empty_array_is_refused(self):
        assert refusal([], column()).status == 422

    def test_more_records_than_allowed_are_too_large(self):
        assert refusal([{"x": 1}] * 6, column()).status == 413

    @pytest.mark.parametrize("document", [3, "text", True, None, [3], [None], [[{"x": 1}]]])
    def test_anything_but_objects_is_refused(self, document):
        assert reasons(document, column()) == ["a record must be a JSON object"]


class TestJson:
    def test_a_syntax_error_says_where_it_is(self):
        with pytest.raises(RequestError, match="line 2, column 6") as caught:
            parse_json(b'{"a": 1,\n "b" 2}')
        assert caught.value.status == 400

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b'{"a": 1, "b": 2, "a": 1}', "'a' is given twice"),
            (b'[{"a": {"b": 1, "b": 1}}]', "'b' is given twice"),
            (b"{" + b"".join(b'"%d":1,' % key for key in range(50_000)) + b'"7":1}', "'7' is given twice"),
            (b'{"a": NaN}', "NaN is not JSON"),
            (b"[-Infinity]", "-Infinity is not JSON"),
            (b"", "not JSON at line 1"),
            (b'{"a": 1} x', "Extra data"),
            (b'"\xff"', "not UTF-8 at byte 1"),
            (b"[" * 100_000, "nested too deeply"),
            (b"9" * 5000, "too many digits"),
        ],
    )
    def test_what_is_not_json_is_a_bad_request(self, body, reason):
        with pytest.raises(RequestError, match=re.escape(reason)) as caught:
            parse_json(body)
        assert caught.value.status == 400

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=10,
        )
    )
    def test_valid_json_is_read_as_it_was_written(self, value):
        assert parse_json(json.dumps(value).encode()) == value

    @given(st.binary(max_size=60))
    def test_no_bytes_do_anything_but_parse_or_be_refused(self, body):
        status = 400
        try:
            parse_json(body)
        except RequestError as error:
            status = error.status
        assert status == 400


class TestNumber:
    @given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60))
    def test_every_finite_number_is_taken(self, value):
        assert read({"x": value}, column()).rows == ((float(value),),)

    @pytest.mark.parametrize("value", ["12.5", True, [1], {"a": 1}])
    def test_another_type_is_refused(self, value):
        assert reasons({"x": value}, column())[0].startswith("must be a number")

    @pytest.mark.parametrize("text", ["1e999", "-1e999", "1" + "0" * 400])
    def test_a_number_beyond_floating_point_is_refused(self, text):
        assert reasons(parse_json(f'{{"x": {text}}}'.encode()), column()) == ["must be a finite number"]

    @given(st.integers(-20, 20))
    def test_bounds_are_inclusive(self, value):
        bounded = column(minimum=-5, maximum=5)
        if -5 <= value <= 5:
            assert read({"x": value}, bounded).rows == ((value,),)
        else:
            assert reasons({"x": value}, bounded) == [f"must be at {'least -5' if value < 0 else 'most 5'}"]

    def test_an_exclusive_bound_is_told_as_the_schema_wrote_it(self):
        above, below = column(minimum=math.nextafter(0, 1)), column(maximum=math.nextafter(1.5, 0))
        assert reasons({"x": 0}, above) == ["must be greater than 0"]
        assert reasons({"x": 2}, below) == ["must be less than 1.5"]


class TestInteger:
    @given(st.integers(-(2**63) + 1, 2**63 - 1))
    def test_every_whole_number_of_64_bits_is_taken(self, value):
        assert read({"x": value}, column(kind=Kind.INTEGER)).rows == ((value,),)

    def test_a_whole_number_may_be_written_with_a_point(self):
        assert read({"x": 5.0}, column(kind=Kind.INTEGER)).rows == ((5,),)

    @pytest.mark.parametrize("value", [1.5, "5", False, math.inf, []])
    def test_anything_else_is_refused(self, value):
        assert reasons({"x": value}, column(kind=Kind.INTEGER))[0].startswith("must be a whole number")

    def test_more_than_64_bits_are_refused(self):
        assert reasons({"x": 2**63}, column(kind=Kind.INTEGER)) == ["must fit in 64 bits"]


class TestBoolean:
    @pytest.mark.parametrize("value", [True, False])
    def test_true_and_false_are_taken(self, value):
        assert read({"x": value}, column(kind=Kind.BOOLEAN)).rows == ((value,),)

    @pytest.mark.parametrize("value", [0, 1, "true", 1.0])
    def test_anything_else_is_refused(self, value):
        assert reasons({"x": value}, column(kind=Kind.BOOLEAN))[0].startswith("must be true or false")


class TestCategory:
    @given(st.text(alphabet=st.characters(codec="utf-8")))
    def test_an_open_category_takes_any_text(self, value):
        seen = column(kind=Kind.CATEGORY, categories=("UA",))
        assert read({"x": value}, seen).rows == ((value,),)

    def test_a_closed_category_refuses_what_the_schema_does_not_name(self):
        closed = column(kind=Kind.CATEGORY, categories=("JFK", "EWR"), closed=True)
        assert read({"x": "EWR"}, closed).rows == (("EWR",),)
        assert reasons({"x": "JFX"}, closed) == ["is not one of the 2 values allowed; did you mean `JFK`?"]

    @pytest.mark.parametrize("value", [1, True, ["UA"]])
    def test_anything_but_a_string_is_refused(self, value):
        assert reasons({"x": value}, column(kind=Kind.CATEGORY)) == ["must be a string"]

    def test_half_of_a_surrogate_pair_is_refused(self):
        assert reasons(parse_json(b'{"x": "\\ud800"}'), column(kind=Kind.CATEGORY)) == [
            "holds half of a surrogate pair"
        ]


class TestMissing:
    @pytest.mark.parametrize("kind", FEATURE_KINDS)
    @pytest.mark.parametrize("record", [{}, {"x": None}])
    def test_a_nullable_column_may_be_missing_or_null(self, kind, record):
        (row,) = read(record, column(kind=kind, nullable=True)).rows
        assert row == (None,) if kind is Kind.CATEGORY else math.isnan(row[0])

    @pytest.mark.parametrize("kind", FEATURE_KINDS)
    def test_another_column_may_not(self, kind):
        assert reasons({}, column(kind=kind)) == ["is missing"]
        assert reasons({"x": None}, column(kind=kind)) == ["must not be null"]


ROLES = {"id": "flight_id", "time": "scheduled_at", "metadata": ("tailnum",)}


def test_a_signature_with_a_time_among_its_inputs_is_an_error_before_any_request():
    with pytest.raises(ModelError, match="kind time"):
        RecordReader(signature_of(column(kind=Kind.TIME)))


class TestOtherFields:
    def test_time_and_metadata_may_come_and_are_not_read(self):
        record = {"x": 1, "scheduled_at": "2013-07-01T08:00", "tailnum": None}
        assert read(record, column(), **ROLES).rows == ((1.0,),)

    @pytest.mark.parametrize(
        "value", ["2013-07-01", "2013-07-01 08:00", "1900-01-01T00:00+05:00", "2199-12-31T23:59:59Z"]
    )
    def test_a_time_of_any_usual_form_is_taken(self, value):
        assert read({"x": 1, "scheduled_at": value}, column(), **ROLES).unread == ((value, None),)

    @pytest.mark.parametrize(
        "value",
        ["yesterday", "", "01/07/2013", 1372636800, 1.5, True, "9999-12-31T23:59:59.999999", "0001-01-01T00:00+05:00"],
    )
    def test_what_is_no_time_of_a_window_is_refused(self, value):
        (reason,) = reasons({"x": 1, "scheduled_at": value}, column(), **ROLES)
        assert reason.startswith("must be a time in ISO 8601, from 1900 to 2199")

    def test_they_must_be_single_values(self):
        assert reasons({"x": 1, "tailnum": ["N1"]}, column(), **ROLES) == ["must be a single value"]

    def test_an_unknown_field_is_refused_with_the_nearest_right_name(self):
        assert reasons({"temp": 1, "tmep": 2}, column("temp")) == ["unknown field; did you mean `temp`?"]
        assert reasons({"temp": 1, "zzz": 2}, column("temp")) == ["unknown field; leave it out"]

    def test_the_target_is_refused_as_what_it_is(self):
        assert reasons({"x": 1, "late": True}, column()) == ["this is what the model predicts; leave it out"]

    @pytest.mark.parametrize("value", ["UA-1", "é" * 200, 17, -(2**62)])
    def test_an_id_is_kept(self, value):
        assert read({"x": 1, "flight_id": value}, column(), **ROLES).ids == (value,)

    def test_a_whole_id_may_be_written_with_a_point(self):
        assert read({"x": 1, "flight_id": 5.0}, column(), **ROLES).ids == (5,)

    @pytest.mark.parametrize("record", [{"x": 1}, {"x": 1, "flight_id": None}])
    def test_a_missing_id_is_made_up_and_differs_from_record_to_record(self, record):
        ids = read([record, record], column(), **ROLES).ids
        assert len(set(ids)) == 2
        assert all(re.fullmatch("[0-9a-f]{32}", key) for key in ids)

    @pytest.mark.parametrize("value", ["", "x" * 201, 1.5, True, {}, 2**63, "\ud800"])
    def test_what_cannot_be_an_id_is_refused(self, value):
        (problem,) = refusal({"x": 1, "flight_id": value}, column(), **ROLES).problems
        assert problem.field == "flight_id"

    def test_without_an_id_column_a_field_called_id_is_unknown(self):
        assert reasons({"x": 1, "id": 3}, column()) == ["unknown field; leave it out"]


class TestProblems:
    def test_all_are_found_in_all_records(self):
        columns = (column("a"), column("b", Kind.INTEGER))
        found = refusal([{"a": "1", "b": 1.5}, {"a": 1, "b": 1}, {"a": 1, "c": 2}], *columns).problems
        assert [(problem.record, problem.field) for problem in found] == [(0, "a"), (0, "b"), (2, "b"), (2, "c")]

    def test_the_first_are_listed_and_the_rest_are_counted(self):
        error = refusal({f"field {number}": 1 for number in range(50)}, column())
        assert len(error.problems) == MAX_PROBLEMS
        assert error.more == 51 - MAX_PROBLEMS

    @pytest.mark.parametrize("found", ["y" * 10_000, ["y"] * 10_000, {"y": "y" * 10_000}, 10**4000])
    def test_a_long_value_is_not_echoed_whole(self, found):
        (problem,) = refusal({"x": found}, column(kind=Kind.BOOLEAN)).problems
        assert len(str(problem.found)) <= MAX_ECHO_CHARACTERS + 1

    def test_a_long_field_is_not_echoed_whole(self):
        problems = refusal({"x": 1, "y" * 10_000: 1}, column()).problems
        assert len(problems[0].field) <= MAX_ECHO_CHARACTERS + 1
