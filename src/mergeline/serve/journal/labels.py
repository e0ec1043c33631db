"""Reads the body of POST /feedback: labels for answers that were given earlier, by id."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mergeline.documents import nearest
from mergeline.model.signature import Label, Output
from mergeline.serve.answers import class_name
from mergeline.serve.records import MAX_ID_CHARACTERS, MAX_PROBLEMS, MAX_WHOLE, Problem, RequestError, shorten

FIELDS = ("id", "label")


class Feedback(NamedTuple):
    """What became of one answer: a class by its name, or the value of a regression."""

    id: str | int
    label: str | None
    value: float | None


def read_feedback(document: Any, output: Output, max_records: int) -> tuple[Feedback, ...]:
    """Check every label of a parsed body: `{"id": …, "label": …}`, or an array of them.

    Args:
        document: the body as JSON values.
        output: of the served model: labels are its classes, or finite numbers for a regression.
        max_records: most labels in one request.

    Raises:
        RequestError: 413 for too many, 422 with every problem that was found.
    """
    records = document if isinstance(document, list) else [document]
    if not records:
        raise RequestError(422, "the array holds no label", mend='send at least one {"id": …, "label": …}')
    if len(records) > max_records:
        raise RequestError(
            413,
            f"{len(records)} labels in one request, at most {max_records} are taken",
            mend="send them in several requests, or raise serve.max_records in params.yaml",
        )
    problems: list[Problem] = []
    read_label = _number if not output.classes else _class_reader(output.classes)
    found = [_read_one(index, record, read_label, problems) for index, record in enumerate(records)]
    if problems:
        many = "" if len(problems) == 1 else "s"
        raise RequestError(
            422,
            f"{len(problems)} problem{many} in {'the label' if len(records) == 1 else f'{len(records)} labels'}",
            mend="see problems; GET /openapi.json describes every field",
            problems=tuple(problems[:MAX_PROBLEMS]),
            more=max(0, len(problems) - MAX_PROBLEMS),
        )
    return tuple(found)


class _WrongError(ValueError):
    """A value breaks its field's rule; the text is the reason."""


LabelReader = Callable[[Any], tuple[str | None, float | None]]


def _read_one(index: int, record: Any, read_label: LabelReader, problems: list[Problem]) -> Feedback:
    if not isinstance(record, dict):
        problems.append(Problem(index, "", "a label must be a JSON object", shorten(record)))
        return Feedback("", None, None)

    def read(field: str, reader: Callable[[Any], Any], otherwise: Any) -> Any:
        try:
            return reader(record.get(field))
        except _WrongError as wrong:
            reason = str(wrong) if field in record else "is missing"
            problems.append(Problem(index, field, reason, shorten(record.get(field))))
            return otherwise

    for name in record:
        if name not in FIELDS:
            guess = nearest(name[:MAX_ID_CHARACTERS], FIELDS)
            reason = f"unknown field; did you mean `{guess}`?" if guess else "unknown field; leave it out"
            problems.append(Problem(index, str(shorten(name)), reason, shorten(record[name])))
    label, value = read("label", read_label, (None, None))
    return Feedback(read("id", _id, ""), label, value)


def _id(value: Any) -> str | int:
    if type(value) is float and value.is_integer():  # JSON has one kind of number: 5.0 is 5
        value = int(value)
    if type(value) is int:
        if abs(value) < MAX_WHOLE:
            return value
        raise _WrongError("must fit in 64 bits")
    if type(value) is not str:
        raise _WrongError("must be the id of an answer: a string or a whole number")
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise _WrongError(f"must be of 1 to {MAX_ID_CHARACTERS} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _WrongError("holds half of a surrogate pair") from None
    return value


def _number(value: Any) -> tuple[None, float]:
    if type(value) not in (int, float):
        raise _WrongError("must be a number, without quotes" if isinstance(value, str) else "must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _WrongError("must be a finite number")
    return None, number


def _class_reader(classes: Sequence[Label]) -> LabelReader:
    """Takes a class as the answers write it: true is not 1, and 1 is not "1"; but 1.0 is 1, as JSON has it."""
    names = [class_name(label) for label in classes]
    known = {(_kind(label), label): class_name(label) for label in classes}

    def read(value: Any) -> tuple[str, None]:
        if isinstance(value, bool | int | float | str) and (_kind(value), value) in known:
            return known[_kind(value), value], None
        listed = f": {', '.join(names)}" if len(names) <= 10 else f" of {len(names)}"
        guess = nearest(str(shorten(value)), names)
        raise _WrongError(
            f"must be one of the classes{listed}" + (f"; did you mean {guess}?" if guess and value is not None else "")
        )

    return read


def _kind(value: Label) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text"
