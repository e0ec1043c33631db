"""Turns a request's body into rows for the model, or says everything that is wrong with it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from mergeline.documents import nearest, repeated
from mergeline.errors import ModelError
from mergeline.requests.problems import (
    MAX_ECHO_CHARACTERS,
    MAX_WHOLE,
    Problems,
    RecordId,
    RequestError,
    Value,
    WrongError,
    is_unicode,
    read_finite,
    read_id,
    shorten,
    split_records,
)
from mergeline.scorer.signature import Column, Kind, Signature
from mergeline.timing import EARLIEST, LATEST


class Batch(NamedTuple):
    """The records of one request: a row holds one value for each column of the signature, in its order.

    A missing number is NaN, a missing category None. `many` tells an array from a single object. `unread` holds
    what the model does not read, for each record one value for each of `unread_names`, None where it was not sent.
    """

    ids: tuple[RecordId, ...]
    rows: tuple[tuple[Value, ...], ...]
    many: bool
    unread: tuple[tuple[Value, ...], ...] = ()


_random_bytes = random.Random().randbytes  # noqa: S311 - unique, not secret; the system's own take 2 µs an id


def make_ids(count: int) -> list[str]:
    """Ids for records that have none: 128 random bits each, as 32 hexadecimal digits."""
    digits = _random_bytes(16 * count).hex()
    return [digits[at : at + 32] for at in range(0, 32 * count, 32)]


def unread_names(signature: Signature) -> tuple[str, ...]:
    """The columns that a record may carry and the model does not read: the time first, then the metadata."""
    return tuple(name for name in (signature.time, *signature.metadata) if name is not None)


def is_event_time(value: object) -> bool:
    """Whether this can be a record's own time: text in ISO 8601, of a year that a row of a window can be of."""
    try:
        return type(value) is str and EARLIEST.year <= datetime.fromisoformat(value).year < LATEST.year
    except ValueError:
        return False


class RecordReader:
    """Reads records as one signature describes them.

    Raises:
        ModelError: (when it is made) a column is of a kind that no model takes.
    """

    def __init__(self, signature: Signature) -> None:
        for column in signature.columns:
            if column.kind not in _CHECKS:
                raise ModelError(
                    f"a column of kind {column.kind} is no input of a model",
                    where=f"signature.json: {column.name}",
                    hint="derive numbers from it before the data are stored",
                )
        self._columns = signature.columns
        self._id = signature.id
        self._target = signature.output.target
        self._time, self._unread = signature.time, unread_names(signature)
        self._known = (*signature.names, *((self._id,) if self._id else ()), *self._unread)
        self._known_set = frozenset(self._known)

    def read(self, document: Any, max_records: int) -> Batch:
        """Check every record of a parsed body.

        Raises:
            RequestError: 413 for too many records, 422 with every problem that was found.
        """
        records = split_records(document, max_records, "record", "one record")
        problems = Problems("record")
        read = [self._read_one(index, record, problems) for index, record in enumerate(records)]
        problems.raise_if_any(len(records))
        unread = tuple(tuple(_storable(record.get(name)) for name in self._unread) for record in records)
        return Batch(tuple(key for key, _ in read), tuple(row for _, row in read), isinstance(document, list), unread)

    def _read_one(self, index: int, record: Any, problems: Problems) -> tuple[RecordId, tuple[Value, ...]]:
        if not isinstance(record, dict):
            problems.add(index, "", "a record must be a JSON object", record)
            return "", ()
        row: list[Value] = []
        for column in self._columns:
            value = record.get(column.name)
            try:
                row.append(_checked(value, column))
            except WrongError as wrong:
                absent = column.name not in record
                problems.add(index, column.name, "is missing" if absent else wrong.reason, value)
        for name in self._unread:
            if isinstance(record.get(name), dict | list):
                problems.add(index, name, "must be a single value", record[name])
            elif name == self._time and record.get(name) is not None and not is_event_time(record[name]):
                years = f"from {EARLIEST.year} to {LATEST.year - 1}"
                problems.add(index, name, f"must be a time in ISO 8601, {years}: 2026-11-29T17:30:00Z", record[name])
        for name in record:
            if name not in self._known_set:
                problems.add(index, name, self._unknown, record[name])
        return self._read_id(index, record, problems), tuple(row)

    def _read_id(self, index: int, record: dict[str, Any], problems: Problems) -> RecordId:
        value = record.get(self._id) if self._id else None
        if value is None:
            return make_ids(1)[0]
        try:
            return read_id(value)
        except WrongError as wrong:
            problems.add(index, str(self._id), wrong.reason, value)
            return ""

    def _unknown(self, name: str) -> str:
        if name == self._target:
            return "this is what the model predicts; leave it out"
        guess = nearest(name[:MAX_ECHO_CHARACTERS], self._known)
        return f"unknown field; did you mean `{guess}`?" if guess else "unknown field; leave it out"


