"""What a segment holds, and how each record is framed: checksummed, so that half of one is never taken for a whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import msgspec

OWN = "_"
"""Names of the journal's own columns begin so."""


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """What the values of a record stand for, in their order.

    `columns` are names and kinds of what the model reads, `unread` the names of what it does not read; where
    `timed`, the first of those is the record's own time. `classes` are the names of a multiclass task's classes,
    in the order of its scores.
    """

    columns: tuple[tuple[str, str], ...]
    unread: tuple[str, ...]
    timed: bool
    classes: tuple[str, ...]


def stored_name(name: str) -> str:
    """A column's name in the Parquet files: one that looks like the journal's own is told apart."""
    return f"column{name}" if name.startswith(OWN) else name


MAGIC = b"mergeline-log-1\n"
NONCE_BYTES = 4
HEADER_BYTES = len(MAGIC) + NONCE_BYTES
_FRAME = struct.Struct("<4sII")
_READ_BYTES = 1 << 20
MOST_BYTES = 1 << 30
"""Of a segment that are read: sixteen times what closes one. A file of holes has as many as it likes."""
_TAG_BYTE = 1
"""A record is an array whose first element is its tag: one byte of length, one of tag."""


class Answered(msgspec.Struct):
    """One answer, as the server sends it."""

    id: str | int
    score: float
    label: bool | int | float | str | None
    version: int
    digest: str
    scores: dict[str, float] | None = None


class Declared(msgspec.Struct, array_like=True, tag=0):
    """A layout, and the number that it has in this segment from here on."""

    number: int
    layout: Layout


class Predictions(msgspec.Struct, array_like=True, tag=1, gc=False):
    """The records and answers of one request; its trace is the last, so that older segments may lack it."""

    layout: int
    time_ns: int
    roles: Sequence[str]
    answers: Sequence[Answered]
    rows: Sequence[Sequence[Any]]
    unread: Sequence[Sequence[Any]]
    trace_id: str | None = None


class Shadowed(msgspec.Struct, array_like=True, tag=2):
    """What the shadow model answered to the request whose record begins at byte `at`; a label by its name."""

    at: int
    digest: str
    scores: list[float]
    labels: list[str | None]


class Labelled(msgspec.Struct, array_like=True, tag=3):
    """Labels that came by id: a class by its name, or a value."""

    time_ns: int
    ids: list[str | int]
    labels: list[str | None]
    values: list[float | None]


def label_name(label: bool | int | float | str) -> str:
    """A class by its name, as `mergeline.requests.answers.class_name` has it; which is too heavy to import here."""
    return str(label).lower() if isinstance(label, bool) else str(label)


Record = Declared | Predictions | Shadowed | Labelled

DECLARED_TAG, SHADOWED_TAG = 0, 2

_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class Found(NamedTuple):
    """One whole record: where its frame begins, and its bytes."""

    at: int
    payload: bytes

    @property
    def is_wanted_first(self) -> bool:
        """Whether others cannot be read without it: a layout, or what a shadow model answered."""
        return self.payload[_TAG_BYTE] in (DECLARED_TAG, SHADOWED_TAG)

    def decode(self) -> Record:
        """The record.

        Raises:
            msgspec.DecodeError: it was written by another version.
        """
        return _decoder.decode(self.payload)


class Gap(NamedTuple):
    """Bytes that are no record, from `at` to `end`.

    `is_torn`: they are the beginning of a record at the end of the segment, whose writer ended before its answer.
    """

    at: int
    end: int
    is_torn: bool = False


def framer(nonce: bytes) -> Callable[[bytes], bytes]:
    """What gives the bytes of one record in a segment; made once for all of its records.

    The mark and the seed of the checksum are the segment's own random nonce: what a client sends cannot look
    like a record.
    """
    seed, pack, crc32 = int.from_bytes(nonce, "little"), _FRAME.pack, zlib.crc32

    def frame(payload: bytes) -> bytes:
        return pack(nonce, len(payload), crc32(payload, seed)) + payload

    return frame


