"""The encoder's bytes, decoded with opentelemetry-proto's classes, say what the records said."""

from __future__ import annotations

import enum
import http
import math
import operator
import struct
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

import otelkit
from otelkit.delivery.encode import Encoder
from otelkit.delivery.records import REMOTE_PARENT, Shared
from otelkit.engine.logs import Logger
from otelkit.engine.sdk_records import SdkLogRecord, SdkSpan
from otelkit.engine.tracing import Tracer
from tests.support.records import ALog
from tests.support.started import Started

UINT64 = st.integers(0, (1 << 64) - 1)
UINT32 = st.integers(0, (1 << 32) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
# Any code point, lone surrogates too: os.fsdecode and json produce them.
TEXT = st.text(st.characters(codec=None), max_size=20)
SCALARS = st.one_of(
    st.none(),
    TEXT,
    st.booleans(),
    st.integers(),
    st.sampled_from([-(1 << 63), (1 << 63) - 1, 1 << 63, -(1 << 63) - 1]),
    st.floats(),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(TEXT, inner, max_size=4),
        st.frozensets(st.integers(0, 5), max_size=3),
    ),
    max_leaves=10,
)
ATTRIBUTES = st.dictionaries(TEXT, VALUES, max_size=6)
TIMES = st.one_of(st.just(0), UINT64)
TRACE_IDS = st.integers(1, (1 << 128) - 1)
SPAN_IDS = st.integers(1, (1 << 64) - 1)
STATES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), max_size=3
)
TRACE_STATES = STATES.map(lambda pairs: TraceState(list(pairs.items())))
CONTEXTS = st.builds(
    SpanContext,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    is_remote=st.booleans(),
    trace_flags=st.integers(0, 255).map(TraceFlags),
    trace_state=TRACE_STATES,
)
SCOPES = st.one_of(
    st.none(),
    st.builds(
        InstrumentationScope,
        name=TEXT,
        version=st.one_of(st.none(), TEXT),
        schema_url=st.one_of(st.none(), TEXT),
        attributes=st.one_of(st.none(), st.dictionaries(st.text("abc", min_size=1), st.integers(0, 9), max_size=3)),
    ),
)


def shown(text: str) -> str:
    """A text as it must arrive: protobuf has no surrogates."""
    return "".join("?" if 0xD800 <= ord(char) < 0xE000 else char for char in text)


def same(value: Any) -> Any:
    """What a value must arrive as, comparable: floats by their bits, so that NaN equals itself and -0.0 not 0.0."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int):
        return ("int", value) if -(1 << 63) <= value < 1 << 63 else str(value)
    if isinstance(value, float):
        return ("double", "nan" if math.isnan(value) else struct.pack("<d", value))
    if isinstance(value, (bytes, bytearray)):
        return ("bytes", bytes(value))
    if isinstance(value, Mapping):
        return ("map", [(shown(str(key)), same(item)) for key, item in value.items()])
    return ("list", [same(item) for item in value])


def decoded(value: AnyValue) -> Any:
    """The same form of what arrived."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "int_value":
        return ("int", content)
    if kind == "double_value":
        return ("double", "nan" if math.isnan(content) else struct.pack("<d", content))
    if kind == "bytes_value":
        return ("bytes", content)
    if kind == "array_value":
        return ("list", [decoded(item) for item in content.values])
    if kind == "kvlist_value":
        return ("map", [(pair.key, decoded(pair.value)) for pair in content.values])
    return content


def pairs_of(pairs: Sequence[KeyValue]) -> list[tuple[str, Any]]:
    """Attributes that arrived, in order."""
    return [(pair.key, decoded(pair.value)) for pair in pairs]


def pairs_for(attributes: Mapping[str, object] | None) -> list[tuple[str, Any]]:
    """What attributes must arrive as."""
    return [(shown(key), same(value)) for key, value in (attributes or {}).items()]


def pairs_of_layers(record: ASpan | ALog) -> list[tuple[str, Any]]:
    """What a record's attributes must arrive as: each layer, in this order."""
    return [pair for layer in (record.shared, record.bound, record.own) for pair in pairs_for(layer)]


@dataclass
class AnEvent:
    name: str
    timestamp: int
    attributes: Mapping[str, object] | None
    dropped_attributes: int


class ALink(Link):
    """The SDK's bounded attributes count what they dropped; a link made by hand says so itself."""

    dropped: int = 0

    @property
    def dropped_attributes(self) -> int:
        return self.dropped


@dataclass
class TheDetails:
    status: Status = field(default_factory=Status)
    events: Sequence[AnEvent] = ()
    links: Sequence[Link] = ()
    dropped_events: int = 0
    dropped_links: int = 0


class Counted(dict[str, object]):
    """Attributes that say how many were dropped, as the API's BoundedAttributes do."""

    def __init__(self, attributes: Mapping[str, object], dropped: int) -> None:
        super().__init__(attributes)
        self.dropped = dropped


