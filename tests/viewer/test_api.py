"""Each endpoint of the query API, asked over HTTP after real requests were taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.viewer.backend import Backend, running_backend, span, spans_request

# The backend that most of these tests share is started by one worker.
pytestmark = pytest.mark.xdist_group("viewer-api")

NOW = time.time() - 60
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
STACK = 'Traceback (most recent call last):\n  File "/app/shop.py", line {line}, in pay\n    x\nShopError: {text}\n'


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend with a shop's telemetry: a web service, a pricing service, a worker, Redis and PostgreSQL."""
    with running_backend(tmp_path_factory.mktemp("shop")) as backend:
        _send(backend)
        backend.wait_for_rows(spans=34, logs=2, points=12)
        yield backend


def _send(backend: Backend) -> None:
    listing = [
        span("GET /orders", trace=1, number=1, kind=SERVER, start_s=NOW, duration_ms=200, http__route="/orders",
             http__response__status_code=200),
        *(
            span("SELECT items", trace=1, number=100 + n, parent=1, kind=CLIENT, start_s=NOW + n / 1000, duration_ms=2,
                 db__system__name="postgresql", db__query__text="SELECT * FROM items WHERE id = ?")
            for n in range(20)
        ),
        span("GET", trace=1, number=2, parent=1, kind=CLIENT, start_s=NOW + 0.05, duration_ms=100,
             server__address="pricing.local"),
        span("GET redis", trace=1, number=3, parent=1, kind=CLIENT, start_s=NOW + 0.16, duration_ms=1,
             db__system__name="redis"),
        span("orders publish", trace=1, number=4, parent=1, kind=PRODUCER, start_s=NOW + 0.17, duration_ms=1,
             messaging__system="celery", messaging__destination__name="mail"),
    ]  # fmt: skip
    pricing = span("GET /price", trace=1, number=5, parent=2, kind=SERVER, start_s=NOW + 0.06, duration_ms=80,
                   http__route="/price/{id}", http__response__status_code=200)  # fmt: skip
    mail = span("mail process", trace=1, number=6, parent=4, kind=CONSUMER, start_s=NOW + 1.171, duration_ms=50,
                messaging__system="celery", messaging__destination__name="mail")  # fmt: skip
    failed = []
    for n in range(8):
        each = span("POST /pay", trace=10 + n, number=10 + n, kind=SERVER, start_s=NOW + n, duration_ms=10 * (n + 1),
                    http__route="/pay", http__response__status_code=500, error=True)  # fmt: skip
        event = each.events.add(name="exception", time_unix_nano=each.start_time_unix_nano)
        for key, value in (
            ("type", "ShopError"),
            ("message", f"order {n}"),
            ("stacktrace", STACK.format(line=n, text=f"order {n}")),
        ):
            event.attributes.add(key=f"exception.{key}").value.string_value = value
        failed.append(each)
    backend.send(spans_request(pricing, service="pricing"))  # the server's span comes before the client's
    backend.send(spans_request(*listing, *failed))
    backend.send(spans_request(mail, service="worker"))
    backend.send(_logs())
    backend.send(_metrics())


def _logs() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    one = request.resource_logs.add()
    one.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = one.scope_logs.add()
    for text, severity, trace in (("charged 100 %", 9, 1), ("card declined", 17, 10)):
        record = scope.log_records.add(severity_number=severity, time_unix_nano=int(NOW * 1e9))
        record.body.string_value = text
        record.trace_id, record.span_id = trace.to_bytes(16, "big"), trace.to_bytes(8, "big")
        record.attributes.add(key="user.plan").value.string_value = "pro"
    return request


