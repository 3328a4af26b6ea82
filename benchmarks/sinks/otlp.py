"""OTLP over HTTP, as protobuf. The reader is the benchmark's own, not that of what it checks."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.sinks import Count, Counts

_Field = int | bytes


def fields(message: bytes) -> Iterator[tuple[int, _Field]]:
    """The fields of a protobuf message: number and content, that of fixed-width ones as bytes."""
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    while position < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        length = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, message[position : position + length]
        position += length


def within(message: bytes, *path: int) -> Iterator[bytes]:
    """The messages under a path of field numbers."""
    for number, content in fields(message):
        if number == path[0] and isinstance(content, bytes):
            if len(path) == 1:
                yield content
            else:
                yield from within(content, *path[1:])


def text(message: bytes, *path: int) -> str:
    """The text under a path of field numbers, empty where there is none."""
    return next((found.decode() for found in within(message, *path)), "")


def points_in(body: bytes) -> int:
    """How many metric points an ExportMetricsServiceRequest has."""
    return sum(1 for metric in within(body, 1, 2, 2) for _ in points_of(metric))


def _spans(body: bytes, counts: Counts) -> None:
    for span in within(body, 1, 2, 2):
        counts["spans"][text(span, 5)] += 1


def _logs(body: bytes, counts: Counts) -> None:
    for scope in within(body, 1, 2):
        counts["logs"][text(scope, 1, 1)] += sum(1 for _ in within(scope, 2))


def _points(body: bytes, counts: Counts) -> None:
    for metric in within(body, 1, 2, 2):
        counts["points"][text(metric, 1)] += sum(1 for _ in points_of(metric))


def points_of(metric: bytes) -> Iterator[bytes]:
    """The points of a metric."""
    gauge, summation, histogram, exponential = 5, 7, 9, 10
    for kind in (gauge, summation, histogram, exponential):
        yield from within(metric, kind, 1)


COUNTERS: dict[str, Count] = {"/v1/traces": _spans, "/v1/logs": _logs, "/v1/metrics": _points}
