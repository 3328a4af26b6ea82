"""Dividing an encoded request: every record is in exactly one part, under the heads that it was under before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otelkit.config.settings import Signal
from otelkit.delivery.splitting import halves, split

REQUESTS: dict[Signal, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def a_pair(text: str) -> KeyValue:
    return KeyValue(key="k", value=AnyValue(string_value=text))


@st.composite
def requests(draw: st.DrawFn, signal: Signal) -> Any:
    """A request with numbered records under several resources and scopes."""
    request = REQUESTS[signal]()
    numbers = iter(range(10_000))
    few = st.integers(0, 3)
    for resource in range(draw(few)):
        under = {"traces": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}[signal]
        found = getattr(request, under).add(schema_url=f"https://r{resource}")
        found.resource.attributes.append(a_pair(f"resource {resource}"))
        for scope in range(draw(few)):
            scoped = {"traces": "scope_spans", "metrics": "scope_metrics", "logs": "scope_logs"}[signal]
            each = getattr(found, scoped).add(schema_url=f"https://s{scope}")
            each.scope.name = f"scope {scope}"
            for _ in range(draw(few)):
                if signal == "traces":
                    each.spans.add(name=str(next(numbers)), attributes=[a_pair("x" * draw(st.integers(0, 300)))])
                elif signal == "logs":
                    each.log_records.add(event_name=str(next(numbers)), time_unix_nano=7)
                else:
                    metric = each.metrics.add(name="m", unit="s", description="d" * draw(st.integers(0, 300)))
                    kind = draw(st.sampled_from(KINDS))
                    data = getattr(metric, kind)
                    data.SetInParent()
                    if kind == "sum":
                        data.is_monotonic = True
                    for _ in range(draw(few)):
                        data.data_points.add(start_time_unix_nano=1, time_unix_nano=next(numbers) + 1)
    return request


def records(request: Any) -> Iterator[tuple[str, ...]]:
    """Each record's encoding, with everything that stands above it, in order."""

    def head(message: Any, *children: str) -> str:
        copy = type(message)()
        copy.CopyFrom(message)
        for child in children:
            copy.ClearField(child)
        return repr(copy)

    for resource in (field for _, value in request.ListFields() for field in value):
        below = type(resource).DESCRIPTOR.fields_by_number[2].name
        for scope in getattr(resource, below):
            inner = type(scope).DESCRIPTOR.fields_by_number[2].name
            above = head(resource, below), head(scope, inner)
            for item in getattr(scope, inner):
                if inner != "metrics":
                    yield (*above, repr(item))
                    continue
                kind = item.WhichOneof("data")
                data = getattr(item, kind)
                bare = type(data)()
                bare.CopyFrom(data)
                bare.ClearField("data_points")
                for point in data.data_points:
                    yield (*above, head(item, kind), f"{kind} {bare!r}", repr(point))


@pytest.mark.parametrize("signal", REQUESTS)
@given(data=st.data())
def test_the_halves_hold_every_record_once_under_its_heads(signal: Signal, data: st.DataObject) -> None:
    request = data.draw(requests(signal))
    everything = list(records(request))
    found = halves(signal, request.SerializeToString())
    if len(everything) < 2:
        assert found is None
        return
    assert found is not None
    parts = [list(records(REQUESTS[signal].FromString(part.body))) for part in found]
    assert [*parts[0], *parts[1]] == everything
    assert [part.records for part in found] == [len(part) for part in parts]
    assert all(parts)


@pytest.mark.parametrize("signal", REQUESTS)
@given(data=st.data(), longest=st.integers(1, 2000))
def test_only_single_records_are_longer_than_asked(signal: Signal, data: st.DataObject, longest: int) -> None:
    request = data.draw(requests(signal))
    everything = list(records(request))
    body = request.SerializeToString()
    parts = split(signal, body, len(everything), longest)
    assert sum(part.records for part in parts) == len(everything)
    assert [each for part in parts for each in records(REQUESTS[signal].FromString(part.body))] == everything
    assert all(len(part.body) <= longest or part.records <= 1 for part in parts)
    if len(body) <= longest:
        assert [part.body for part in parts] == [body]


def test_bytes_that_are_no_request_are_an_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        halves("traces", b"\x0a\xff")