def _metrics() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    one = request.resource_metrics.add()
    for key, value in {"service.name": "shop", "service.instance.id": "i-1", "host.name": "box"}.items():
        one.resource.attributes.add(key=key).value.string_value = value
    scope = one.scope_metrics.add()
    counter = scope.metrics.add(name="orders.placed", unit="{order}", description="Orders.")
    counter.sum.aggregation_temporality = 2
    counter.sum.is_monotonic = True
    histogram = scope.metrics.add(name="price.duration", unit="s")
    histogram.histogram.aggregation_temporality = 2
    ledger = scope.metrics.add(name="otelkit.records", unit="{record}")
    start = int((NOW - 100) * 1e9)
    for n in range(5):
        at = int((NOW + 10 * n) * 1e9)
        point = counter.sum.data_points.add(as_int=20 * n, start_time_unix_nano=start, time_unix_nano=at)
        point.attributes.add(key="plan").value.string_value = "pro"
        spread = histogram.histogram.data_points.add(
            start_time_unix_nano=start, time_unix_nano=at, count=10 * n, sum=n, explicit_bounds=[0.1, 1.0],
            bucket_counts=[9 * n, n, 0],
        )  # fmt: skip
        exemplar = spread.exemplars.add(as_double=0.5, time_unix_nano=at)
        exemplar.trace_id, exemplar.span_id = (1).to_bytes(16, "big"), (1).to_bytes(8, "big")
    for outcome, count, reason in (("delivered", 90, ""), ("dropped", 7, "queue_full")):
        point = ledger.sum.data_points.add(as_int=count, start_time_unix_nano=start, time_unix_nano=int(NOW * 1e9))
        point.attributes.add(key="otelkit.signal").value.string_value = "traces"
        point.attributes.add(key="otelkit.outcome").value.string_value = outcome
        if reason:
            point.attributes.add(key="otelkit.reason").value.string_value = reason
    return request


TRACE_1 = f"{1:032x}"


def test_info_says_what_is_kept_and_where_to_send(shop: Backend) -> None:
    """The address, the numbers of rows, that nothing is behind."""
    info = shop.get("info")
    assert info["otlp"]["http"] == shop.url
    assert info["rows"] == {"spans": 34, "logs": 2, "points": 12}
    assert info["behind"] is False
    assert info["database"] is None


def test_a_trace_of_three_services_is_one_row(shop: Backend) -> None:
    """Named by its root, with everybody who took part, and the N+1 in it."""
    listed = {row["trace_id"]: row for row in shop.get("traces")["traces"]}
    row = listed[TRACE_1]
    assert (row["name"], row["service"], row["http_status"]) == ("GET /orders", "shop", 200)
    assert (row["spans"], row["services"], row["n_plus_one"]) == (26, ["pricing", "shop", "worker"], True)
    assert row["duration_ms"] == pytest.approx(1221, abs=1)
    assert listed[f"{10:032x}"]["status"] == "error"


def test_traces_come_in_pages_and_each_once(shop: Backend) -> None:
    """Newest first, by the cursor of the page before."""
    found: list[str] = []
    before: dict[str, Any] = {}
    starts: list[float] = []
    while True:
        page = shop.get("traces", limit=2, **before)
        found += [row["trace_id"] for row in page["traces"]]
        starts += [row["start_ms"] for row in page["traces"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert len(found) == len(set(found)) == 9
    assert starts == sorted(starts, reverse=True)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 9),
        ("service:pricing", 1),
        ("route:/pay", 8),
        ("route:/pay duration>=75ms", 1),
        ("http.response.status_code:500", 8),
        ("http.response.status_code>=500 -duration<75ms", 1),
        ("db.system.name:redis", 1),
        ("db.system.name:*", 1),
        ("status:error", 8),
        ("-status:error", 1),
        ("status!=error", 1),
        ("kind:consumer", 1),
        (f"trace:{1:032x}", 1),
        ("name:GET*", 1),
        ('name:"GET*"', 0),
        ("(route:/price/{id} OR route:/pay)", 9),
        ("orders", 1),
        ("service:shop kind:consumer", 0),
        ("service.name:worker", 1),
    ],
)
def test_a_filter_lists_the_traces_that_it_says(shop: Backend, query: str, count: int) -> None:
    """One span must match all that is not negated at the top, none may match what is."""
    assert len(shop.get("traces", q=query)["traces"]) == count


