"""Protobuf's wire format, as far as OTLP needs it (https://protobuf.dev/programming-guides/encoding/).

Every function returns bytes; fields are concatenated by the caller. Proto3's defaults (0, empty) are left out by the
caller.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

pack_fixed64 = struct.Struct("<Q").pack
pack_sfixed64 = struct.Struct("<q").pack
pack_double = struct.Struct("<d").pack
pack_fixed32 = struct.Struct("<I").pack

_UINT64 = (1 << 64) - 1
# The lengths of nearly all fields.
_SMALL = (*(bytes((n,)) for n in range(1 << 7)), *(bytes((n & 127 | 128, n >> 7)) for n in range(1 << 7, 1 << 10)))


def varint(number: int) -> bytes:
    """An unsigned varint; a negative number becomes its 64-bit two's complement, as int64 and enums want it."""
    if 0 <= number < 1 << 10:
        return _SMALL[number]
    number &= _UINT64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """A signed varint (sint32, sint64)."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def sized(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: a string, bytes, or a message."""
    return tag + varint(len(content)) + content


def utf8(text: str) -> bytes:
    """UTF-8; lone surrogates, which protobuf forbids, become `?`."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def packed_fixed64(tag: bytes, numbers: Sequence[int]) -> bytes:
    """A packed list of fixed64."""
    return sized(tag, struct.pack(f"<{len(numbers)}Q", *numbers))


def packed_double(tag: bytes, numbers: Sequence[float]) -> bytes:
    """A packed list of doubles."""
    return sized(tag, struct.pack(f"<{len(numbers)}d", *numbers))


def packed_varint(tag: bytes, numbers: Sequence[int]) -> bytes:
    """A packed list of varints."""
    return sized(tag, b"".join(map(varint, numbers)))


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and the integer or the bytes of each.

    Raises ValueError for bytes that are no message.
    """
    for number, value, _ in read_whole_fields(message):
        yield number, value


def read_whole_fields(message: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """As `read_fields`, each with its encoding, tag and length included."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _read_varint(message, position)
            yield number, value, message[start:position]
            continue
        if kind == 2:
            size, position = _read_varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + size > len(message):
            raise ValueError("truncated")
        end = position + size
        yield number, message[position:end], message[start:end]
        position = end


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        if position >= len(message):
            raise ValueError("truncated")
        byte = message[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
    raise ValueError("a varint of more than ten bytes")
