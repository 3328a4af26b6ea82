"""What the stores know of one order: the command that asks by hand, and the answer in a few lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote

from otelkit.stack.queries import (
    LogLine,
    NotYet,
    SpanRow,
    loki_query,
    prometheus_query,
    tempo_trace,
    wait_for,
)

DEADLINE_S = 30.0
HOUR_NS = 3600 * 10**9

SPANS_OF_AN_ORDER = {"POST /orders", "INSERT orders", "publish shop.fulfil_order", "parcel.pack", "UPDATE orders"}
"""Names that the trace of an order has when it is whole; the last span to arrive is the worker's."""

LINES_OF_AN_ORDER = {"order_placed", "order {} is placed", "order {} is fulfilled"}

METRICS = (
    "sum by (plan) (orders_placed_total)",
    "sum by (http_route, http_response_status_code) (http_server_request_duration_seconds_count)",
    "sum by (db_system_name, db_operation_name) (db_client_operation_duration_seconds_count)",
    "sum by (celery_task_name, celery_task_state) (messaging_process_duration_seconds_count)",
)


@dataclass(frozen=True)
class Stores:
    """Base URLs of the three stores."""

    tempo: str
    prometheus: str
    loki: str


@dataclass(frozen=True)
class Asked:
    """A command for the shell, and what it answers, one string a line."""

    command: str
    answer: Sequence[str]


def trace(stores: Stores, trace_id: str) -> Asked:
    """The order's trace as a tree, once it is whole.

    Raises:
        NotArrived: it was not within `DEADLINE_S`.
    """

    def whole() -> list[SpanRow]:
        spans = tempo_trace(stores.tempo, trace_id) or []
        missing = SPANS_OF_AN_ORDER - {span.name for span in spans}
        if missing:
            raise NotYet(f"{len(spans)} spans, without {', '.join(sorted(missing))}")
        return spans

    spans = wait_for(whole, deadline_s=DEADLINE_S, what=f"trace {trace_id} in Tempo")
    return Asked(f"curl -s {stores.tempo}/api/v2/traces/{trace_id}", _tree(spans))


def logs(stores: Stores, trace_id: str, order_id: int) -> Asked:
    """The order's log lines, of the web process and of the worker, once they are there.

    Raises:
        NotArrived: they were not within `DEADLINE_S`.
    """
    query = f'{{service_name=~"shop.*"}} | trace_id="{trace_id}"'
    wanted = {line.format(order_id) for line in LINES_OF_AN_ORDER}

    def there() -> list[LogLine]:
        now_ns = time.time_ns()
        lines = loki_query(stores.loki, query, start_ns=now_ns - HOUR_NS, end_ns=now_ns)
        missing = wanted - {line.line for line in lines}
        if missing:
            raise NotYet(f"{len(lines)} lines, without {', '.join(sorted(missing))}")
        return lines

    lines = wait_for(there, deadline_s=DEADLINE_S, what=f"the log lines of trace {trace_id} in Loki")
    return Asked(_curl(f"{stores.loki}/loki/api/v1/query_range", query), [_log_line(line) for line in lines])


def metrics(stores: Stores, orders: int) -> Iterator[Asked]:
    """Metrics of the shop, once they count at least `orders` orders placed and fulfilled.

    Raises:
        NotArrived: they did not within `DEADLINE_S`.
    """

    def counted() -> bool:
        for name in ("orders_placed_total", "messaging_process_duration_seconds_count"):
            seen = sum(sample.value for sample in prometheus_query(stores.prometheus, name))
            if seen < orders:
                raise NotYet(f"{name} is {seen:g} of {orders}")
        return True

    wait_for(counted, deadline_s=DEADLINE_S, what="the metrics of the orders in Prometheus")
    for query in METRICS:
        samples = prometheus_query(stores.prometheus, query)
        answer = sorted(f"{_labels(sample.labels)}  {sample.value:g}" for sample in samples)
        yield Asked(_curl(f"{stores.prometheus}/api/v1/query", query), answer)


def _curl(url: str, query: str) -> str:
    return f"curl -sG {url} --data-urlencode 'query={query}'"


def _labels(labels: object) -> str:
    return ""


def _tree(spans: Sequence[SpanRow]) -> list[str]:
    """The spans as an indented tree with service and duration; those whose parent is not there are roots."""
    known = {span.span_id for span in spans}
    rows: list[tuple[str, SpanRow]] = []

    def add(parent: str | None, indent: str) -> None:
        children = [
            span for span in spans if (span.parent_span_id if span.parent_span_id in known else None) == parent
        ]
        for child in children:
            last = child is children[-1]
            branch, below = ("", "") if parent is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
            system = child.attributes.get("db.system.name")
            rows.append((f"{indent}{branch}{child.name}{f' ({system})' if system else ''}", child))
            add(child.span_id, indent + below)

    add(None, "")
    width = max(len(label) for label, _ in rows)
    services = max(len(span.service) for span in spans)
    return [
        f"{label:{width}}  {span.service:{services}} {(span.end_ns - span.start_ns) / 1e6:8.1f} ms"
        + (f"  {span.status_message or span.status}" if span.status == "error" else "")
        for label, span in rows
    ]


def _log_line(line: LogLine) -> str:
    at = datetime.fromtimestamp(line.time_ns / 1e9, tz=timezone.utc).astimezone()
    return f"{at:%H:%M:%S}.{line.time_ns // 10**6 % 1000:03}  {line.labels.get('service_name', ''):11}  {line.line}"