def test_a_trace_says_what_repeats_what_is_critical_and_how_long_it_queued(shop: Backend) -> None:
    """And has its logs."""
    found = shop.get(f"traces/{TRACE_1}")
    (repeated,) = found["repeated"]
    assert (repeated["count"], repeated["n_plus_one"]) == (20, True)
    assert repeated["statement"] == "SELECT * FROM items WHERE id = ?"
    by_name = {each["name"]: each for each in found["spans"]}
    assert by_name["mail process"]["queue_wait_ms"] == pytest.approx(1000, abs=1)
    assert by_name["GET /orders"]["critical"]
    assert by_name["GET /price"]["critical"]
    assert [log["body"] for log in found["logs"]] == ["charged 100 %"]
    assert found["resources"][by_name["GET /price"]["resource"]]["service.name"] == "pricing"


def test_a_countdown_is_no_wait_in_the_queue(backend: Backend) -> None:
    """A task that is to start later says itself how long it waited after that."""
    start_s = time.time() - 10
    backend.send(
        spans_request(
            span("publish", number=1, start_s=start_s, kind=PRODUCER),
            span(
                "process",
                number=2,
                parent=1,
                start_s=start_s + 1,
                kind=CONSUMER,
                celery__task__queue__duration=0.05,
            ),
        )
    )
    backend.wait_for_rows(spans=2)
    found = backend.get(f"traces/{1:032x}")["spans"]
    assert {each["name"]: each["queue_wait_ms"] for each in found} == {"publish": None, "process": 50}


def test_what_is_not_there_is_404_and_what_is_wrong_400(shop: Backend) -> None:
    """With a message, and where in the filter."""
    assert shop.ask(f"/api/v1/traces/{'f' * 32}").status == 404
    assert shop.ask("/api/v1/traces/xyz").status == 400
    assert shop.ask("/api/v1/metrics/none").status == 404
    assert shop.ask("/api/v1/nothing").status == 404
    for question in ("traces?limit=0", "traces?limit=501", "traces?from=x", "logs?before=1-2-3", "red?by=x"):
        assert shop.ask(f"/api/v1/{question}").status == 400, question
    answer = shop.ask("/api/v1/traces?q=a:b+duration%3Efast")
    assert answer.status == 400
    assert answer.json["error"]["at"] == 4


def test_logs_are_found_by_text_severity_trace_and_attribute(shop: Backend) -> None:
    """Newest first."""
    assert [log["severity"] for log in shop.get("logs")["logs"]] == ["ERROR", "INFO"]
    assert [log["body"] for log in shop.get("logs", q="severity>=warn")["logs"]] == ["card declined"]
    assert [log["body"] for log in shop.get("logs", severity="warn")["logs"]] == ["card declined"]
    assert [log["body"] for log in shop.get("logs", q="DECLINED")["logs"]] == ["card declined"]
    assert [log["body"] for log in shop.get("logs", trace=TRACE_1)["logs"]] == ["charged 100 %"]
    assert len(shop.get("logs", q="user.plan:pro")["logs"]) == 2
    first = shop.get("logs", limit=1)
    assert [log["body"] for log in shop.get("logs", before=first["next"])["logs"]] == ["charged 100 %"]


def test_red_counts_requests_errors_and_durations(shop: Backend) -> None:
    """By route and by service."""
    rows = {(row["service"], row["route"]): row for row in shop.get("red")["rows"]}
    pay = rows["shop", "/pay"]
    assert (pay["requests"], pay["errors"], pay["error_ratio"]) == (8, 8, 1.0)
    assert pay["p50_ms"] == pytest.approx(40, rel=0.1)
    assert pay["p99_ms"] == pytest.approx(80, rel=0.1)
    assert rows["pricing", "/price/{id}"]["errors"] == 0
    by_service = {row["service"]: row["requests"] for row in shop.get("red", by="service")["rows"]}
    assert by_service == {"shop": 9, "pricing": 1, "worker": 1}


