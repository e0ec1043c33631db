"""Reads a request's body by types that are made from the signature: the quick way, and the way that explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mergeline.requests.problems import (
    MAX_ID_CHARACTERS,
    MAX_VALUES,
    MAX_WHOLE,
    RecordId,
    Value,
    check_values,
)
from mergeline.requests.records import Batch, RecordReader, is_event_time, make_ids, parse_json, unread_names
from mergeline.scorer.signature import Column, Kind, Signature

_LARGEST = MAX_WHOLE - 1
_WHOLE = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
_ID = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)] | _WHOLE
_UNREAD = str | _WHOLE | float | bool
_ABSENT = float("nan")
"""Stands for a field that was not sent. JSON holds no NaN, so this very object comes from nowhere else; it is found by
identity, and among numbers quickly, since only numbers are compared with numbers in a few nanoseconds."""


class BodyReader:
    """Reads the bodies of requests for one model.

    A body that fits the types is read by msgspec in a microsecond or two. Any other goes to `RecordReader`, which
    has the last word: it says what is wrong, and takes the few things that the types are too strict for (a whole
    number written with a point, text with escapes).

    Raises:
        ModelError: (when it is made) a column is of a kind that no model takes.
    """

    def __init__(self, signature: Signature) -> None:
        self._explain = RecordReader(signature)
        self._unread, self._timed = unread_names(signature), signature.time is not None
        self._id = signature.id is not None
        self._width = len(signature.columns)
        nullable = [place for place, column in enumerate(signature.columns) if column.nullable]
        self._numbers_may_lack = any(signature.columns[place].kind is not Kind.CATEGORY for place in nullable)
        self._texts_may_lack = [place for place in nullable if signature.columns[place].kind is Kind.CATEGORY]
        self.fields = self._width + self._id + len(self._unread)
        self._decoder = _decoder(signature)

    def read(self, body: bytes, max_records: int) -> Batch:
        """The records in `body`.

        Raises:
            RequestError: 400 it is not JSON, 413 too many records or values, 422 with every problem that was found.
        """
        if len(body) > MAX_VALUES:
            check_values(body, max_records * self.fields)
        batch = self._read_by_type(body, max_records)
        return self._explain.read(parse_json(body), max_records) if batch is None else batch

    def _read_by_type(self, body: bytes, max_records: int) -> Batch | None:
        """The records, if they fit the types and no key is given twice in one object."""
        if b"\\" in body:  # an escaped colon would upset the count of keys
            return None
        try:
            found = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        many = type(found) is list
        if many and not 0 < len(found) <= max_records:
            return None
        astuple = msgspec.structs.astuple
        records = [astuple(record) for record in found] if many else [astuple(found)]
        gaps = sum([record.count(_ABSENT) for record in records])
        if not _keys_are_unique(body, records, keys=self.fields * len(records) - gaps):
            return None
        width, lacks = self._width, gaps or b"null" in body
        rows = [self._filled(record[:width]) for record in records] if lacks else [record[:width] for record in records]
        unread: tuple[tuple[Value, ...], ...] = ()
        if self._unread:
            start = width + self._id
            unread = tuple(
                [tuple([None if value is _ABSENT else value for value in record[start:]]) for record in records]
            )
            if self._timed and not all(row[0] is None or is_event_time(row[0]) for row in unread):
                return None
        return Batch(self._ids(records), tuple(rows), many, unread)

    def _filled(self, row: tuple[Any, ...]) -> tuple[Value, ...]:
        """A row with NaN for each missing number, and None for each missing text."""
        nan = math.nan
        filled = [nan if value is None else value for value in row] if self._numbers_may_lack else list(row)
        for place in self._texts_may_lack:
            if row[place] is None or row[place] is _ABSENT:
                filled[place] = None
        return tuple(filled)

    def _ids(self, records: Sequence[tuple[Any, ...]]) -> tuple[RecordId, ...]:
        """Each record's own id, or a new one."""
        if not self._id:
            return tuple(make_ids(len(records)))
        given = [record[self._width] for record in records]
        if None not in given and _ABSENT not in given:
            return tuple(given)
        made = make_ids(len(records))
        return tuple(
            [new if value is None or value is _ABSENT else value for value, new in zip(given, made, strict=True)]
        )


def _keys_are_unique(body: bytes, records: Sequence[tuple[Any, ...]], *, keys: int) -> bool:
    """Whether no object in `body`, which holds these records and no escapes, gives one of its `keys` twice.

    msgspec takes the last of equal keys in silence. But every key has its colon, and every other colon stands in a
    text; so there are as many colons as keys that were read and colons in texts that were read, or a key was given
    again.
    """
    colons = body.count(b":") - keys
    if colons:
        colons -= sum(value.count(":") for record in records for value in record if type(value) is str)
    return colons == 0


def _decoder(signature: Signature) -> msgspec.json.Decoder[Any]:
    """A decoder of one record, or of an array of them."""
    columns = signature.columns
    fields: list[tuple[str, Any]] = [(column.name, _type_of(column)) for column in columns]
    if signature.id is not None:
        fields.append((signature.id, _ID | None))
    fields += [(name, _UNREAD | None) for name in unread_names(signature)]
    required = {column.name for column in columns if not column.nullable}
    record = msgspec.defstruct(
        "Record",
        [
            (f"field_{number}", kind) if name in required else (f"field_{number}", kind, _ABSENT)
            for number, (name, kind) in enumerate(fields)
        ],
        rename={f"field_{number}": name for number, (name, _) in enumerate(fields)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )
    return msgspec.json.Decoder(record | list[record])  # type: ignore[valid-type]


def _type_of(column: Column) -> Any:
    kind: Any
    match column.kind:
        case Kind.NUMBER:
            kind = Annotated[float, Meta(ge=column.minimum, le=column.maximum)]
        case Kind.INTEGER:
            least = -_LARGEST if column.minimum is None else max(math.ceil(column.minimum), -_LARGEST)
            most = _LARGEST if column.maximum is None else min(math.floor(column.maximum), _LARGEST)
            kind = Annotated[int, Meta(ge=least, le=most)]
        case Kind.BOOLEAN:
            kind = bool
        case _:
            kind = Literal[column.categories] if column.closed else str
    return kind | None if column.nullable else kind