def read_segment(stream: BinaryIO) -> Iterator[Found | Gap]:
    """Every whole record of a segment in order, and every stretch that is none.

    Memory is bounded by the largest record. After damage the next whole record is looked for.
    """
    window = _Window(stream)
    header = window.take(0, HEADER_BYTES)
    nonce = _nonce(window, header)
    if nonce is None:
        if header:
            yield Gap(0, window.end)
        return
    if header != MAGIC + nonce:
        yield Gap(0, HEADER_BYTES)
    seed, at = int.from_bytes(nonce, "little"), HEADER_BYTES
    unpack, size, crc32 = _FRAME.unpack_from, _FRAME.size, zlib.crc32
    while at < window.end:
        # Whole records in memory, by far the most, are read right here; the rest is left to the functions below.
        content, start = window.hold(at)
        position, last = at - start, len(content) - size
        while position <= last:
            mark, length, checksum = unpack(content, position)
            payload = content[position + size : position + size + length]
            if mark != nonce or len(payload) != length or not length or crc32(payload, seed) != checksum:
                break
            yield Found(start + position, payload)
            position += size + length
        at = start + position
        if at < window.end:
            payload = _record_at(window, at, nonce, seed)
            if payload:
                yield Found(at, payload)
                at += size + len(payload)
            else:
                resumed = _next_record(window, at + 1, nonce, seed)
                yield Gap(at, resumed, resumed == window.size and _is_torn(window, at, nonce))
                at = resumed
    if at < window.size:
        yield Gap(at, window.size)


def _nonce(window: _Window, header: bytes) -> bytes | None:
    """The segment's nonce: that of its header, or where the header is damaged the mark of a whole first record."""
    said, mark = header[len(MAGIC) :], window.take(HEADER_BYTES, NONCE_BYTES)
    for nonce in (said, mark):
        if len(nonce) == NONCE_BYTES and _record_at(window, HEADER_BYTES, nonce, int.from_bytes(nonce, "little")):
            return nonce
    return said if header.startswith(MAGIC) and len(said) == NONCE_BYTES else None


class _Window:
    """A file of which one stretch at a time is in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)
        self.end = min(self.size, MOST_BYTES)
        self._start, self._content = 0, b""

    def hold(self, at: int) -> tuple[bytes, int]:
        """A stretch of the file that holds the byte `at`, and where it begins."""
        self.take(at, 1)
        return self._content, self._start

    def take(self, at: int, length: int) -> bytes:
        """The bytes from `at` on; fewer than `length` at the end of the file."""
        begin = at - self._start
        if begin < 0 or begin + length > len(self._content):
            self._stream.seek(at)
            self._start, begin = at, 0
            self._content = self._stream.read(max(length, _READ_BYTES))
        return self._content[begin : begin + length]


def _record_at(window: _Window, at: int, nonce: bytes, seed: int) -> bytes:
    """The record whose frame begins at `at`; nothing where there is none."""
    head = window.take(at, _FRAME.size)
    if len(head) < _FRAME.size:
        return b""
    mark, length, checksum = _FRAME.unpack(head)
    if mark != nonce or length > window.end - at:
        return b""
    payload = window.take(at + _FRAME.size, length)
    return payload if len(payload) == length and zlib.crc32(payload, seed) == checksum else b""


def _is_torn(window: _Window, at: int, nonce: bytes) -> bool:
    """Whether a frame begins at `at` and the file ends before it does."""
    head = window.take(at, _FRAME.size)
    if len(head) < _FRAME.size:
        return nonce.startswith(head[:NONCE_BYTES])
    mark, length, _ = _FRAME.unpack(head)
    return bool(mark == nonce and length > window.end - at - _FRAME.size)


def _next_record(window: _Window, start: int, nonce: bytes, seed: int) -> int:
    """Where the first whole record at or after `start` begins; the end of the file if there is none."""
    while start < window.end:
        stretch = window.take(start, _READ_BYTES)
        place = stretch.find(nonce)
        while place >= 0:
            if _record_at(window, start + place, nonce, seed):
                return start + place
            place = stretch.find(nonce, place + 1)
        start += max(1, len(stretch) - NONCE_BYTES + 1)
    return window.end
