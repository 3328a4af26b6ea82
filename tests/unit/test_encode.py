"""The encoder's bytes, decoded with opentelemetry-proto's classes, say what the records said."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
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
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from otelkit.delivery.encode import Encoder

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
CONTEXTS = st.builds(
    SpanContext,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    is_remote=st.booleans(),
    trace_flags=st.integers(0, 255).map(TraceFlags),
    trace_state=STATES.map(lambda pairs: TraceState(list(pairs.items()))),
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
class ASpan:
    """The narrowest object that satisfies the SpanRecord protocol."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    kind: SpanKind
    start_time: int | None
    end_time: int | None
    attributes: Mapping[str, object] | None
    events: Sequence[AnEvent]
    links: Sequence[Link]
    status: Status
    instrumentation_scope: InstrumentationScope | None
    dropped_attributes: int
    dropped_events: int
    dropped_links: int


@dataclass
class ASeverity:
    value: int


@dataclass
class LogData:
    timestamp: int | None = None
    observed_timestamp: int | None = None
    trace_id: int | None = None
    span_id: int | None = None
    trace_flags: int | None = None
    severity_text: str | None = None
    severity_number: ASeverity | None = None
    body: object = None
    attributes: Mapping[str, object] | None = None
    event_name: str | None = None


@dataclass
class ALog:
    log_record: LogData
    instrumentation_scope: InstrumentationScope | None = None
    dropped_attributes: int = 0


def _link(context: SpanContext, attributes: dict[str, Any], dropped: int) -> Link:
    link = ALink(context, attributes)
    link.dropped = dropped
    return link


SPANS = st.builds(
    ASpan,
    name=TEXT,
    context=CONTEXTS,
    parent=st.one_of(st.none(), CONTEXTS),
    kind=st.sampled_from(SpanKind),
    start_time=st.one_of(st.none(), TIMES),
    end_time=st.one_of(st.none(), TIMES),
    attributes=st.one_of(st.none(), ATTRIBUTES),
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
    status=st.one_of(
        st.just(Status(StatusCode.UNSET)),
        st.just(Status(StatusCode.OK)),
        TEXT.map(lambda text: Status(StatusCode.ERROR, text)),
    ),
    instrumentation_scope=SCOPES,
    dropped_attributes=UINT32,
    dropped_events=UINT32,
    dropped_links=UINT32,
)
LOGS = st.builds(
    ALog,
    log_record=st.builds(
        LogData,
        timestamp=st.one_of(st.none(), TIMES),
        observed_timestamp=st.one_of(st.none(), TIMES),
        trace_id=st.one_of(st.none(), st.just(0), TRACE_IDS),
        span_id=st.one_of(st.none(), st.just(0), SPAN_IDS),
        trace_flags=st.one_of(st.none(), st.integers(0, 255)),
        severity_text=st.one_of(st.none(), TEXT),
        severity_number=st.one_of(st.none(), st.integers(0, 24).map(ASeverity)),
        body=VALUES,
        attributes=st.one_of(st.none(), ATTRIBUTES),
        event_name=st.one_of(st.none(), TEXT),
    ),
    instrumentation_scope=SCOPES,
    dropped_attributes=UINT32,
)


def encoder(resource: Mapping[str, object] | None = None) -> Encoder:
    """An encoder with one resource for all signals."""
    return Encoder(dict.fromkeys(("traces", "metrics", "logs"), resource or {}))


def check_scope(scoped: Any, scope: InstrumentationScope | None) -> None:
    """Name, version, attributes and schema of a scope."""
    assert scoped.scope.name == (shown(scope.name) if scope else "")
    assert scoped.scope.version == (shown(scope.version or "") if scope else "")
    assert scoped.schema_url == (shown(scope.schema_url or "") if scope else "")
    assert pairs_of(scoped.scope.attributes) == pairs_for(scope.attributes if scope else None)