def parse_json(body: bytes) -> Any:
    """The body as JSON values.

    Raises:
        RequestError: 400, with the position: not UTF-8, not JSON, a key given twice, or nested too deeply.
    """
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as cause:
        raise RequestError(400, f"not UTF-8 at byte {cause.start}", hint="encode the body as UTF-8") from None
    except json.JSONDecodeError as cause:
        raise RequestError(
            400, f"not JSON at line {cause.lineno}, column {cause.colno}: {cause.msg}", hint="send valid JSON"
        ) from None
    except WrongError as wrong:
        raise RequestError(400, str(wrong), hint="send valid JSON") from None
    except RecursionError:
        raise RequestError(400, "the JSON is nested too deeply", hint="send flat records") from None
    except ValueError:  # Python's own bound on the digits of a whole number
        raise RequestError(400, "a number has too many digits", hint="send numbers of ordinary length") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise WrongError(f"the key {shorten(repeated(name for name, _ in pairs))!r} is given twice in one object")
    return record


def _no_constant(name: str) -> Value:
    raise WrongError(f"{name} is not JSON; a missing value is null")


def _storable(value: Any) -> Value:
    """An unread value as every kind of storage takes it."""
    if type(value) is str and not is_unicode(value):
        return value.encode("utf-8", "replace").decode()
    if type(value) is int and abs(value) >= MAX_WHOLE:
        return str(shorten(value))
    if type(value) is float and not math.isfinite(value):
        return None
    return value  # type: ignore[no-any-return]


def _checked(value: Any, column: Column) -> Value:
    """A JSON value as the row's.

    Raises:
        WrongError: it breaks the column's rule.
    """
    if value is not None:
        return _CHECKS[column.kind](value, column)
    if not column.nullable:
        raise WrongError("must not be null")
    return None if column.kind is Kind.CATEGORY else math.nan


def _number(value: Any, column: Column) -> Value:
    if type(value) is not float and type(value) is not int:
        raise WrongError(_instead("a number", value))
    return _within(read_finite(value), column)


def _integer(value: Any, column: Column) -> Value:
    if type(value) is not int and not (type(value) is float and value.is_integer()):
        raise WrongError(_instead("a whole number", value))
    if abs(value) >= MAX_WHOLE:
        raise WrongError("must fit in 64 bits")
    return _within(int(value), column)


def _boolean(value: Any, _: Column) -> Value:
    if type(value) is not bool:
        raise WrongError(_instead("true or false", value))
    return value


def _category(value: Any, column: Column) -> Value:
    if type(value) is not str:
        raise WrongError("must be a string")
    if column.closed and value not in column.categories:
        raise WrongError(lambda _: _not_allowed(value, column.categories))
    if not is_unicode(value):
        raise WrongError("holds half of a surrogate pair")
    return value


_CHECKS: dict[Kind, Callable[[Any, Column], Value]] = {
    Kind.NUMBER: _number,
    Kind.INTEGER: _integer,
    Kind.BOOLEAN: _boolean,
    Kind.CATEGORY: _category,
}


def _not_allowed(value: str, categories: Sequence[str]) -> str:
    guess = nearest(value[:MAX_ECHO_CHARACTERS], categories)
    meant = f"; did you mean `{guess}`?" if guess else ""
    return f"is not one of the {len(set(categories))} values allowed{meant}"


def _within(value: float, column: Column) -> Value:
    if column.minimum is not None and value < column.minimum:
        raise WrongError(_bound_words(column.minimum, "at least", "greater than", -math.inf))
    if column.maximum is not None and value > column.maximum:
        raise WrongError(_bound_words(column.maximum, "at most", "less than", math.inf))
    return value


def _bound_words(bound: float, inclusive: str, exclusive: str, beyond: float) -> str:
    """The bound as the schema wrote it: an exclusive one is kept as the number next to it, which is long to write."""
    neighbour = math.nextafter(bound, beyond)
    if len(repr(neighbour)) < len(repr(bound)):
        return f"must be {exclusive} {neighbour:g}"
    return f"must be {inclusive} {bound:g}"


def _instead(wanted: str, value: Any) -> str:
    return f"must be {wanted}, without quotes" if isinstance(value, str) else f"must be {wanted}"
