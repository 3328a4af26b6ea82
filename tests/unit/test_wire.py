"""Protobuf's wire format, compared with protobuf's own reading of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint, HistogramDataPoint

from otelkit.delivery import wire

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
UINT64 = st.integers(0, (1 << 64) - 1)


@given(UINT64)
def test_an_unsigned_varint_reads_back(number: int) -> None:
    """Over the whole range, byte for byte as protobuf writes it."""
    written = ExponentialHistogramDataPoint.Buckets(bucket_counts=[number]).SerializeToString()
    assert wire.packed_varint(b"\x12", [number]) == written


@given(INT64)
def test_a_signed_integer_reads_back(number: int) -> None:
    """Negative ones as 64-bit two's complement, as int64 wants it."""
    assert AnyValue.FromString(b"\x18" + wire.varint(number)).int_value == number


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_zigzag_integer_reads_back(number: int) -> None:
    """The form of sint32."""
    assert ExponentialHistogramDataPoint.FromString(b"\x30" + wire.zigzag(number)).scale == number


@given(st.lists(UINT64), st.lists(st.floats(allow_nan=False)))
def test_packed_lists_read_back(counts: list[int], bounds: list[float]) -> None:
    """Also empty ones."""
    point = HistogramDataPoint.FromString(wire.packed_fixed64(b"\x32", counts) + wire.packed_double(b"\x3a", bounds))
    assert list(point.bucket_counts) == counts
    assert list(point.explicit_bounds) == bounds
    buckets = ExponentialHistogramDataPoint.Buckets.FromString(wire.packed_varint(b"\x12", counts))
    assert list(buckets.bucket_counts) == counts


@given(st.text(st.characters(codec=None)))
def test_a_text_is_valid_utf8_and_itself_where_it_can_be(text: str) -> None:
    """Lone surrogates become question marks, character for character."""
    decoded = wire.utf8(text).decode()
    assert decoded == "".join("?" if 0xD800 <= ord(char) < 0xE000 else char for char in text)


@given(UINT64, st.floats(allow_nan=False), st.binary(max_size=300), st.integers(0, (1 << 32) - 1))
def test_every_kind_of_field_is_read(number: int, double: float, content: bytes, small: int) -> None:
    """Integers as numbers, all others as their bytes."""
    message = (
        b"\x08"
        + wire.varint(number)
        + b"\x11"
        + wire.pack_double(double)
        + wire.sized(b"\x1a", content)
        + b"\x25"
        + wire.pack_fixed32(small)
        + b"\x29"
        + wire.pack_fixed64(number)
    )
    assert list(wire.read_fields(message)) == [
        (1, number),
        (2, struct.pack("<d", double)),
        (3, content),
        (4, struct.pack("<I", small)),
        (5, struct.pack("<Q", number)),
    ]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise_valueerror_alone(content: bytes) -> None:
    """Whatever a server answers, reading it ends, with fields or with ValueError."""
    try:
        list(wire.read_fields(content))
    except ValueError:
        return


@pytest.mark.parametrize(
    "content",
    [b"\x80", b"\x0a\x05ab", b"\x09\x00", b"\x0b", b"\xff" * 11, b"\x0a" + b"\xff" * 9 + b"\x01"],
    ids=["open varint", "short bytes", "short double", "group", "long varint", "huge length"],
)
def test_truncated_messages_are_recognised(content: bytes) -> None:
    """Each way in which a message can end too early."""
    with pytest.raises(ValueError, match=r"truncated|wire type|ten bytes"):
        list(wire.read_fields(content))