@dataclass
class ASpan:
    """The narrowest object that satisfies the SpanRecord protocol."""

    name: str
    trace_id: int = 1
    span_id: int = 2
    parent_id: int = 0
    flags: int = 1
    trace_state: TraceState | None = None
    kind: SpanKind = SpanKind.INTERNAL
    start_time: int | None = 1
    end_time: int | None = 2
    shared: Shared | None = None
    bound: Shared | None = None
    own: Mapping[str, object] | None = None
    details: TheDetails | None = None
    instrumentation_scope: InstrumentationScope | None = None


def _link(context: SpanContext, attributes: dict[str, Any], dropped: int) -> Link:
    link = ALink(context, attributes)
    link.dropped = dropped
    return link


LAYERS = st.one_of(st.none(), ATTRIBUTES.map(Shared))
OWN = st.one_of(st.none(), ATTRIBUTES, st.builds(Counted, ATTRIBUTES, UINT32))
DETAILS = st.builds(
    TheDetails,
    status=st.one_of(
        st.just(Status(StatusCode.UNSET)),
        st.just(Status(StatusCode.OK)),
        TEXT.map(lambda text: Status(StatusCode.ERROR, text)),
    ),
    events=st.lists(
        st.builds(
            AnEvent,
            name=TEXT,
            timestamp=TIMES,
            attributes=st.one_of(st.none(), ATTRIBUTES),
            dropped_attributes=UINT32,
        ),
        max_size=3,
    ),
    links=st.lists(st.builds(_link, CONTEXTS, ATTRIBUTES, UINT32), max_size=3),
    dropped_events=UINT32,
    dropped_links=UINT32,
)
SPANS = st.builds(
    ASpan,
    name=TEXT,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    parent_id=st.one_of(st.just(0), SPAN_IDS),
    flags=st.builds(operator.or_, st.integers(0, 255), st.sampled_from((0, REMOTE_PARENT))),
    trace_state=st.one_of(st.none(), TRACE_STATES),
    kind=st.sampled_from(SpanKind),
    start_time=st.one_of(st.none(), TIMES),
    end_time=st.one_of(st.none(), TIMES),
    shared=LAYERS,
    bound=LAYERS,
    own=OWN,
    details=st.one_of(st.none(), DETAILS),
    instrumentation_scope=SCOPES,
)
LOGS = st.builds(
    ALog,
    timestamp=st.one_of(st.none(), TIMES),
    observed_timestamp=st.one_of(st.none(), TIMES),
    severity_number=st.integers(0, 24),
    severity_text=st.one_of(st.none(), TEXT),
    body=VALUES,
    event_name=st.one_of(st.none(), TEXT),
    trace_id=st.one_of(st.just(0), TRACE_IDS),
    span_id=st.one_of(st.just(0), SPAN_IDS),
    flags=st.integers(0, 255),
    shared=LAYERS,
    bound=LAYERS,
    own=OWN,
    instrumentation_scope=SCOPES,
)


def encoder(resource: Mapping[str, object] | None = None) -> Encoder:
    """An encoder with one resource for spans and logs."""
    return Encoder(dict.fromkeys(("traces", "logs"), resource or {}))


def check_scope(scoped: Any, scope: InstrumentationScope | None) -> None:
    """Name, version, attributes and schema of a scope."""
    assert scoped.scope.name == (shown(scope.name) if scope else "")
    assert scoped.scope.version == (shown(scope.version or "") if scope else "")
    assert scoped.schema_url == (shown(scope.schema_url or "") if scope else "")
    assert pairs_of(scoped.scope.attributes) == pairs_for(scope.attributes if scope else None)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(SPANS, min_size=1, max_size=4, unique_by=lambda span: (span.trace_id, span.span_id)), ATTRIBUTES)
