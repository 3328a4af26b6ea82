"""What the stores know of one order: the command that asks by hand, and the answer in a few lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from otelkit.stack.queries import LogLine, NotYet, SpanRow, loki_query, prometheus_query, tempo_trace, wait_for

DEADLINE_S = 30.0
_HOUR_NS = 3600 * 10**9

SPANS = ("POST /orders", "INSERT orders", "publish shop.fulfil_order", "process shop.fulfil_order", "UPDATE orders")
"""Names that the trace of an order has when it is whole; its parts arrive by and by, from two processes."""

LINES = ("order_placed", "order {} is placed", "order {} is fulfilled")
"""Log lines that an order of a given id makes."""

METRICS = (
    "sum by (plan) (orders_placed_total)",
    'sum by (http_response_status_code) (http_server_request_duration_seconds_count{http_route="/orders"})',
    "sum by (redis_cache_result) (redis_client_cache_lookups_total)",
    "sum by (celery_task_name, celery_task_state) (messaging_process_duration_seconds_count)",
)


@dataclass(frozen=True)
class Stores:
    """Base URLs of the stores."""

    tempo: str
    prometheus: str
    loki: str


@dataclass(frozen=True)
class Asked:
    """A command for the shell, and what it answers, line by line."""

    command: str
    lines: Sequence[str]


def trace(stores: Stores, trace_id: str) -> Asked:
    """The order's trace as a tree, once it is whole.

    Raises:
        NotArrived: it was not within `DEADLINE_S`.
    """

    def whole() -> list[SpanRow]:
        spans = tempo_trace(stores.tempo, trace_id) or []
        missing = set(SPANS) - {span.name for span in spans}
        if missing:
            raise NotYet(f"{len(spans)} spans, without {', '.join(sorted(missing))}")
        return spans

    spans = wait_for(whole, deadline_s=DEADLINE_S, what=f"trace {trace_id} in Tempo")
    return Asked(f"curl -s {stores.tempo}/api/v2/traces/{trace_id}", tree(spans))


def logs(stores: Stores, trace_id: str, order_id: int) -> Asked:
    """The order's log lines, of the web process and of the worker, once they are there.

    Raises:
        NotArrived: they were not within `DEADLINE_S`.
    """
    query = f'{{service_name=~"shop.*"}} | trace_id="{trace_id}"'
    wanted = {line.format(order_id) for line in LINES}

    def there() -> list[LogLine]:
        now_ns = time.time_ns()
        lines = loki_query(stores.loki, query, start_ns=now_ns - _HOUR_NS, end_ns=now_ns)
        missing = wanted - {line.line for line in lines}
        if missing:
            raise NotYet(f"{len(lines)} lines, without {', '.join(sorted(missing))}")
        return lines

    lines = wait_for(there, deadline_s=DEADLINE_S, what=f"the log lines of trace {trace_id} in Loki")
    return Asked(_curl(f"{stores.loki}/loki/api/v1/query_range", query), [_log_line(line) for line in lines])


def metrics(stores: Stores, orders: int) -> list[Asked]:
    """Metrics of the shop, once they count at least `orders` orders placed and fulfilled.

    Raises:
        NotArrived: they did not within `DEADLINE_S`.
    """

    def counted() -> bool:
        for name in ("orders_placed_total", "orders_fulfilled_total"):
            seen = sum(sample.value for sample in prometheus_query(stores.prometheus, name))
            if seen < orders:
                raise NotYet(f"{name} is {seen:g} of {orders}")
        return True

    wait_for(counted, deadline_s=DEADLINE_S, what="the metrics of the orders in Prometheus")
    return [_metric(stores.prometheus, query) for query in METRICS]


def _metric(prometheus: str, query: str) -> Asked:
    samples = prometheus_query(prometheus, query)
    lines = [
        f"{sample.value:6g}  {' '.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}"
        for sample in samples
    ]
    return Asked(_curl(f"{prometheus}/api/v1/query", query), lines)


def _curl(url: str, query: str) -> str:
    return f"curl -sG {url} --data-urlencode 'query={query}'"


def tree(spans: Sequence[SpanRow]) -> list[str]:
    """The spans indented under their parents, with service and duration; those without a parent here are roots."""
    known = {span.span_id for span in spans}
    rows: list[tuple[str, SpanRow]] = []

    def add(parent: str | None, indent: str) -> None:
        children = [span for span in spans if _parent(span, known) == parent]
        for child in children:
            last = child is children[-1]
            branch, below = ("", "") if parent is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
            system = child.attributes.get("db.system.name")
            rows.append((f"{indent}{branch}{child.name}{f' ({system})' if system else ''}", child))
            add(child.span_id, indent + below)

    add(None, "")
    label_width = max(len(label) for label, _ in rows)
    service_width = max(len(span.service) for span in spans)
    return [
        f"{label:{label_width}}  {span.service:{service_width}}  {(span.end_ns - span.start_ns) / 1e6:7.1f} ms"
        + ("  error" if span.status == "error" else "")
        for label, span in rows
    ]


def _parent(span: SpanRow, known: set[str]) -> str | None:
    return span.parent_span_id if span.parent_span_id in known else None


def _log_line(line: LogLine) -> str:
    at = datetime.fromtimestamp(line.time_ns / 1e9).astimezone()
    service, severity = (line.labels.get(name, "") for name in ("service_name", "severity_text"))
    return f"{at:%H:%M:%S}.{line.time_ns // 10**6 % 1000:03}  {service:11}  {severity:5}  {line.line}"
