"""The main job on real input: the shop's orders, through the real collector, in Tempo, Prometheus and Loki.

Each way to start telemetry passes the same test: a call in the code, `otelkit run`, OpenTelemetry's own launcher (with
opentelemetry-distro installed beside otelkit), and `otelkit auto enable`.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import pytest

from examples.shop.load import Load, order, place_orders
from examples.shop.models import CATALOGUE
from examples.shop.processes import running_shop
from examples.shop.redis_server import redis_server
from otelkit import semconv
from otelkit.stack.native import NativeStack
from otelkit.stack.queries import (
    LogLine,
    NotYet,
    Sample,
    SpanRow,
    loki_query,
    prometheus_exemplars,
    prometheus_query,
    tempo_trace,
    wait_for,
)
from tests.support.environment import virtual_environment
from tests.support.server import FAST, clean_environment

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack"), pytest.mark.timeout(180)]

ORDERS = 6
ARRIVES_IN_S = 40.0
WAYS = (
    "bootstrap",
    *(pytest.param(way, marks=pytest.mark.slow) for way in ("otelkit-run", "opentelemetry-instrument", "auto-enable")),
)

# What orders never make: errors and time-outs, and what only other event loops or interpreters have.
_NOT_IN_THE_SHOP = {
    semconv.DB_CLIENT_CONNECTION_TIMEOUTS,
    semconv.CELERY_TASK_RETRIES,
    semconv.CELERY_TASK_FAILURES,
    semconv.CELERY_TASK_DISCARDED,
    semconv.CELERY_QUEUE_MESSAGES,  # the monitor's
    semconv.CELERY_QUEUE_AGE,
    semconv.CELERY_WORKERS,
    semconv.DB_N_PLUS_ONE,
    semconv.REDIS_BLOCKING_DURATION,
    semconv.REDIS_RETRIES,
    semconv.REDIS_REDIRECTIONS,
    semconv.WEBSOCKET_SERVER_MESSAGES,
}
# Labels that every series gets: from the resource (promoted), from the scope, and of histograms' buckets.
_GENERAL_LABELS = {
    "__name__",
    "job",
    "instance",
    "le",
    "service_name",
    "service_namespace",
    "service_instance_id",
    "service_version",
    "deployment_environment_name",
    "host_name",
    "otel_scope_name",
    "otel_scope_version",
    "otel_scope_schema_url",
    "collector_instance_id",
}


@dataclass(frozen=True)
class Run:
    """One finished run of the shop: its environment's name in the stores, and what the load did."""

    way: str
    load: Load
    stack: NativeStack
    started_ns: int

    def spans(self, trace_id: str, at_least: int) -> list[SpanRow]:
        """A trace, once it has as many spans."""

        def found() -> list[SpanRow] | None:
            rows = tempo_trace(self.stack.tempo, trace_id) or []
            return rows if len(rows) >= at_least else None

        return wait_for(found, deadline_s=ARRIVES_IN_S, what=f"{at_least} spans of trace {trace_id}")

    def sum(self, name: str, **labels: str) -> float:
        """The sum over all series of a name with these labels, now."""
        selector = ",".join(
            f'{key}="{value}"' for key, value in {**labels, "deployment_environment_name": self.way}.items()
        )
        found = prometheus_query(self.stack.prometheus, f"sum({name}{{{selector}}})")
        return found[0].value if found else 0.0

    def series(self) -> list[Sample]:
        """Every series of the run."""
        return prometheus_query(self.stack.prometheus, f'{{deployment_environment_name="{self.way}"}}')

    def lines(self, service: str) -> list[LogLine]:
        """The log lines of a service in this run."""
        logql = f'{{service_name="{service}"}} | deployment_environment_name="{self.way}"'
        return loki_query(self.stack.loki, logql, start_ns=self.started_ns, end_ns=time.time_ns())