def test_spans_arrive_field_by_field(batch: list[ASpan], resource: dict[str, Any]) -> None:
    """Every field of the message, over all types of attributes, grouped by scope without loss."""
    body, failed = encoder(resource).spans(batch)
    assert failed == 0
    (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert pairs_of(part.resource.attributes) == pairs_for(resource)
    found = {}
    for scoped in part.scope_spans:
        for span in scoped.spans:
            found[(span.trace_id, span.span_id)] = (scoped, span)
    assert sum(len(scoped.spans) for scoped in part.scope_spans) == len(batch)
    for record in batch:
        scoped, span = found[(record.trace_id.to_bytes(16, "big"), record.span_id.to_bytes(8, "big"))]
        check_scope(scoped, record.instrumentation_scope)
        assert span.trace_state == (record.trace_state.to_header() if record.trace_state else "")
        assert span.parent_span_id == (record.parent_id.to_bytes(8, "big") if record.parent_id else b"")
        assert span.name == shown(record.name)
        assert span.kind == record.kind.value + 1
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (record.start_time or 0, record.end_time or 0)
        assert pairs_of(span.attributes) == pairs_of_layers(record)
        assert span.dropped_attributes_count == getattr(record.own, "dropped", 0)
        assert span.flags == record.flags & 0xFF | 0x100 | (0x200 if record.flags & REMOTE_PARENT else 0)
        check_details(span, record.details or TheDetails())


def check_details(span: Any, details: TheDetails) -> None:
    """Status, events and links of a span."""
    assert span.status.code == details.status.status_code.value
    assert span.status.message == shown(details.status.description or "")
    assert (span.dropped_events_count, span.dropped_links_count) == (details.dropped_events, details.dropped_links)
    assert len(span.events) == len(details.events)
    for event, made in zip(span.events, details.events, strict=True):
        assert (event.time_unix_nano, event.name) == (made.timestamp, shown(made.name))
        assert pairs_of(event.attributes) == pairs_for(made.attributes)
        assert event.dropped_attributes_count == made.dropped_attributes
    assert len(span.links) == len(details.links)
    for link, linked in zip(span.links, details.links, strict=True):
        assert link.trace_id == linked.context.trace_id.to_bytes(16, "big")
        assert link.span_id == linked.context.span_id.to_bytes(8, "big")
        assert link.trace_state == linked.context.trace_state.to_header()
        assert pairs_of(link.attributes) == pairs_for(linked.attributes)
        assert link.dropped_attributes_count == linked.dropped_attributes
        remote_bits = 0x100 | (0x200 if linked.context.is_remote else 0)
        assert link.flags == int(linked.context.trace_flags) | remote_bits


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(LOGS, min_size=1, max_size=4), ATTRIBUTES)
def test_log_records_arrive_field_by_field(batch: list[ALog], resource: dict[str, Any]) -> None:
    """In the order of emission within each scope."""
    body, failed = encoder(resource).logs(batch)
    assert failed == 0
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    assert pairs_of(part.resource.attributes) == pairs_for(resource)
    expected: dict[int, list[ALog]] = {}
    for record in batch:
        expected.setdefault(id(record.instrumentation_scope), []).append(record)
    assert len(part.scope_logs) == len(expected)
    for scoped, records in zip(part.scope_logs, expected.values(), strict=True):
        check_scope(scoped, records[0].instrumentation_scope)
        for log, record in zip(scoped.log_records, records, strict=True):
            assert log.time_unix_nano == (record.timestamp or 0)
            assert log.observed_time_unix_nano == (record.observed_timestamp or 0)
            assert log.severity_number == record.severity_number
            assert log.severity_text == shown(record.severity_text or "")
            assert decoded(log.body) == same(record.body)
            assert pairs_of(log.attributes) == pairs_of_layers(record)
            assert log.dropped_attributes_count == getattr(record.own, "dropped", 0)
            assert log.trace_id == (record.trace_id.to_bytes(16, "big") if record.trace_id else b"")
            assert log.span_id == (record.span_id.to_bytes(8, "big") if record.span_id else b"")
            assert log.flags == (record.flags if record.trace_id else 0)
            assert log.event_name == shown(record.event_name or "")


# -- metrics

LABELS = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(0, 9), st.booleans()), max_size=3)
NUMBERS = st.one_of(INT64, st.floats(allow_nan=False))
EXEMPLARS = st.lists(
    st.builds(
        Exemplar,
        filtered_attributes=LABELS,
        value=NUMBERS,
        time_unix_nano=UINT64,
        span_id=st.one_of(st.none(), SPAN_IDS),
        trace_id=st.one_of(st.none(), TRACE_IDS),
    ),
    max_size=2,
)
NUMBER_POINTS = st.lists(
    st.builds(
        NumberDataPoint,
        attributes=LABELS,
        start_time_unix_nano=st.one_of(st.none(), TIMES),
        time_unix_nano=TIMES,
        value=NUMBERS,
        exemplars=EXEMPLARS,
    ),
    min_size=1,
    max_size=3,
)
HISTOGRAM_POINTS = st.lists(
    st.builds(
        HistogramDataPoint,
        attributes=LABELS,
        start_time_unix_nano=TIMES,
        time_unix_nano=TIMES,
        count=UINT64,
        sum=NUMBERS,
        bucket_counts=st.lists(UINT64, max_size=4),
        explicit_bounds=st.lists(st.floats(allow_nan=False), max_size=3),
        min=NUMBERS,
        max=NUMBERS,
        exemplars=EXEMPLARS,
    ),
    min_size=1,
    max_size=3,
)
BUCKETS = st.builds(Buckets, offset=st.integers(-(1 << 31), (1 << 31) - 1), bucket_counts=st.lists(UINT64, max_size=4))
EXPONENTIAL_POINTS = st.lists(
    st.builds(
        ExponentialHistogramDataPoint,
        attributes=LABELS,
        start_time_unix_nano=TIMES,
        time_unix_nano=TIMES,
        count=UINT64,
        sum=NUMBERS,
        scale=st.integers(-10, 20),
        zero_count=UINT64,
        positive=BUCKETS,
        negative=BUCKETS,
        flags=st.just(0),
        min=NUMBERS,
        max=NUMBERS,
        exemplars=EXEMPLARS,
    ),
    min_size=1,
    max_size=3,
)
TEMPORALITIES = st.sampled_from(AggregationTemporality)
DATA = st.one_of(
    st.builds(Sum, data_points=NUMBER_POINTS, aggregation_temporality=TEMPORALITIES, is_monotonic=st.booleans()),
    st.builds(Gauge, data_points=NUMBER_POINTS),
    st.builds(Histogram, data_points=HISTOGRAM_POINTS, aggregation_temporality=TEMPORALITIES),
    st.builds(ExponentialHistogram, data_points=EXPONENTIAL_POINTS, aggregation_temporality=TEMPORALITIES),
)
METRICS = st.builds(
    Metric, name=TEXT, description=st.one_of(st.none(), TEXT), unit=st.one_of(st.none(), TEXT), data=DATA
)


