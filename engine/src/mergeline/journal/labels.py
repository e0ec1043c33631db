"""Reads the body of POST /feedback: labels for answers that were given earlier, by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mergeline.documents import nearest
from mergeline.requests.answers import class_name
from mergeline.requests.problems import (
    MAX_ECHO_CHARACTERS,
    Problems,
    RecordId,
    WrongError,
    read_finite,
    read_id,
    shorten,
    split_records,
)
from mergeline.scorer.signature import Label, Output

FIELDS = ("id", "label")


class Feedback(NamedTuple):
    """What became of one answer: a class by its name, or the value of a regression."""

    id: RecordId
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
    records = split_records(document, max_records, "label", 'one {"id": …, "label": …}')
    problems = Problems("label")
    read_label = _number if not output.classes else _class_reader(output.classes)
    found = [_read_one(index, record, read_label, problems) for index, record in enumerate(records)]
    problems.raise_if_any(len(records))
    return tuple(found)


LabelReader = Callable[[Any], tuple[str | None, float | None]]


def _read_one(index: int, record: Any, read_label: LabelReader, problems: Problems) -> Feedback:
    if not isinstance(record, dict):
        problems.add(index, "", "a label must be a JSON object", record)
        return Feedback("", None, None)

    def read(field: str, reader: Callable[[Any], Any], otherwise: Any) -> Any:
        try:
            return reader(record.get(field))
        except WrongError as wrong:
            problems.add(index, field, wrong.reason if field in record else "is missing", record.get(field))
            return otherwise

    for name in record:
        if name not in FIELDS:
            problems.add(index, name, _unknown, record[name])
    label, value = read("label", read_label, (None, None))
    return Feedback(read("id", _id, ""), label, value)


def _unknown(name: str) -> str:
    guess = nearest(name[:MAX_ECHO_CHARACTERS], FIELDS)
    return f"unknown field; did you mean `{guess}`?" if guess else "unknown field; leave it out"


def _id(value: Any) -> RecordId:
    if type(value) not in (int, str) and not (type(value) is float and value.is_integer()):
        raise WrongError("must be the id of an answer: a string or a whole number")
    return read_id(value)


def _number(value: Any) -> tuple[None, float]:
    if type(value) not in (int, float):
        raise WrongError("must be a number, without quotes" if isinstance(value, str) else "must be a number")
    return None, read_finite(value)


def _class_reader(classes: Sequence[Label]) -> LabelReader:
    """Takes a class as the answers write it: true is not 1, and 1 is not "1"; but 1.0 is 1, as JSON has it."""
    names = [class_name(label) for label in classes]
    known = {(_kind(label), label): class_name(label) for label in classes}

    def read(value: Any) -> tuple[str, None]:
        if isinstance(value, bool | int | float | str) and (_kind(value), value) in known:
            return known[_kind(value), value], None
        raise WrongError(lambda _: say(value))

    def say(value: Any) -> str:
        listed = f": {', '.join(names)}" if len(names) <= 10 else f" of {len(names)}"
        guess = nearest(str(shorten(value)), names)
        return f"must be one of the classes{listed}" + (
            f"; did you mean {guess}?" if guess and value is not None else ""
        )

    return read


def _kind(value: Label) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text"
