"""OTLP's spans read by protobuf's own reader, as far as it is fast: what lies deeper than a span's fields stays bytes.

protobuf makes an object of each attribute when it is asked for; an attribute that stays bytes is found in a dictionary
of those that were seen before instead, which costs a twentieth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from otelkit.viewer.envelope import messages

NO_MESSAGE = DecodeError
"""What is raised for bytes that are no spans."""

_MOST_AT_ONCE = 1 << 20  # bytes: the smallest spans take a hundred times what they are on the wire
_OPTIONAL, _REPEATED = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
_BYTES, _FIXED64 = FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_FIXED64
_UINT64, _MESSAGE = FieldDescriptorProto.TYPE_UINT64, FieldDescriptorProto.TYPE_MESSAGE
# https://github.com/open-telemetry/opentelemetry-proto: Span
_SPAN = (
    ("trace_id", 1, _BYTES, _OPTIONAL),
    ("span_id", 2, _BYTES, _OPTIONAL),
    ("parent_id", 4, _BYTES, _OPTIONAL),
    ("name", 5, _BYTES, _OPTIONAL),
    ("kind", 6, _UINT64, _OPTIONAL),
    ("start_ns", 7, _FIXED64, _OPTIONAL),
    ("end_ns", 8, _FIXED64, _OPTIONAL),
    ("attributes", 9, _BYTES, _REPEATED),
    ("events", 11, _BYTES, _REPEATED),
    ("links", 13, _BYTES, _REPEATED),
    ("status", 15, _BYTES, _OPTIONAL),
)


def _reader() -> Any:
    """The class of messages of a scope's spans, in a pool of its own: an application's OTLP classes are not touched."""
    file = FileDescriptorProto(name="otelkit_viewer.proto", package="otelkit_viewer", syntax="proto2")
    scope = file.message_type.add(name="ScopeSpans")
    scope.field.add(name="spans", number=2, type=_MESSAGE, label=_REPEATED, type_name=".otelkit_viewer.Span")
    span = file.message_type.add(name="Span")
    for name, number, kind, label in _SPAN:
        span.field.add(name=name, number=number, type=kind, label=label)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("otelkit_viewer.ScopeSpans"))


_SCOPE_SPANS = _reader()


def span_messages(body: bytes, start: int, end: int) -> Iterator[Any]:
    """The spans of the ScopeSpans message that stands there, some at a time.

    Raises Malformed, or what NO_MESSAGE is, for bytes that are none.
    """
    for content in _pieces(body, start, end):
        yield _SCOPE_SPANS.FromString(content).spans


def _pieces(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """Parts of a ScopeSpans message that are each one."""
    if end - start > _MOST_AT_ONCE:
        last = start
        for _, until in messages(body, start, end, 0x12):
            if until - start > _MOST_AT_ONCE and last > start:
                yield body[start:last]
                start = last
            last = until
    yield body[start:end]
