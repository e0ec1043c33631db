"""What a segment holds, and how each record is framed: checksummed, so that half of one is never taken for a whole."""

from __future__ import annotations

import mmap
import os
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

    The file is mapped: what is in memory beside one record is the kernel's, and given back when it is wanted. After
    damage the next whole record is looked for.
    """
    if not os.fstat(stream.fileno()).st_size:
        return
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header, end = content[:HEADER_BYTES], len(content)
        nonce = _nonce(content, header)
        if nonce is None:
            yield Gap(0, end)
            return
        if header != MAGIC + nonce:
            yield Gap(0, HEADER_BYTES)
        seed, at = int.from_bytes(nonce, "little"), HEADER_BYTES
        while at < end:
            payload = _record_at(content, at, nonce, seed)
            if payload:
                yield Found(at, payload)
                at += _FRAME.size + len(payload)
            else:
                resumed = _next_record(content, at + 1, nonce, seed)
                yield Gap(at, resumed, resumed == end and _is_torn(content, at, nonce))
                at = resumed


def _nonce(content: mmap.mmap, header: bytes) -> bytes | None:
    """The segment's nonce: that of its header, or where the header is damaged the mark of a whole first record."""
    said, mark = header[len(MAGIC) :], content[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
    for nonce in (said, mark):
        if len(nonce) == NONCE_BYTES and _record_at(content, HEADER_BYTES, nonce, int.from_bytes(nonce, "little")):
            return nonce
    return said if header.startswith(MAGIC) and len(said) == NONCE_BYTES else None


def _record_at(content: mmap.mmap, at: int, nonce: bytes, seed: int) -> bytes:
    """The record whose frame begins at `at`; nothing where there is none."""
    first = at + _FRAME.size
    if first > len(content):
        return b""
    mark, length, checksum = _FRAME.unpack_from(content, at)
    if mark != nonce or first + length > len(content):
        return b""
    payload = content[first : first + length]
    return payload if zlib.crc32(payload, seed) == checksum else b""


def _is_torn(content: mmap.mmap, at: int, nonce: bytes) -> bool:
    """Whether a frame begins at `at` and the file ends before it does."""
    head = content[at : at + _FRAME.size]
    if len(head) < _FRAME.size:
        return nonce.startswith(head[:NONCE_BYTES])
    mark, length, _ = _FRAME.unpack(head)
    return bool(mark == nonce and length > len(content) - at - _FRAME.size)


def _next_record(content: mmap.mmap, start: int, nonce: bytes, seed: int) -> int:
    """Where the first whole record at or after `start` begins; the end of the file if there is none."""
    place = content.find(nonce, start)
    while place >= 0 and not _record_at(content, place, nonce, seed):
        place = content.find(nonce, place + 1)
    return len(content) if place < 0 else place
