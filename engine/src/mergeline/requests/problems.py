"""What is wrong with a request: the rules that records and labels share, and the error that names every breach."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mergeline.errors import MergelineError

MAX_PROBLEMS = 20
MAX_ID_CHARACTERS = 200
MAX_ECHO_CHARACTERS = 80
MAX_WHOLE = 2**63
"""Whole numbers must be smaller than this, on both sides of zero."""

Value = float | int | bool | str | None
RecordId = str | int


class Problem(NamedTuple):
    """One thing wrong with one record; `found` is short enough to be sent back."""

    record: int
    field: str
    reason: str
    found: Value


class RequestError(MergelineError):
    """A request that gets no prediction.

    Args:
        status: the HTTP status.
        what: what was wrong, in one sentence.
        hint: what the caller can do about it.
        problems: the first of what is wrong with the records.
        more: how many problems are left out of `problems`.
    """

    def __init__(
        self, status: int, what: str, *, hint: str = "", problems: tuple[Problem, ...] = (), more: int = 0
    ) -> None:
        super().__init__(what, where="request", hint=hint)
        self.status, self.problems, self.more = status, problems, more


Reason = str | Callable[[str], str]
"""Why a field is wrong, or what says it of the field's name: to look for a near word takes time, and few are told."""


class WrongError(ValueError):
    """A value breaks its field's rule."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Problems:
    """Counts every problem of one request, and keeps the first few.

    Args:
        what: the word for one of the things that the request holds.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._kept: list[Problem] = []
        self._count = 0

    def add(self, record: int, field: str, reason: Reason, found: Any) -> None:
        """Keep one, if there are not too many."""
        self._count += 1
        if self._count <= MAX_PROBLEMS:
            text = reason if isinstance(reason, str) else reason(field)
            self._kept.append(Problem(record, str(shorten(field)), text, shorten(found)))

    def raise_if_any(self, records: int) -> None:
        """End the request where there is a problem.

        Raises:
            RequestError: 422 with the first problems.
        """
        if self._count:
            raise RequestError(
                422,
                f"{self._count} problem{'s' if self._count > 1 else ''} in "
                f"{f'the {self._what}' if records == 1 else f'{records} {self._what}s'}",
                hint="see problems; GET /openapi.json describes every field",
                problems=tuple(self._kept),
                more=self._count - len(self._kept),
            )


def split_records(document: Any, max_records: int, what: str, example: str) -> list[Any]:
    """The things that a parsed body holds: an array of them, or one.

    Args:
        document: the body as JSON values.
        max_records: most of them in one request.
        what: the word for one of them.
        example: one of them, for the error.

    Raises:
        RequestError: 422 for none, 413 for too many.
    """
    records = document if isinstance(document, list) else [document]
    if not records:
        raise RequestError(422, f"the array holds no {what}", hint=f"send at least {example}")
    if len(records) > max_records:
        raise too_many(len(records), max_records, what)
    return records


def too_many(count: int, most: int, what: str) -> RequestError:
    """Says that there are more of something in one request than are taken."""
    return RequestError(
        413,
        f"{count} {what}s in one request, at most {most} are taken",
        hint="send them in several requests, or raise serve.max_records in params.yaml",
    )


MAX_VALUES = 100_000
"""Of a request beside those of its records. A value takes up to fifty times the memory of its text."""
_SHORTEST, _QUOTES = 2, 4
"""The bytes of the shortest value with what parts it from the next; the quotes of a longer one, with its key."""


def check_values(body: bytes, of_records: int) -> None:
    """Refuse a body of far more values than its records may have, before a parser makes them.

    Args:
        body: JSON, or anything else.
        of_records: values that as many records as are taken have in all.

    Raises:
        RequestError: 413, there are more.
    """
    most = MAX_VALUES + of_records
    if len(body) <= _SHORTEST * most or _marks(body) <= most:  # a comma in a text is one of them
        return
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') <= _QUOTES * most and _marks(b"".join(body.split(b'"')[::2])) <= most:
        return  # most stand in texts
    raise RequestError(
        413,
        "the body holds more values than as many records as are taken in one request",
        hint="send them in several requests, or raise serve.max_records in params.yaml",
    )


def _marks(body: bytes) -> int:
    """At least as many as there are values: each comes after a bracket or a comma."""
    return sum(map(body.count, (b",", b"[", b"{")))


def read_id(value: Any) -> RecordId:
    """The id of a record.

    Raises:
        WrongError: it is none.
    """
    if type(value) is float and value.is_integer():  # JSON has one kind of number: 5.0 is 5
        value = int(value)
    if type(value) is int:
        if abs(value) < MAX_WHOLE:
            return value
        raise WrongError("must fit in 64 bits")
    if type(value) is not str:
        raise WrongError("must be a string or a whole number")
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise WrongError(f"must be of 1 to {MAX_ID_CHARACTERS} characters")
    if not is_unicode(value):
        raise WrongError("holds half of a surrogate pair")
    return value


def read_finite(value: float) -> float:
    """A number as the scorer and the journal take it.

    Raises:
        WrongError: it is infinite, no number, or a whole number that is larger than any float.
    """
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WrongError("must be a finite number")
    return number


def shorten(value: Any) -> Value:
    """A value that is short enough to be sent back."""
    match value:
        case dict():
            return "(an object)"
        case list():
            return "(an array)"
        case str() if len(value) > MAX_ECHO_CHARACTERS:
            return value[:MAX_ECHO_CHARACTERS] + "…"
        case int() if abs(value) >= MAX_WHOLE:
            return "(a whole number of more than 64 bits)"
        case float() if not math.isfinite(value):
            return "(beyond the largest number)"
    return value  # type: ignore[no-any-return]


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