@settings(max_examples=40)
@given(st.lists(SPANS, min_size=1, max_size=4), ATTRIBUTES)
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
    for record in {(r.context.trace_id, r.context.span_id): r for r in batch}.values():
        context = record.context
        scoped, span = found[(context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))]
        check_scope(scoped, record.instrumentation_scope)
        assert span.trace_state == context.trace_state.to_header()
        assert span.parent_span_id == (record.parent.span_id.to_bytes(8, "big") if record.parent else b"")
        assert span.name == shown(record.name)
        assert span.kind == record.kind.value + 1
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (record.start_time or 0, record.end_time or 0)
        assert pairs_of(span.attributes) == pairs_for(record.attributes)
        assert span.status.code == record.status.status_code.value
        assert span.status.message == shown(record.status.description or "")
        remote = bool(record.parent and record.parent.is_remote)
        assert span.flags == int(context.trace_flags) | 0x100 | (0x200 if remote else 0)
        assert (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count) == (
            record.dropped_attributes,
            record.dropped_events,
            record.dropped_links,
        )
        assert len(span.events) == len(record.events)
        for event, made in zip(span.events, record.events, strict=True):
            assert (event.time_unix_nano, event.name) == (made.timestamp, shown(made.name))
            assert pairs_of(event.attributes) == pairs_for(made.attributes)
            assert event.dropped_attributes_count == made.dropped_attributes
        assert len(span.links) == len(record.links)
        for link, linked in zip(span.links, record.links, strict=True):
            assert link.trace_id == linked.context.trace_id.to_bytes(16, "big")
            assert link.span_id == linked.context.span_id.to_bytes(8, "big")
            assert link.trace_state == linked.context.trace_state.to_header()
            assert pairs_of(link.attributes) == pairs_for(linked.attributes)
            assert link.dropped_attributes_count == linked.dropped_attributes
            remote_bits = 0x100 | (0x200 if linked.context.is_remote else 0)
            assert link.flags == int(linked.context.trace_flags) | remote_bits


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
            data = record.log_record
            assert log.time_unix_nano == (data.timestamp or 0)
            assert log.observed_time_unix_nano == (data.observed_timestamp or 0)
            assert log.severity_number == (data.severity_number.value if data.severity_number else 0)
            assert log.severity_text == shown(data.severity_text or "")
            assert decoded(log.body) == same(data.body)
            assert pairs_of(log.attributes) == pairs_for(data.attributes)
            assert log.dropped_attributes_count == record.dropped_attributes
            assert log.trace_id == (data.trace_id.to_bytes(16, "big") if data.trace_id else b"")
            assert log.span_id == (data.span_id.to_bytes(8, "big") if data.span_id else b"")
            assert log.flags == (int(data.trace_flags or 0) if data.trace_id else 0)
            assert log.event_name == shown(data.event_name or "")


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


@settings(max_examples=40)
@given(st.lists(METRICS, min_size=1, max_size=3), SCOPES, ATTRIBUTES)
def test_metrics_arrive_field_by_field(
    metrics: list[Metric], scope: InstrumentationScope | None, resource: dict[str, Any]
) -> None:
    """Sums, gauges, histograms of both kinds, with exemplars, temporality and everything else."""
    schema = (scope.schema_url or "") if scope else ""
    body, failed = encoder(resource).metrics(collection((scope, metrics, schema)))
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


def a_span(name: str, **changes: Any) -> ASpan:
    """A span with nothing special."""
    fields: dict[str, Any] = {
        "name": name,
        "context": SpanContext(1, 2, False, TraceFlags(1)),
        "parent": None,
        "kind": SpanKind.INTERNAL,
        "start_time": 1,
        "end_time": 2,
        "attributes": {},
        "events": (),
        "links": (),
        "status": Status(),
        "instrumentation_scope": None,
        "dropped_attributes": 0,
        "dropped_events": 0,
        "dropped_links": 0,
    }
    return ASpan(**{**fields, **changes})