def collection(*scopes: tuple[InstrumentationScope | None, Sequence[Metric], str]) -> MetricsData:
    """A collection as the SDK makes it."""
    return MetricsData(
        [
            ResourceMetrics(
                Resource.get_empty(),
                [ScopeMetrics(scope, list(metrics), schema) for scope, metrics, schema in scopes],  # type: ignore[arg-type]
                "",
            )
        ]
    )


def check_exemplars(found: Sequence[Any], made: Sequence[Exemplar]) -> None:
    assert len(found) == len(made)
    for exemplar, expected in zip(found, made, strict=True):
        assert exemplar.time_unix_nano == expected.time_unix_nano
        assert number(exemplar) == expected.value
        assert exemplar.WhichOneof("value") == ("as_int" if isinstance(expected.value, int) else "as_double")
        assert exemplar.span_id == (expected.span_id.to_bytes(8, "big") if expected.span_id else b"")
        assert exemplar.trace_id == (expected.trace_id.to_bytes(16, "big") if expected.trace_id else b"")
        assert pairs_of(exemplar.filtered_attributes) == pairs_for(expected.filtered_attributes)


def number(point: Any) -> float | int:
    """The value of a number point or exemplar."""
    return getattr(point, point.WhichOneof("value"))  # type: ignore[no-any-return]


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(METRICS, min_size=1, max_size=3), SCOPES, ATTRIBUTES)
def test_metrics_arrive_field_by_field(
    metrics: list[Metric], scope: InstrumentationScope | None, resource: dict[str, Any]
) -> None:
    """Sums, gauges, histograms of both kinds, with exemplars, temporality and everything else."""
    schema = (scope.schema_url or "") if scope else ""
    body, failed = encoder().metrics(collection((scope, metrics, schema)), resource)
    assert failed == 0
    (part,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert pairs_of(part.resource.attributes) == pairs_for(resource)
    (scoped,) = part.scope_metrics
    check_scope(scoped, scope)
    for metric, made in zip(scoped.metrics, metrics, strict=True):
        assert (metric.name, metric.description, metric.unit) == tuple(
            shown(text or "") for text in (made.name, made.description, made.unit)
        )
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind)
        expected: Any = made.data
        assert (
            kind
            == {
                Sum: "sum",
                Gauge: "gauge",
                Histogram: "histogram",
                ExponentialHistogram: "exponential_histogram",
            }[type(expected)]
        )
        if not isinstance(expected, Gauge):
            assert data.aggregation_temporality == expected.aggregation_temporality.value
        if isinstance(expected, Sum):
            assert data.is_monotonic == expected.is_monotonic
        for point, source in zip(data.data_points, expected.data_points, strict=True):
            assert point.start_time_unix_nano == (source.start_time_unix_nano or 0)
            assert point.time_unix_nano == source.time_unix_nano
            assert pairs_of(point.attributes) == pairs_for(source.attributes)
            check_exemplars(point.exemplars, source.exemplars)
            if isinstance(source, NumberDataPoint):
                assert number(point) == source.value
                assert point.WhichOneof("value") == ("as_int" if isinstance(source.value, int) else "as_double")
                continue
            assert (point.count, point.sum) == (source.count, float(source.sum))
            assert point.HasField("min") == point.HasField("max") == (source.count > 0)
            if source.count:
                assert (point.min, point.max) == (float(source.min), float(source.max))
            if isinstance(source, HistogramDataPoint):
                assert list(point.bucket_counts) == list(source.bucket_counts)
                assert list(point.explicit_bounds) == list(source.explicit_bounds)
            else:
                assert (point.scale, point.zero_count) == (source.scale, source.zero_count)
                for side, buckets in ((point.positive, source.positive), (point.negative, source.negative)):
                    assert (side.offset, list(side.bucket_counts)) == (buckets.offset, list(buckets.bucket_counts))