def test_the_map_joins_clients_with_servers_databases_and_queues(shop: Backend) -> None:
    """The call to pricing is an edge to the service, not to the host that it was known by."""
    found = shop.get("map")
    edges = {(edge["from"], edge["to"]): edge["requests"] for edge in found["edges"]}
    assert edges == {
        ("shop", "pricing"): 1,
        ("shop", "database:postgresql"): 20,
        ("shop", "cache:redis"): 1,
        ("shop", "queue:mail"): 1,
        ("queue:mail", "worker"): 1,
    }
    nodes = {node["id"]: node for node in found["nodes"]}
    assert (nodes["shop"]["requests"], nodes["shop"]["errors"], nodes["shop"]["type"]) == (9, 8, "service")


def test_an_edge_to_a_service_says_what_the_service_was_asked(backend: Backend) -> None:
    """In the same time, by the same definition as RED: the server's span tells when, how long and whether it failed."""
    at = NOW // 60 * 60
    served, calls = [], []
    for n in range(6):
        parent = 100 + n
        # The client begins a minute earlier, and calls a refusal (4xx) an error, which the server's span is not.
        calls.append(span("GET", trace=20 + n, number=parent, kind=CLIENT, start_s=at - 0.5 + 60 * n, duration_ms=900,
                          error=n < 4, server__address="pricing.local"))  # fmt: skip
        served.append(span("GET /price", trace=20 + n, number=200 + n, parent=parent, kind=SERVER,
                           start_s=at + 0.1 + 60 * n, duration_ms=20, error=n < 2, http__route="/price"))  # fmt: skip
    half = len(calls) // 2
    backend.send(spans_request(*served[:half], service="pricing"))
    backend.send(spans_request(*calls))
    backend.send(spans_request(*served[half:], service="pricing"))
    backend.wait_for_rows(spans=12)
    backend.wait(lambda: backend.get("map")["edges"], "the edge is there")
    periods: list[dict[str, float]] = [{}, {"from_": at * 1000, "to": (at + 179) * 1000}]
    for asked in periods:
        (edge,) = backend.get("map", **asked)["edges"]
        (row,) = backend.get("red", by="service", q="service:pricing", **asked)["rows"]
        node = next(each for each in backend.get("map", **asked)["nodes"] if each["id"] == "pricing")
        same = ("requests", "rate", "errors", "error_ratio", "p95_ms")
        assert [edge[key] for key in same] == [row[key] for key in same] == [node[key] for key in same]
    assert (edge["requests"], edge["errors"], edge["rate"]) == (3, 2, round(3 / 180, 4))


def test_errors_are_grouped_over_lines_and_texts(shop: Backend) -> None:
    """Eight traces, eight texts, eight line numbers: one group."""
    (group,) = shop.get("errors")["groups"]
    assert (group["type"], group["count"], group["message"]) == ("ShopError", 8, "order 7")
    assert group["trace_id"] == f"{17:032x}"
    whole = shop.get(f"errors/{group['fingerprint']}")
    assert len(whole["recent"]) == 8
    assert "in pay" in whole["stack"]
    assert sum(count for _, count in whole["per_minute"]) == 8
    assert shop.get("errors", q="type:Other")["groups"] == []


def test_queries_are_listed_by_slowness_and_by_repetition(shop: Backend) -> None:
    """With where they ran."""
    found = shop.get("queries")
    slow = {row["system"]: row for row in found["slow"]}
    assert slow["postgresql"]["count"] == 20
    (repeated,) = found["n_plus_one"]
    assert (repeated["parent"], repeated["worst_count"], repeated["times"]) == ("GET /orders", 20, 1)
    assert repeated["trace_id"] == TRACE_1


def test_metrics_are_listed_and_drawn(shop: Backend) -> None:
    """A counter as a rate, a histogram with percentiles, heat and exemplars."""
    listed = {row["name"]: row for row in shop.get("metrics")["metrics"]}
    assert listed["orders.placed"]["labels"] == {"plan": ["pro"]}
    assert (listed["price.duration"]["type"], listed["orders.placed"]["monotonic"]) == ("histogram", True)
    span_ms = {"from_": (NOW - 30) * 1000, "to": (NOW + 60) * 1000, "step_s": 10}
    counter = shop.get("metrics/orders.placed", group_by="plan", **{k.rstrip("_"): v for k, v in span_ms.items()})
    (series,) = counter["series"]
    assert series["labels"] == {"plan": "pro"}
    assert {value for _, value in series["points"] if value is not None} == {2.0}
    spread = shop.get("metrics/price.duration", **{k.rstrip("_"): v for k, v in span_ms.items()})
    assert {round(value, 3) for _, value in spread["percentiles"]["p50"]} == {0.056}
    assert spread["heat"]["bounds"] == [0.1, 1.0]
    assert [row for _, row in spread["heat"]["rows"]] == [[9, 1, 0]] * 4
    assert {each["trace_id"] for each in spread["exemplars"]} == {TRACE_1}


