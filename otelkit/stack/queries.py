"""Asks the stores' query APIs what arrived: traces of Tempo, samples and exemplars of Prometheus, lines of Loki."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from otelkit.errors import OtelkitError
from otelkit.stack.fetch import FetchError, fetch_json

T = TypeVar("T")

POLL_INTERVAL_S: Final = 0.1


class NotYet(OtelkitError):
    """Raised by a predicate of `wait_for` to say what it saw instead of what it wants."""


class NotArrived(OtelkitError, TimeoutError):
    """What was waited for did not happen in time; the message says what was missing and what was seen last."""


@dataclass(frozen=True)
class SpanRow:
    """A span as Tempo returns it. Ids are lower-case hex; a root span's `parent_span_id` is None.

    `kind` is one of unspecified, internal, server, client, producer, consumer; `status` one of unset, ok, error.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    name: str
    kind: str
    status: str
    status_message: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """One series of an instant query: its labels, the name as `__name__`, and its value."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Exemplar:
    """A measured value with the trace it belongs to, and the labels of its series."""

    series: Mapping[str, str]
    labels: Mapping[str, str]
    value: float
    time_s: float


@dataclass(frozen=True)
class LogLine:
    """A log line; `labels` holds Loki's stream labels and the structured metadata, such as `trace_id`."""

    time_ns: int
    line: str
    labels: Mapping[str, str]


def tempo_trace(base_url: str, trace_id: str) -> list[SpanRow] | None:
    """Return the spans that Tempo has of a trace, by start time; None if it has none.

    Spans arrive by and by: what is there is not yet the whole trace.

    Raises:
        FetchError: Tempo cannot be reached or refuses.
    """
    spans = [
        _span_row(span, resource)
        for resource_spans in fetch_json(f"{base_url}/api/v2/traces/{trace_id}")["trace"].get("resourceSpans", [])
        for resource in [_attributes(resource_spans.get("resource", {}))]
        for scope_spans in resource_spans.get("scopeSpans", [])
        for span in scope_spans.get("spans", [])
    ]
    return sorted(spans, key=lambda span: span.start_ns) or None


def prometheus_query(base_url: str, promql: str, *, time_s: float | None = None) -> list[Sample]:
    """Return the series of an instant vector, now or at the Unix time `time_s`.

    Raises:
        FetchError: Prometheus cannot be reached or refuses, or the expression yields no instant vector.
    """
    parameters = {"query": promql} if time_s is None else {"query": promql, "time": f"{time_s:.3f}"}
    data = fetch_json(f"{base_url}/api/v1/query?{urlencode(parameters)}")["data"]
    if data["resultType"] != "vector":
        raise FetchError(f"{promql!r} yields a {data['resultType']}, not an instant vector")
    return [Sample(labels=row["metric"], value=float(row["value"][1])) for row in data["result"]]


def prometheus_exemplars(base_url: str, promql: str, *, start_s: float, end_s: float) -> list[Exemplar]:
    """Return the exemplars of the series that an expression selects, between two Unix times.

    Raises:
        FetchError: Prometheus cannot be reached or refuses.
    """
    parameters = urlencode({"query": promql, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}"})
    return [
        Exemplar(
            series=row["seriesLabels"],
            labels=exemplar["labels"],
            value=float(exemplar["value"]),
            time_s=float(exemplar["timestamp"]),
        )
        for row in fetch_json(f"{base_url}/api/v1/query_exemplars?{parameters}")["data"]
        for exemplar in row["exemplars"]
    ]


def loki_query(base_url: str, logql: str, *, start_ns: int, end_ns: int, limit: int = 1000) -> list[LogLine]:
    """Return the first `limit` lines that a log query selects in [start_ns, end_ns), oldest first.

    Raises:
        FetchError: Loki cannot be reached or refuses.
    """
    parameters = urlencode({"query": logql, "start": start_ns, "end": end_ns, "limit": limit, "direction": "forward"})
    data = fetch_json(f"{base_url}/loki/api/v1/query_range?{parameters}")["data"]
    if data["resultType"] != "streams":
        raise FetchError(f"{logql!r} yields a {data['resultType']}, not log lines")
    lines = [
        LogLine(time_ns=int(stamp), line=line, labels=stream["stream"])
        for stream in data["result"]
        for stamp, line in stream["values"]
    ]
    return sorted(lines, key=lambda line: line.time_ns)


def wait_for(predicate: Callable[[], T | None], *, deadline_s: float, what: str) -> T:
    """Return the predicate's first true value, asking again and again for `deadline_s` seconds.

    A `FetchError` or `NotYet` that it raises counts as "not yet" and is what was seen last.

    Raises:
        NotArrived: the deadline passed; the message has `what` and what was seen last.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            seen: object = predicate()
            if seen:
                return seen  # type: ignore[return-value]
        except (FetchError, NotYet) as error:
            seen = error
        if time.monotonic() > deadline:
            raise NotArrived(f"{what}: not within {deadline_s:g} s; last seen: {seen}")
        time.sleep(POLL_INTERVAL_S)


def _span_row(span: Mapping[str, Any], resource: Mapping[str, Any]) -> SpanRow:
    status = span.get("status", {})
    return SpanRow(
        trace_id=_hex(span["traceId"]),
        span_id=_hex(span["spanId"]),
        parent_span_id=_hex(span.get("parentSpanId", "")) or None,
        service=str(resource.get("service.name", "")),
        name=span.get("name", ""),
        kind=span.get("kind", "SPAN_KIND_UNSPECIFIED").removeprefix("SPAN_KIND_").lower(),
        status=status.get("code", "STATUS_CODE_UNSET").removeprefix("STATUS_CODE_").lower(),
        status_message=status.get("message", ""),
        start_ns=int(span.get("startTimeUnixNano", 0)),
        end_ns=int(span.get("endTimeUnixNano", 0)),
        attributes=_attributes(span),
        resource=resource,
    )


def _attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in owner.get("attributes", [])}


def _value(value: Mapping[str, Any]) -> Any:
    match value:
        case {"intValue": number}:
            return int(number)
        case {"doubleValue": number}:
            return float(number)
        case {"bytesValue": text}:
            return base64.b64decode(text)
        case {"arrayValue": array}:
            return [_value(each) for each in array.get("values", [])]
        case {"kvlistValue": pairs}:
            return _attributes({"attributes": pairs.get("values", [])})
        case {"stringValue": plain} | {"boolValue": plain}:
            return plain
    return None


def _hex(encoded: str) -> str:
    return base64.b64decode(encoded).hex()