# -- one broken record


class Broken:
    """An attribute value that cannot be turned into anything."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    "broken",
    [
        {"own": {"x": Broken()}},
        {"shared": Shared({"x": Broken()})},
        {"bound": Shared({"x": Broken()})},
        {"start_time": -1},
        {"trace_id": None},
        {"trace_id": 1 << 200},
        {"span_id": 1 << 64},
        {"flags": 1 << 20},
        {"kind": "internal"},
        {"details": TheDetails(events=[AnEvent("e", "yesterday", {}, 0)])},  # type: ignore[arg-type]
        {"details": TheDetails(status=None)},  # type: ignore[arg-type]
        {"details": object()},
        {"name": None},
        {"instrumentation_scope": InstrumentationScope(5)},  # type: ignore[arg-type]
        {"instrumentation_scope": InstrumentationScope("s", schema_url=5)},  # type: ignore[arg-type]
        {"instrumentation_scope": "a text"},
    ],
    ids=[
        "own",
        "shared",
        "bound",
        "time",
        "no id",
        "trace id",
        "span id",
        "flags",
        "kind",
        "event",
        "status",
        "details",
        "name",
        "scope's name",
        "scope's schema",
        "no scope",
    ],
)
def test_one_broken_span_is_counted_and_the_others_arrive(broken: dict[str, Any]) -> None:
    """Wherever it stands in the batch."""
    for place in range(3):
        batch = [ASpan(f"good {number}") for number in range(2)]
        batch.insert(place, ASpan(**{"name": "broken", **broken}))
        body, failed = encoder().spans(batch)
        (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
        assert failed == 1
        assert [span.name for scoped in part.scope_spans for span in scoped.spans] == ["good 0", "good 1"]


def test_one_broken_log_record_is_counted_and_the_others_arrive() -> None:
    """Also where the body is what is broken."""
    batch = [
        ALog(body="good"),
        ALog(body=Broken()),
        ALog(timestamp="now"),  # type: ignore[arg-type]
        ALog(severity_number="INFO"),  # type: ignore[arg-type]
        ALog(own={"x": Broken()}),
        ALog(shared=Shared({"x": Broken()})),
        ALog(trace_id=1 << 128),
    ]
    body, failed = encoder().logs(batch)
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    assert failed == 6
    assert [decoded(log.body) for scoped in part.scope_logs for log in scoped.log_records] == ["good"]


def a_sum(name: str, *values: Any) -> Metric:
    """A metric with these values."""
    points = [NumberDataPoint({"n": place}, 1, 2, value, []) for place, value in enumerate(values)]
    return Metric(name, "", "", Sum(points, AggregationTemporality.CUMULATIVE, True))


@pytest.mark.parametrize("value", [1 << 63, "text", None], ids=repr)
def test_a_broken_metric_is_left_out_with_its_points_counted(value: Any) -> None:
    """The other metrics of the scope and the other scopes arrive."""
    scope = InstrumentationScope("s")
    data = collection(
        (scope, [a_sum("good", 1), a_sum("broken", 1, value, 3)], ""), (scope, [a_sum("broken too", value)], "")
    )
    body, failed = encoder().metrics(data, {})
    (part,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert failed == 4
    assert [metric.name for scoped in part.scope_metrics for metric in scoped.metrics] == ["good"]


def test_nothing_but_broken_records_is_no_request() -> None:
    """An empty body and the whole batch counted."""
    broken = {"x": Broken()}
    assert encoder().spans([ASpan("a", own=broken), ASpan("b", own=broken)]) == (b"", 2)
    assert encoder().logs([ALog(body=Broken())]) == (b"", 1)
    assert encoder().metrics(collection((None, [a_sum("broken", None)], "")), {}) == (b"", 1)


def test_a_value_that_contains_itself_costs_its_record_alone() -> None:
    """Recursion without an end is a broken record, not a dead worker."""
    loop: list[Any] = []
    loop.append(loop)
    body, failed = encoder().spans([ASpan("good"), ASpan("broken", own={"x": loop})])
    assert failed == 1
    assert b"good" in body


# -- layers


def the_span(body: bytes) -> Any:
    """The only span of a request."""
    (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (scoped,) = part.scope_spans
    (span,) = scoped.spans
    return span


def the_log(body: bytes) -> Any:
    """The only log record of a request."""
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    (scoped,) = part.scope_logs
    (log,) = scoped.log_records
    return log


def test_shared_attributes_are_encoded_once() -> None:
    """What was encoded first is used for every later record and by every later encoder: a change is not seen."""
    shared, bound = Shared({"s": "first"}), Shared({"b": 1})
    for one in (encoder(), encoder()):
        for number in range(2):
            body, _ = one.spans([ASpan("x", shared=shared, bound=bound, own={"n": number})])
            assert pairs_of(the_span(body).attributes) == [("s", "first"), ("b", ("int", 1)), ("n", ("int", number))]
            shared["s"] = bound["b"] = "changed"


def test_one_set_of_shared_attributes_serves_spans_and_log_records() -> None:
    """The fields have other numbers there, so each has its own bytes."""
    shared, bound = Shared({"s": "x"}), Shared({"request.id": "r"})
    one = encoder()
    expected = [("s", "x"), ("request.id", "r")]
    for _ in range(2):
        span, _failed = one.spans([ASpan("x", shared=shared, bound=bound)])
        assert pairs_of(the_span(span).attributes) == expected
        log, _failed = one.logs([ALog(shared=shared, bound=bound)])
        assert pairs_of(the_log(log).attributes) == expected


def test_no_key_of_an_engines_record_is_in_two_layers(exported: Started) -> None:
    """What the instrumentation says of a record goes before what is bound, what the record says itself before both."""
    otelkit.bind(a="bound", b="bound", c="bound")
    shared, own = Shared({"b": "shared", "c": "shared"}), {"c": "own"}
    tracer, logger = trace.get_tracer("test"), get_logger("test")
    assert isinstance(tracer, Tracer)
    assert isinstance(logger, Logger)
    for attributes in (None, own):
        tracer.begin("work", SpanKind.INTERNAL, shared, attributes).end()
        logger.write(1, 9, "INFO", "work", shared, attributes)
    sink = exported.flush()
    written = [log for log in sink.logs if log.body == "work"]
    for records in (sink.spans, written):
        assert [record.attributes for record in records] == [
            {"a": "bound", "b": "shared", "c": "shared"},
            {"a": "bound", "b": "shared", "c": "own"},
        ]


@pytest.mark.parametrize(("flags", "expected"), [(1, 0x101), (0x03, 0x103), (1 | REMOTE_PARENT, 0x301)])
def test_a_parent_in_another_process_is_said_so(flags: int, expected: int) -> None:
    """In bits 8 and 9 of the flags, beside those of W3C."""
    body, _ = encoder().spans([ASpan("x", parent_id=7, flags=flags)])
    assert the_span(body).flags == expected


@pytest.mark.parametrize("kept", [{}, {"k": "v"}], ids=["none kept", "one kept"])
def test_dropped_attributes_are_counted_whether_or_not_some_are_left(kept: dict[str, object]) -> None:
    """By OpenTelemetry's own container, in spans and log records."""
    own = BoundedAttributes(len(kept), {**{f"x{n}": n for n in range(3)}, **kept})  # type: ignore[dict-item]
    assert own.dropped == 3
    span, _ = encoder().spans([ASpan("x", own=own)])
    log, _ = encoder().logs([ALog(own=own)])
    for record in (the_span(span), the_log(log)):
        assert pairs_of(record.attributes) == pairs_for(kept)
        assert record.dropped_attributes_count == 3