def test_health_has_the_ledger_of_each_process(shop: Backend) -> None:
    """As its metrics told it, and what the viewer itself took."""
    found = shop.get("health")
    process = next(each for each in found["processes"] if each["instance"] == "i-1")
    assert process["host"] == "box"
    assert process["ledger"]["traces"]["delivered"] == 90
    assert process["ledger"]["traces"]["dropped"] == {"queue_full": 7}
    assert found["viewer"]["received"] == {"traces": 34, "logs": 2, "metrics": 12}


def test_completion_offers_keys_operators_and_values(shop: Backend) -> None:
    """What is there, at the place of the cursor."""
    keys = shop.get("complete", q="status:error http.re", at=20)
    assert (keys["from"], keys["options"][0]["text"]) == (13, "http.response.status_code")
    values = shop.get("complete", q="service:p", at=9)
    assert (values["from"], [each["text"] for each in values["options"]]) == (8, ["pricing"])
    assert "status:" in [each["text"] for each in shop.get("complete", q="status")["options"]]


def _select(shop: Backend, query: str) -> Any:
    answer = shop.ask("/api/v1/sql", body=json.dumps({"query": query}).encode(), method="POST")
    return answer.json if answer.status == 200 else answer.status


def test_sql_reads_and_nothing_else(shop: Backend) -> None:
    """Neither changes rows nor reaches files."""
    found = _select(shop, "SELECT service, count(*) AS n FROM spans GROUP BY ALL ORDER BY n")
    assert found["columns"] == ["service", "n"]
    assert found["rows"][-1] == ["shop", 32]
    assert _select(shop, "SELECT trace_id FROM spans WHERE service = 'pricing'")["rows"] == [[TRACE_1]]
    for refused in (
        "DELETE FROM s000001.spans",
        "SELECT 1; DROP VIEW spans",
        "COPY spans TO '/tmp/x.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "ATTACH '/tmp/x.db'",
        "SET threads = 9",
        "INSTALL httpfs",
        "this is no SQL",
    ):
        assert _select(shop, refused) == 400, refused
    assert _select(shop, "SELECT * FROM range(5000)")["cut"] is True


@pytest.mark.slow
def test_what_is_new_is_told_as_it_comes(backend: Backend, tmp_path: Path) -> None:
    """Server-sent events: a trace, an error; a filter keeps the others out."""
    import threading
    import urllib.request

    told: dict[str, list[tuple[str, Any]]] = {"": [], "service:other": []}

    def listen(query: str) -> None:
        with urllib.request.urlopen(f"{backend.url}/api/v1/live?q={query}", timeout=20) as stream:
            name = ""
            for line in stream:
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    told[query].append((name, json.loads(line[6:])))
                if sum(each[0] == "trace" for each in told[query]) == (1 if query else 2):
                    return

    listeners = [threading.Thread(target=listen, args=(query,), daemon=True) for query in told]
    for each in listeners:
        each.start()
    backend.wait(lambda: all(told.values()), "both streams have begun")
    backend.send(spans_request(span("one", trace=1), service="shop"))
    backend.send(spans_request(span("two", trace=2), service="other"))
    for each in listeners:
        each.join(15)
    assert {data["name"] for name, data in told[""] if name == "trace"} == {"one", "two"}
    assert [data["name"] for name, data in told["service:other"] if name == "trace"] == ["two"]
    assert told[""][0][0] == "stats"
    assert told[""][0][1]["missed"] == 0