@pytest.mark.parametrize(
    "broken",
    [
        {"attributes": {"x": Broken()}},
        {"start_time": -1},
        {"context": None},
        {"context": SpanContext(1 << 200, 2, False)},
        {"events": [AnEvent("e", "yesterday", {}, 0)]},  # type: ignore[arg-type]
        {"name": None},
        {"status": None},
    ],
    ids=["attribute", "time", "no context", "id", "event", "name", "status"],
)
def test_one_broken_span_is_counted_and_the_others_arrive(broken: dict[str, Any]) -> None:
    """Wherever it stands in the batch."""
    for place in range(3):
        batch = [a_span(f"good {number}") for number in range(2)]
        batch.insert(place, a_span(**{"name": "broken", **broken}))
        body, failed = encoder().spans(batch)
        (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
        assert failed == 1
        assert [span.name for scoped in part.scope_spans for span in scoped.spans] == ["good 0", "good 1"]


def test_one_broken_log_record_is_counted_and_the_others_arrive() -> None:
    """Also where the body is what is broken."""
    batch = [
        ALog(LogData(body="good")),
        ALog(LogData(body=Broken())),
        ALog(LogData(timestamp="now")),  # type: ignore[arg-type]
    ]
    body, failed = encoder().logs(batch)
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    assert failed == 2
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
    body, failed = encoder().metrics(data)
    (part,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert failed == 4
    assert [metric.name for scoped in part.scope_metrics for metric in scoped.metrics] == ["good"]


def test_nothing_but_broken_records_is_no_request() -> None:
    """An empty body and the whole batch counted."""
    broken = {"attributes": {"x": Broken()}}
    assert encoder().spans([a_span("a", **broken), a_span("b", **broken)]) == (b"", 2)
    assert encoder().logs([ALog(LogData(body=Broken()))]) == (b"", 1)
    assert encoder().metrics(collection((None, [a_sum("broken", None)], ""))) == (b"", 1)


def test_a_value_that_contains_itself_costs_its_record_alone() -> None:
    """Recursion without an end is a broken record, not a dead worker."""
    loop: list[Any] = []
    loop.append(loop)
    body, failed = encoder().spans([a_span("good"), a_span("broken", attributes={"x": loop})])
    assert failed == 1
    assert b"good" in body


# -- caches


def test_values_that_are_equal_but_of_other_types_are_told_apart() -> None:
    """1, True and 1.0 are one dictionary key in Python; on the wire they are three types."""
    one = encoder()
    for value, kind in (
        (1, "int_value"),
        (True, "bool_value"),
        (1.0, "double_value"),
        (0, "int_value"),
        (False, "bool_value"),
    ):
        for _ in range(2):
            body, _failed = one.spans([a_span("s", attributes={"x": value})])
            (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
            (pair,) = part.scope_spans[0].spans[0].attributes
            assert pair.value.WhichOneof("value") == kind, value


def test_many_different_values_and_scopes_stay_right_over_the_caches_bounds() -> None:
    """What is thrown out of a cache is encoded again, and equally."""
    one = encoder()
    batch = [
        a_span(f"s{number}", attributes={"k": number % 5000}, instrumentation_scope=InstrumentationScope(f"i{number}"))
        for number in range(12_000)
    ]
    for _ in range(2):
        body, failed = one.spans(batch)
        assert failed == 0
        (part,) = ExportTraceServiceRequest.FromString(body).resource_spans
        for number, scoped in enumerate(part.scope_spans):
            assert scoped.scope.name == f"i{number}"
            assert scoped.spans[0].attributes[0].value.int_value == number % 5000


@dataclass
class Temporary:
    """A scope that lives no longer than the call that reads it."""

    name: str
    version: str | None = None
    schema_url: str | None = None
    attributes: Mapping[str, object] | None = None


@dataclass
class WithFreshScope:
    number: int
    log_record: LogData = field(default_factory=LogData)
    dropped_attributes: int = 0

    @property
    def instrumentation_scope(self) -> Temporary:
        return Temporary(f"scope {self.number}")


def test_scopes_that_are_made_at_each_reading_are_not_mixed_up() -> None:
    """The protocol promises a scope, not the same object every time."""
    body, _ = encoder().logs([WithFreshScope(number, LogData(body=number)) for number in range(50)])
    (part,) = ExportLogsServiceRequest.FromString(body).resource_logs
    for scoped in part.scope_logs:
        for log in scoped.log_records:
            assert scoped.scope.name == f"scope {log.body.int_value}"


# -- the official encoder


def test_a_real_spans_request_means_what_the_official_encoders_means() -> None:
    """Over a span made by the SDK with everything on it."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    resource = Resource({"service.name": "shop", "list": ["a", "b"]})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("lib", "1.0", "https://example.test/schema", {"scope": "attribute"})
    remote = SpanContext(3, 4, True, TraceFlags(1), TraceState([("a", "b")]))
    with tracer.start_as_current_span("outer", links=[Link(remote, {"l": 1})], kind=SpanKind.SERVER) as outer:
        outer.set_attributes({"s": "x", "i": 1, "f": 0.5, "b": True, "list": [1, 2], "texts": ["a", "b"]})
        outer.add_event("event", {"k": "v"})
        with tracer.start_as_current_span("inner"):
            pass
        outer.set_status(Status(StatusCode.ERROR, "bad"))
    finished = memory.get_finished_spans()
    body, failed = encoder(dict(resource.attributes)).spans(finished)
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
    body, failed = encoder(dict(resource.attributes)).metrics(data)
    assert failed == 0
    assert ExportMetricsServiceRequest.FromString(body) == encode_metrics(data)


def test_real_log_records_mean_what_the_official_encoders_mean() -> None:
    """Over records with and without a trace, with a nested body and nested attributes."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    memory = InMemoryLogRecordExporter()
    resource = Resource({"service.name": "shop"})
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    logger = provider.get_logger("lib", "1.0", "https://example.test/schema", {"scope": "attribute"})
    logger.emit(
        LogRecord(
            timestamp=5,
            observed_timestamp=6,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body={"nested": [1, "two", {"three": 3.0}]},
            attributes={"n": {"a": [1, 2]}, "bytes": b"x", "text": "t"},
            event_name="an.event",
        )
    )
    logger.emit(LogRecord(observed_timestamp=6, body="plain"))
    finished = memory.get_finished_logs()
    body, failed = encoder(dict(resource.attributes)).logs(finished)  # type: ignore[arg-type]
    assert failed == 0
    assert ExportLogsServiceRequest.FromString(body) == encode_logs(finished)