# -- caches


@pytest.mark.parametrize("values", [(1, True, 1.0, 0, False, 0.0), (0.0, False, 0, 1.0, True, 1)], ids=repr)
def test_values_that_are_equal_but_of_other_types_are_told_apart(values: tuple[object, ...]) -> None:
    """1, True and 1.0 are one dictionary key in Python; on the wire they are three types."""
    one = encoder()
    for _ in range(2):
        for value in values:
            body, _failed = one.spans([ASpan("s", own={"x": value})])
            assert pairs_of(the_span(body).attributes) == [("x", same(value))]


class Plan(str, enum.Enum):
    """An enumeration of texts."""

    PRO = "pro"


class Ratio(float):
    """A float of a library's own."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (http.HTTPStatus.NOT_FOUND, ("int", 404)),
        (Plan.PRO, "pro"),
        (Ratio(0.5), same(0.5)),
        ([http.HTTPStatus.OK], ("list", [("int", 200)])),
    ],
    ids=["int", "str", "float", "in a list"],
)
def test_a_value_of_a_subclass_arrives_as_what_it_is_derived_from(value: object, expected: object) -> None:
    """Enumerations above all."""
    body, failed = encoder().spans([ASpan("s", own={"x": value})])
    assert failed == 0
    assert pairs_of(the_span(body).attributes) == [("x", expected)]


@pytest.mark.slow
def test_many_different_keys_values_names_and_scopes_stay_right_over_the_caches_bounds() -> None:
    """What is thrown out of a cache is encoded again, and equally."""
    one = encoder()
    scopes = [InstrumentationScope(f"i{number}") for number in range(600)]
    batch = [
        ASpan(
            f"s{number}",
            own={"k": number % 700, "text": f"t{number % 700}", f"key{number}": f"{number}"},
            instrumentation_scope=scopes[number % 600],
        )
        for number in range(6000)
    ]
    for _ in range(2):
        body, failed = one.spans(batch)
        assert failed == 0
        (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
        assert [scoped.scope.name for scoped in part.scope_spans] == [scope.name for scope in scopes]
        for first, scoped in enumerate(part.scope_spans):
            for number, span in zip(range(first, 6000, 600), scoped.spans, strict=True):
                assert span.name == f"s{number}"
                assert pairs_of(span.attributes) == pairs_for(batch[number].own)


@pytest.mark.parametrize(
    ("records", "make"),
    [
        (16_000, lambda number: ASpan("s", own={"k": f"{number:0200}"})),
        (16_000, lambda number: ASpan("s", own={f"k{number % 900}": f"{number:0200}"})),
        (16_000, lambda number: ASpan("s", own={f"{number:0200}": None})),
        (16_000, lambda number: ASpan(f"{number:0240}")),
        (1_000, lambda number: ASpan("s", own={"k": f"{number:010000}"})),
        (1_000, lambda number: ASpan("s", own={f"{number:010000}": None})),
        (1_000, lambda number: ASpan("s", own={"k": {f"{number:010000}": None}})),
        (1_000, lambda number: ASpan(f"{number:010000}")),
    ],
    ids=["texts", "keys' texts", "keys", "names", "long texts", "long keys", "long nested keys", "long names"],
)
def test_what_never_comes_again_does_not_fill_the_memory(records: int, make: Callable[[int], ASpan]) -> None:
    """Whatever an application says, the caches hold some megabytes at most."""
    one = encoder()
    tracemalloc.start()
    try:
        for number in range(records):
            _, failed = one.spans([make(number)])
            assert failed == 0
        assert tracemalloc.get_traced_memory()[0] < 6 * 1024 * 1024
    finally:
        tracemalloc.stop()


@dataclass
class Temporary:
    """A scope that lives no longer than the call that reads it."""

    name: str
    version: str | None = None
    schema_url: str | None = None
    attributes: Mapping[str, object] | None = None


@dataclass
class WithFreshScope(ALog):
    @property  # type: ignore[misc, override]
    def instrumentation_scope(self) -> Temporary:
        return Temporary(f"scope {self.body}")

    @instrumentation_scope.setter
    def instrumentation_scope(self, scope: object) -> None:
        """What the dataclass sets is nothing."""


def test_scopes_that_are_made_at_each_reading_are_not_mixed_up() -> None:
    """The protocol promises a scope, not the same object every time."""
    body, _ = encoder().logs([WithFreshScope(body=number) for number in range(5000)])
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    for scoped in part.scope_logs:
        for log in scoped.log_records:
            assert scoped.scope.name == f"scope {log.body.int_value}"


# -- what the SDK made, and the official encoder


def sdk_spans(provider: TracerProvider) -> InMemorySpanExporter:
    """Where the ended spans of a provider can be read."""
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return memory


def check_against_the_official_encoder(finished: Sequence[ReadableSpan], resource: Resource) -> None:
    """The same message, but for what the official encoder leaves out."""
    body, failed = encoder(dict(resource.attributes)).spans([SdkSpan(span) for span in finished])
    assert failed == 0
    ours = ExportTraceServiceRequest.FromString(body)
    theirs = encode_spans(finished)
    for scoped in ours.resource_spans[0].scope_spans:
        for span in scoped.spans:
            span.status.SetInParent()  # the official encoder writes an empty status, which means the same as none
        for flagged in (item for span in scoped.spans for item in (span, *span.links)):
            assert flagged.flags & 1
            flagged.flags &= 0x300  # the official encoder leaves the W3C flags out, which the protocol has in bits 0-7
        for link in (link for span in scoped.spans for link in span.links):
            assert link.trace_state == "a=b"
            link.trace_state = ""  # the official encoder leaves it out
    assert ours == theirs


REMOTE = SpanContext(3, 4, True, TraceFlags(1), TraceState([("a", "b")]))


def test_a_real_spans_request_means_what_the_official_encoders_means() -> None:
    """Over spans made by the SDK with everything on them."""
    resource = Resource({"service.name": "shop", "list": ["a", "b"]})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    memory = sdk_spans(provider)
    tracer = provider.get_tracer("lib", "1.0", "https://example.test/schema", {"scope": "attribute"})
    with tracer.start_as_current_span("outer", links=[Link(REMOTE, {"l": 1})], kind=SpanKind.SERVER) as outer:
        outer.set_attributes({"s": "x", "i": 1, "f": 0.5, "b": True, "list": [1, 2], "texts": ["a", "b"]})
        outer.add_event("event", {"k": "v"})
        with tracer.start_as_current_span("inner"):
            pass
        outer.set_status(Status(StatusCode.ERROR, "bad"))
    tracer.start_span("of another", trace.set_span_in_context(trace.NonRecordingSpan(REMOTE))).end()
    check_against_the_official_encoder(memory.get_finished_spans(), resource)


def test_what_the_sdk_dropped_from_a_span_is_counted_as_the_official_encoder_does() -> None:
    """Attributes, events, links, and the attributes of both."""
    limits = SpanLimits(max_span_attributes=2, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1)
    provider = TracerProvider(resource=Resource.get_empty(), span_limits=limits, shutdown_on_exit=False)
    memory = sdk_spans(provider)
    many = {"a": 1, "b": 2, "c": 3, "d": 4}
    span = provider.get_tracer("lib").start_span("full", attributes=many, links=[Link(REMOTE, many) for _ in range(3)])
    for number in range(4):
        span.add_event(f"event {number}", many)
    span.end()
    finished = memory.get_finished_spans()
    check_against_the_official_encoder(finished, Resource.get_empty())
    body, _ = encoder().spans([SdkSpan(span) for span in finished])
    found = the_span(body)
    assert (found.dropped_attributes_count, found.dropped_events_count, found.dropped_links_count) == (2, 3, 2)
    assert [event.dropped_attributes_count for event in found.events] == [3]
    assert [link.dropped_attributes_count for link in found.links] == [3]


def test_odd_flags_of_a_sdk_span_are_not_taken_for_a_remote_parent() -> None:
    """A context that is made by hand may have more than W3C's eight bits."""
    span = ReadableSpan("odd", context=SpanContext(1, 2, False, TraceFlags(0x1FF)), start_time=1, end_time=2)
    body, failed = encoder().spans([SdkSpan(span)])
    assert failed == 0
    assert the_span(body).flags == 0x1FF  # W3C's, and that it is known whether the parent is remote: it is not


