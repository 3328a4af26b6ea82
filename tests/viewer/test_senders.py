"""What real senders send is what the API answers."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.support.process import run_python
from tests.support.server import clean_environment, free_port, running, wait_until_up
from tests.viewer.backend import Backend

SHOP = """
    import logging
    import otelkit
    otelkit.bootstrap("shop", service_version="1.2")
    with otelkit.span("order.place", plan="pro"):
        with otelkit.span("order.price"):
            logging.getLogger("shop").warning("careful %s", 5)
        try:
            with otelkit.span("order.pay"):
                raise ValueError("no money")
        except ValueError:
            pass
    assert otelkit.flush(10.0).ok
    otelkit.shutdown(5.0)
"""


@pytest.mark.slow
def test_everything_that_otelkit_sends_is_there(backend: Backend, tmp_path: Path) -> None:
    """A trace with its log records, its exception as one group, its service."""
    run_python(SHOP, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
    backend.wait_for_rows(spans=3, logs=5, points=1)
    (listed,) = backend.get("traces")["traces"]
    assert (listed["name"], listed["service"], listed["spans"], listed["errors"]) == ("order.place", "shop", 3, 1)
    found = backend.get(f"traces/{listed['trace_id']}")
    by_name = {each["name"]: each for each in found["spans"]}
    assert by_name["order.place"]["attributes"] == {"plan": "pro"}
    assert by_name["order.price"]["parent_id"] == by_name["order.place"]["span_id"]
    assert by_name["order.pay"]["status"] == "error"
    assert [event["name"] for event in by_name["order.pay"]["events"]] == ["exception"]
    assert {log["body"] for log in found["logs"]} == {"careful 5", "ValueError: no money"}
    (group,) = backend.get("errors")["groups"]
    assert (group["type"], group["count"], group["release"]) == ("ValueError", 1, "1.2")
    assert [each["name"] for each in backend.get("services")["services"]] == ["shop"]


PLAIN = """
    EXPORTER
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "plain"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(compression=Compression.Gzip)))
    tracer = provider.get_tracer("plain.scope")
    with tracer.start_as_current_span("outer", attributes={"number": 5, "list": [1, 2], "yes": True, "half": 0.5}):
        pass
    provider.shutdown()
