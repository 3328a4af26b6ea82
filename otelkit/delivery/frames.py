"""The spool's file format: frames that lie one after the other in a segment file.

    offset  size
    0       4     OTKF
    4       1     P (pending) or D (done): overwritten in place when the batch is settled, and in no checksum
    5       1     version
    6       2     nothing
    8       4     length of the body, bytes
    12      4     records in the batch
    16      4     records in all frames before this one: what a damaged frame held is the gap
    20      4     length of the body before compression
    24      8     when it was written (ns since the epoch)
    32      8     what it supersedes: a later frame with the same number, 0 for none
    40      4     CRC-32 of the body
    44      4     CRC-32 of the header before this field, with the state as P
    48            the body: an OTLP request, gzip

All numbers are little-endian. A frame that was cut off, or whose bits have changed, is passed over: the next one is
found by its first four bytes and its header's checksum. A header is written after its body: a frame whose writer was
killed in between is none.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

SYNC = b"OTKF"
PENDING, DONE = b"P", b"D"
STATE_AT = 4
_VERSION = 1
_FIELDS = struct.Struct("<4scBHIIIIQQI")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size


class Header(NamedTuple):
    """One frame's header; `offset` is where the frame begins in its segment."""

    offset: int
    done: bool
    length: int
    records: int
    before: int
    raw: int
    written_ns: int
    key: int
    body_crc: int

    @property
    def end(self) -> int:
        """Where the frame ends."""
        return self.offset + HEADER_BYTES + self.length


def frame(body: bytes, *, records: int, before: int, raw: int, written_ns: int, key: int) -> bytes:
    """A pending frame around a compressed body."""
    fields = _FIELDS.pack(
        SYNC, PENDING, _VERSION, 0, len(body), records, before, raw, written_ns, key, crc32(body)
    )  # fmt: skip
    return b"".join((fields, _CHECKSUM.pack(crc32(fields)), body))


def header(content: bytes | memoryview, offset: int, *, at: int = 0) -> Header | None:
    """The header that begins at `at` in `content`, for a frame at `offset` in its file; None where none is."""
    if len(content) - at < HEADER_BYTES:
        return None
    fields = bytes(content[at : at + _FIELDS.size])
    sync, state, version, _, length, records, before, raw, written_ns, key, body_crc = _FIELDS.unpack(fields)
    (checksum,) = _CHECKSUM.unpack_from(content, at + _FIELDS.size)
    unsettled = fields[:STATE_AT] + PENDING + fields[STATE_AT + 1 :]
    if sync != SYNC or version != _VERSION or crc32(unsettled) != checksum:
        return None
    return Header(offset, state == DONE, length, records, before, raw, written_ns, key, body_crc)


def scan(content: bytes) -> tuple[list[Header], int]:
    """The headers of all frames that are whole in a segment's content, in order, and how many records were in those
    that are not: as far as a later frame, or the header of one that was cut off, can say.
    """
    found: list[Header] = []
    lost = reached = position = 0
    while 0 <= position < len(content):
        each = header(content, position, at=position)
        if each is None:
            position = content.find(SYNC, position + 1)
            continue
        lost += max(0, each.before - reached)
        reached = each.before + each.records
        if each.end > len(content):
            lost += 0 if each.done else each.records
            break
        found.append(each)
        position = each.end
    return found, lost


def body_is_whole(found: Header, body: bytes) -> bool:
    """Whether a frame's body is what was written."""
    return len(body) == found.length and crc32(body) == found.body_crc