def test_real_metrics_mean_what_the_official_encoders_mean() -> None:
    """Over every instrument of the SDK."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.metrics import Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

    reader = InMemoryMetricReader()
    resource = Resource({"service.name": "shop"})
    provider = MeterProvider(
        [reader],
        resource=resource,
        views=[View(instrument_name="exp", aggregation=ExponentialBucketHistogramAggregation())],
        shutdown_on_exit=False,
    )
    meter = provider.get_meter("lib", "1.0", "https://example.test/schema", {"scope": "attribute"})
    meter.create_counter("counter", "{x}", "Counts.").add(2, {"a": "b"})
    meter.create_up_down_counter("updown").add(-1.5, {"a": 1})
    for value in (0.0, 1.0, -3.0, 1000.0):
        meter.create_histogram("exp").record(value, {"h": True})
        meter.create_histogram("plain", "s").record(abs(value), {"h": True})
    meter.create_gauge("gauge").set(3)
    meter.create_observable_gauge("observed", [lambda options: [Observation(7, {"o": "x"})]])
    meter.create_observable_counter("observed.total", [lambda options: [Observation(7)]])
    data = reader.get_metrics_data()
    assert data is not None
    body, failed = encoder().metrics(data, dict(resource.attributes))
    assert failed == 0
    assert ExportMetricsServiceRequest.FromString(body) == encode_metrics(data)


class Queue(LogRecordProcessor):
    """Takes records as otelkit's own intake does."""

    def __init__(self) -> None:
        self.records: list[SdkLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.records.append(SdkLogRecord(log_record))

    def shutdown(self) -> None:
        """Holds nothing."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


class Late(Queue):
    """A processor that adds an attribute."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        assert log_record.log_record.attributes is not None
        log_record.log_record.attributes["late"] = True  # type: ignore[index]


def test_real_log_records_mean_what_the_official_encoders_mean() -> None:
    """Over records in and outside of a trace, with a nested body and attributes, and with some that were dropped."""
    memory = InMemoryLogRecordExporter()
    resource = Resource({"service.name": "shop"})
    provider = LoggerProvider(
        resource=resource, shutdown_on_exit=False, log_record_limits=LogRecordLimits(max_log_record_attributes=4)
    )
    queue = Queue()
    for processor in (queue, Late(), SimpleLogRecordProcessor(memory)):
        provider.add_log_record_processor(processor)
    logger = provider.get_logger("lib", "1.0", "https://example.test/schema", {"scope": "attribute"})
    logger.emit(
        LogRecord(
            timestamp=5,
            observed_timestamp=6,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body={"nested": [1, "two", {"three": 3.0}]},
            attributes={"gone": 1, "n": {"a": [1, 2]}, "bytes": b"x", "text": "t"},
            event_name="an.event",
        )
    )
    logger.emit(
        LogRecord(
            observed_timestamp=6,
            context=trace.set_span_in_context(trace.NonRecordingSpan(REMOTE)),
            body="plain",
        )
    )
    body, failed = encoder(dict(resource.attributes)).logs(queue.records)
    assert failed == 0
    ours = ExportLogsServiceRequest.FromString(body)
    assert ours == encode_logs(memory.get_finished_logs())
    first, second = ours.resource_logs[0].scope_logs[0].log_records
    assert [pair.key for pair in first.attributes] == ["n", "bytes", "text", "late"]
    assert first.dropped_attributes_count == 1
    assert (second.trace_id[-1], second.span_id[-1], second.flags) == (3, 4, 1)