@pytest.fixture(scope="module", params=WAYS)
def run(request: pytest.FixtureRequest, native_stack: NativeStack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The shop under uvicorn and a prefork worker, started in one of the ways, its orders placed, and ended."""
    way = request.param
    folder = tmp_path_factory.mktemp(way)
    started_ns = time.time_ns()
    environ = {
        **FAST,
        "OTEL_EXPORTER_OTLP_ENDPOINT": native_stack.otlp_http,
        "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={way}",
        "OTELKIT_STATE_DIR": str(folder / "state"),
    }
    prefix: tuple[str, ...] = ()
    if way == "otelkit-run":
        prefix = ("otelkit", "run")
    elif way == "opentelemetry-instrument":
        prefix = ("opentelemetry-instrument",)
        environ |= {"OTEL_PYTHON_DISTRO": "otelkit", "OTEL_PYTHON_CONFIGURATOR": "otelkit"}
    elif way == "auto-enable":
        python = str(virtual_environment(folder / "venv"))
        command = [python, "-c", "from otelkit.cli.main import main; main()", "auto", "enable"]
        subprocess.run(command, env=clean_environment(), check=True, timeout=30, capture_output=True)
        prefix = (python, "-m")
        environ["OTELKIT_AUTO"] = "1"
    with (
        redis_server() as redis_url,
        running_shop(folder, redis_url=redis_url, environ=environ, bootstrap=way == "bootstrap", prefix=prefix) as shop,
    ):
        # Slowly enough for the event loop's lag, which is taken twice a second, to be measured.
        load = place_orders(shop.url, ORDERS, rate_per_s=5)
        assert load.by_status == {201: ORDERS}
        worker = shop.worker
        worker.wait_until(lambda: worker.log().count("is fulfilled") >= ORDERS)
    return Run(way, load, native_stack, started_ns)


def child(spans: list[SpanRow], parent: SpanRow, name: str) -> SpanRow:
    """The only child of a span with a name."""
    found = [span for span in spans if span.parent_span_id == parent.span_id and span.name == name]
    assert len(found) == 1, f"{len(found)} children {name!r} of {parent.name!r} in {[s.name for s in spans]}"
    return found[0]


def test_tempo_has_each_order_as_one_trace_over_both_processes(run: Run) -> None:
    """Server, business, SQL, Redis, publish, process in the worker, its SQL and business span, parented correctly."""
    assert len(set(run.load.trace_ids)) == ORDERS
    for trace_id in run.load.trace_ids:
        spans = run.spans(trace_id, 7)
        server = next(span for span in spans if span.parent_span_id is None)
        assert (server.name, server.kind, server.service) == ("POST /orders", "server", "shop")
        assert server.attributes["http.response.status_code"] == 201
        quote = child(spans, server, "price.quote")
        assert child(spans, quote, "GET").attributes["db.system.name"] == "redis"
        assert child(spans, server, "INSERT orders").attributes["db.system.name"] == "sqlite"
        publish = child(spans, server, "publish shop.fulfil_order")
        process = child(spans, publish, "process shop.fulfil_order")
        assert (publish.kind, process.kind, process.service) == ("producer", "consumer", "shop-worker")
        assert process.resource["process.pid"] != server.resource["process.pid"]
        pack = child(spans, process, "parcel.pack")
        update = child(spans, pack, "UPDATE orders")
        assert update.resource["process.pid"] == process.resource["process.pid"]
        assert process.attributes["user.id"] == server.attributes["user.id"]
        assert process.attributes["request.id"] == server.attributes["request.id"]
        assert all(span.resource["deployment.environment.name"] == run.way for span in spans)
    first = run.spans(run.load.trace_ids[0], 9)
    quote = next(span for span in first if span.name == "price.quote")
    assert child(first, quote, "SELECT products").attributes["db.query.text"].startswith("SELECT products.")
    assert child(first, quote, "SET").kind == "client"


def test_prometheus_has_the_final_values(run: Run) -> None:
    """Requests, statements, commands, tasks and business counts equal what was made."""
    # The catalogue is looked up once more at start, where it is written.
    skus = len({order(number)["sku"] for number in range(ORDERS)})
    pro = len([number for number in range(ORDERS) if order(number)["plan"] == "pro"])
    expected = {
        ("http_server_request_duration_seconds_count", "http_route", "/orders"): ORDERS,
        ("db_client_operation_duration_seconds_count", "db_query_summary", "INSERT orders"): ORDERS,
        ("db_client_operation_duration_seconds_count", "db_query_summary", "SELECT products"): skus + len(CATALOGUE),
        ("db_client_operation_duration_seconds_count", "db_query_summary", "UPDATE orders"): ORDERS,
        ("db_client_operation_duration_seconds_count", "db_operation_name", "GET"): ORDERS,
        ("db_client_operation_duration_seconds_count", "db_operation_name", "SET"): skus,
        ("redis_client_cache_lookups_total", "redis_cache_result", "miss"): skus,
        ("redis_client_cache_lookups_total", "redis_cache_result", "hit"): ORDERS - skus,
        ("messaging_client_sent_messages_total", "celery_task_name", "shop.fulfil_order"): ORDERS,
        ("messaging_client_consumed_messages_total", "celery_task_name", "shop.fulfil_order"): ORDERS,
        ("messaging_process_duration_seconds_count", "celery_task_state", "SUCCESS"): ORDERS,
        ("celery_task_queue_duration_seconds_count", "celery_task_name", "shop.fulfil_order"): ORDERS,
        ("orders_placed_total", "plan", "pro"): pro,
        ("orders_placed_total", "plan", "free"): ORDERS - pro,
        ("order_value_count", "job", "shop"): ORDERS,
        ("orders_fulfilled_total", "job", "shop-worker"): ORDERS,
    }

    def all_there() -> bool:
        found = {(name, label, value): run.sum(name, **{label: value}) for name, label, value in expected}
        wrong = {key: (value, found[key]) for key, value in expected.items() if found[key] != value}
        if wrong:
            raise NotYet(f"(expected, found) by series: {wrong}")
        # An export may fall between a task's count and the end of its being active.
        active = {name: run.sum(name) for name in ("http_server_active_requests", "celery_task_active")}
        if any(active.values()):
            raise NotYet(f"still {active}")
        return True

    wait_for(all_there, deadline_s=ARRIVES_IN_S, what="the final values")


def test_prometheus_has_every_series_of_the_table_with_its_labels(run: Run) -> None:
    """Each metric of the table has its series under its Prometheus name, with no label but the table's."""

    def all_there() -> bool:
        names = {sample.labels["__name__"] for sample in run.series()}
        missing = [
            metric.prometheus_name
            for metric in semconv.TABLE
            if metric not in _NOT_IN_THE_SHOP
            and not names & {metric.prometheus_name, f"{metric.prometheus_name}_count"}
        ]
        if missing:
            raise NotYet(f"missing: {missing}")
        return True

    wait_for(all_there, deadline_s=ARRIVES_IN_S, what="every series of the table")
    by_name = {metric.prometheus_name: metric for metric in semconv.TABLE}
    for sample in run.series():
        name = sample.labels["__name__"]
        metric = by_name.get(name) or by_name.get(name.rpartition("_")[0])
        if metric is not None:
            allowed = {label.replace(".", "_") for label in metric.labels}
            assert set(sample.labels) - _GENERAL_LABELS <= allowed, name


def test_an_exemplar_leads_to_its_trace(run: Run) -> None:
    """The request duration's exemplars name traces that Tempo has."""
    selector = f'http_server_request_duration_seconds_bucket{{deployment_environment_name="{run.way}"}}'

    def exemplars() -> list[str]:
        found = prometheus_exemplars(
            run.stack.prometheus, selector, start_s=run.started_ns / 1e9, end_s=time.time() + 60
        )
        return [exemplar.labels["trace_id"] for exemplar in found if exemplar.series.get("http_route") == "/orders"]

    trace_ids = wait_for(exemplars, deadline_s=ARRIVES_IN_S, what="exemplars")
    assert set(trace_ids) <= set(run.load.trace_ids)
    assert any(span.name == "POST /orders" for span in run.spans(trace_ids[0], 1))


@pytest.mark.parametrize(("service", "text"), [("shop", "is placed"), ("shop-worker", "is fulfilled")])
def test_lokis_lines_lead_to_their_traces(run: Run, service: str, text: str) -> None:
    """Every line of an order carries trace and span id, and the trace id opens the same trace in Tempo."""

    def lines() -> list[LogLine] | None:
        found = [line for line in run.lines(service) if text in line.line]
        return found if len(found) >= ORDERS else None

    found = wait_for(lines, deadline_s=ARRIVES_IN_S, what=f"the lines of {service}")
    assert sorted(line.line for line in found) == sorted(f"order {number} {text}" for number in run.load.order_ids)
    assert {line.labels["trace_id"] for line in found} == set(run.load.trace_ids)
    for line in found:
        spans = {span.span_id for span in run.spans(line.labels["trace_id"], 7)}
        assert line.labels["span_id"] in spans
