"""Makes rows of an OTLP metrics request: one a data point, and one a series when it is first seen.

Exponential histograms become explicit ones with the same buckets, summaries a gauge a quantile.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Iterator
from typing import Any

from otelkit.delivery.wire import read_fields
from otelkit.viewer.envelope import MOST_NS, Batch, Resource, reading, resources, varint
from otelkit.viewer.values import Attributes, Malformed, object_of

_DOUBLE = struct.Struct("<d")
_INT64 = struct.Struct("<q")
_NO_VALUE = 1  # a point's flag: no recorded value
_DELTA = 1
_MOST_COUNT = (1 << 64) - 1
_MOST_BUCKETS = 2_000
_KINDS = {5: "gauge", 7: "sum", 9: "histogram", 10: "exponential_histogram", 11: "summary"}
# Where the fields of the five kinds of points stand: attributes, exemplars, flags.
_PLACES = {5: (7, 5, 8), 7: (7, 5, 8), 9: (9, 8, 10), 10: (1, 11, 10), 11: (7, 0, 8)}


def decode_metrics(body: bytes, attributes: Attributes, batch: Batch) -> None:
    """Adds a request's points, series and resources to a batch.

    Raises Malformed for bytes that are no ExportMetricsServiceRequest.
    """
    with reading(TypeError, OverflowError):
        for resource, _, (start, end) in resources(body, batch):
            _metric(body[start:end], resource, attributes, batch)


def _metric(encoded: bytes, resource: Resource, attributes: Attributes, batch: Batch) -> None:
    name = description = unit = ""
    number, data = 0, b""
    for field, value in read_fields(encoded):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            name = value.decode("utf-8", "replace")
        elif field == 2:
            description = value.decode("utf-8", "replace")
        elif field == 3:
            unit = value.decode("utf-8", "replace")
        elif field in _KINDS:
            number, data = field, value
    if not number:
        return
    points: list[bytes] = []
    monotonic = delta = False
    for field, value in read_fields(data):
        if field == 1 and isinstance(value, bytes):
            points.append(value)
        elif field == 2:
            delta = value == _DELTA
        elif field == 3:
            monotonic = bool(value)
    if not name:
        for _ in points:
            batch.reject("a metric without a name")
        return
    about = (name, unit, monotonic, description)
    for point in points:
        _point(point, number, about, delta, resource, attributes, batch)


def _point(
    encoded: bytes,
    number: int,
    about: tuple[str, str, bool, str],
    delta: bool,
    resource: Resource,
    attributes: Attributes,
    batch: Batch,
) -> None:
    labels_at, exemplars_at, flags_at = _PLACES[number]
    pairs: list[str] = []
    exemplars: list[dict[str, Any]] = []
    fields: dict[int, Any] = {}
    repeated: dict[int, list[bytes]] = {}
    for field, value in read_fields(encoded):
        if field == labels_at and isinstance(value, bytes):
            pairs.append(attributes[value])
        elif field == exemplars_at and isinstance(value, bytes):
            exemplars.append(_exemplar(value, attributes))
        elif field in (6, 7) and number in (9, 11) and isinstance(value, bytes):
            repeated.setdefault(field, []).append(value)
        else:
            fields[field] = value
    if fields.get(flags_at, 0) == _NO_VALUE:
        return
    at = min(_fixed(fields, 3) or time.time_ns(), MOST_NS)
    start = min(_fixed(fields, 2), MOST_NS)
    number_value = count = total = bounds = counts = None
    labels = ",".join(sorted(pairs))
    name, unit, monotonic, description = about
    if number in (5, 7):
        number_value = _number(fields, 4, 6)
        if number_value is None:
            return
    else:
        count = _fixed(fields, 4)
        total = _DOUBLE.unpack(fields[5])[0] if 5 in fields else None
        if number == 9:
            counts = [each for (each,) in _packed(repeated.get(6, []), struct.Struct("<Q"))]
            bounds = [each for (each,) in _packed(repeated.get(7, []), _DOUBLE)]
            if len(counts) != len(bounds) + 1:
                bounds, counts = [], [count]
        elif number == 10:
            bounds, counts = _explicit(fields)
        else:
            number_value = total / count if total is not None and count else None
    series = _series_id(resource.id, name, _KINDS[number], labels)
    if series not in batch.series:
        batch.series[series] = (
            series, name, _KINDS[number], unit, monotonic, description, resource.service, resource.id, f"{{{labels}}}",
        )  # fmt: skip
    batch.points.append((
        name, _KINDS[number], at, start, series, delta, number_value, count, total, bounds, counts,
        json.dumps(exemplars, separators=(",", ":")) if exemplars else None,
    ))  # fmt: skip


def _fixed(fields: dict[int, Any], number: int) -> int:
    """A fixed64; 0 where it is not there."""
    found = fields.get(number)
    if found is None:
        return 0
    if not isinstance(found, bytes) or len(found) != 8:
        raise Malformed("a fixed64 of another size")
    return int.from_bytes(found, "little")


def _series_id(resource: int, name: str, kind: str, labels: str) -> int:
    text = f"{resource}\0{name}\0{kind}\0{labels}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


def _number(fields: dict[int, Any], as_double: int, as_int: int) -> float | None:
    if as_double in fields:
        found: float = _DOUBLE.unpack(fields[as_double])[0]
        return found
    if as_int in fields:
        return float(_INT64.unpack(fields[as_int])[0])
    return None


def _exemplar(encoded: bytes, attributes: Attributes) -> dict[str, Any]:
    fields: dict[int, Any] = {}
    pairs = []
    for field, value in read_fields(encoded):
        if field == 7 and isinstance(value, bytes):
            pairs.append(attributes[value])
        else:
            fields[field] = value
    return {
        "time_ns": min(_fixed(fields, 2), MOST_NS),
        "value": _number(fields, 3, 6),
        "trace_id": bytes(fields.get(5, b"")).hex(),
        "span_id": bytes(fields.get(4, b"")).hex(),
        "labels": json.loads(object_of(pairs)),
    }


def _packed(parts: list[bytes], one: struct.Struct) -> Iterator[tuple[Any, ...]]:
    for part in parts:
        yield from one.iter_unpack(part)


def _explicit(fields: dict[int, Any]) -> tuple[list[float], list[int]]:
    """The buckets of an exponential histogram as bounds and counts; negative values count below zero as one bucket."""
    scale = _zigzag(fields.get(6, 0))
    offset, positive = _buckets(fields.get(8, b""))
    _, negative = _buckets(fields.get(9, b""))
    zero = _fixed(fields, 7)
    base_log = 2.0**-scale
    bounds: list[float] = [0.0]
    counts: list[int] = [min(sum(negative) + zero, _MOST_COUNT)]
    for place, count in enumerate(positive[:_MOST_BUCKETS]):
        exponent = (offset + place) * base_log
        if abs(exponent) > 1000:
            raise Malformed("a histogram beyond what numbers hold")
        if place == 0 and 2.0**exponent > 0:
            bounds.append(2.0**exponent)
            counts.append(0)
        bounds.append(2.0 ** (exponent + base_log))
        counts.append(count)
    counts.append(0)
    return bounds, counts


def _buckets(encoded: bytes) -> tuple[int, list[int]]:
    offset, counts = 0, []
    for field, value in read_fields(encoded):
        if field == 1 and isinstance(value, int):
            offset = _zigzag(value)
        elif field == 2:
            if isinstance(value, int):
                counts.append(value)
                continue
            position = 0
            while position < len(value):
                count, position = varint(value, position)
                counts.append(count)
    return offset, counts


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)