"""


# As its exporter over HTTP does: its own encoder, and gzip.
OVER_HTTP = PLAIN.replace(
    "EXPORTER",
    """
    import gzip, os, urllib.request
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Compression:
        Gzip = "gzip"

    class OTLPSpanExporter(SpanExporter):
        def __init__(self, compression):
            self.headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": compression}

        def export(self, spans):
            body = gzip.compress(encode_spans(spans).SerializeToString())
            url = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces"
            with urllib.request.urlopen(urllib.request.Request(url, body, self.headers)) as answer:
                return SpanExportResult.SUCCESS if answer.status == 200 else SpanExportResult.FAILURE
    """,
)
OVER_GRPC = PLAIN.replace(
    "EXPORTER",
    """
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    """,
)


def test_spans_of_plain_opentelemetry_are_there(backend: Backend, tmp_path: Path) -> None:
    """What its encoder makes, over HTTP with gzip."""
    run_python(OVER_HTTP, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
    backend.wait_for_rows(spans=1)
    (listed,) = backend.get("traces", q="service:plain")["traces"]
    (found,) = backend.get(f"traces/{listed['trace_id']}")["spans"]
    assert found["attributes"] == {"number": 5, "list": [1, 2], "yes": True, "half": 0.5}
    assert found["scope"] == "plain.scope"


@pytest.mark.slow
def test_spans_over_grpc_are_there(backend: Backend, tmp_path: Path) -> None:
    """Of OpenTelemetry's own exporter, with gzip."""
    endpoint = backend.get("info")["otlp"]["grpc"]
    run_python(OVER_GRPC, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    backend.wait_for_rows(spans=1)
    (listed,) = backend.get("traces", q="service:plain")["traces"]
    assert listed["name"] == "outer"


@pytest.mark.slow
@pytest.mark.stack
def test_what_the_collector_passes_on_is_there(backend: Backend, tmp_path: Path) -> None:
    """otelcol in front, with its own batching and compression."""
    program = shutil.which("otelcol", path=os.environ.get("OTELKIT_STACK_BIN") or os.environ.get("PATH"))
    if program is None:
        pytest.skip("not found in OTELKIT_STACK_BIN or on PATH: otelcol")
    port = free_port()
    config = tmp_path / "otelcol.yaml"
    config.write_text(f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{otlp_http: {{endpoint: "{backend.url}", compression: zstd}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp_http]}}
    logs: {{receivers: [otlp], exporters: [otlp_http]}}
    metrics: {{receivers: [otlp], exporters: [otlp_http]}}
""")
    log = tmp_path / "otelcol.log"
    command = [program, "--config", str(config)]
    with running(command, cwd=tmp_path, environ=clean_environment(), log=log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/", process, log)
        run_python(SHOP, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"})
        backend.wait_for_rows(spans=3, logs=5, points=1)
    assert len(backend.get("traces")["traces"]) == 1


WORKERS = """
    import os
    import otelkit
    otelkit.bootstrap("workers")
    with otelkit.span("parent"):
        pass
    assert otelkit.flush(10.0).ok
    for _ in range(2):
        if os.fork() == 0:
            with otelkit.span("child"):
                pass
            otelkit.shutdown(5.0)
            os._exit(0)
    for _ in range(2):
        assert os.wait()[1] == 0
    otelkit.shutdown(5.0)
"""


@pytest.mark.slow
def test_each_process_of_a_service_tells_its_ledger_and_what_is_instrumented(backend: Backend, tmp_path: Path) -> None:
    """Forked children too, whose metrics are the group's; none of it is among the application's log records."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url, "OTELKIT_INSTRUMENT_REDIS": "off"}
    run_python(WORKERS, cwd=tmp_path, environ=environ)

    def ended() -> list[dict[str, Any]]:
        return [each for each in backend.get("health")["processes"] if each["ended"]]

    backend.wait(lambda: len(ended()) == 3, "three processes told of their end")
    processes = backend.get("health")["processes"]
    assert len(processes) == len({each["pid"] for each in processes}) == 3
    for process in processes:
        assert process["ledger"]["traces"] == {
            "accepted": 1, "delivered": process["ledger"]["traces"]["delivered"], "dropped": {},
            "queued": 1 - process["ledger"]["traces"]["delivered"], "spooled": 0,
        }  # fmt: skip
        assert process["spool"] == ""
        assert process["versions"]["api"]
        told = {each["library"].partition(" ")[0]: (each["by"], each["why"]) for each in process["instrumented"]}
        assert told["redis"] == ("off", "by setting")
        assert told["sqlalchemy"] == ("otelkit", "the default where otelkit knows the library; not imported yet")
    assert {log["event_name"] for log in backend.get("logs")["logs"]} == {"otelkit.application.starting"}
    states = backend.get("logs", q="event:otelkit.status")["logs"]
    assert {log["severity"] for log in states} == {"DEBUG"}


def test_a_state_that_is_none_changes_nothing(backend: Backend) -> None:
    """It comes over the network: what is not as otelkit tells it is left out."""
    bodies = {
        "odd": '{"ledger": {"traces": 5, "logs": {"accepted": "x", "dropped": [1]}}, "libraries": {"a": null}}',
        "cut": '{"ledger": ',
        "text": "fine",
    }
    for service, body in bodies.items():
        request = ExportLogsServiceRequest()
        one = request.resource_logs.add()
        one.resource.attributes.add(key="service.name").value.string_value = service
        record = one.scope_logs.add().log_records.add(event_name="otelkit.status", time_unix_nano=time.time_ns())
        record.body.string_value = body
        backend.send(request)
    backend.wait_for_rows(logs=3)
    nothing = {"accepted": 0, "delivered": 0, "dropped": {}, "queued": None, "spooled": 0}
    ledgers = {each["service"]: each["ledger"] for each in backend.get("health")["processes"]}
    assert ledgers == {"odd": {"logs": nothing}, "cut": {}, "text": {}}
