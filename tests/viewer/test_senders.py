"""What real senders send is what the API answers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

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


def test_everything_that_otelkit_sends_is_there(backend: Backend, tmp_path: Path) -> None:
    """A trace with its log records, its exception as one group, its service."""
    run_python(SHOP, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
    backend.wait_for_rows(spans=3, logs=3, points=1)
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
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
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


def test_spans_of_plain_opentelemetry_are_there(backend: Backend, tmp_path: Path) -> None:
    """Its own exporter over HTTP, with gzip."""
    run_python(PLAIN, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
    backend.wait_for_rows(spans=1)
    (listed,) = backend.get("traces", q="service:plain")["traces"]
    (found,) = backend.get(f"traces/{listed['trace_id']}")["spans"]
    assert found["attributes"] == {"number": 5, "list": [1, 2], "yes": True, "half": 0.5}
    assert found["scope"] == "plain.scope"


OVER_GRPC = PLAIN.replace("proto.http.trace_exporter", "proto.grpc.trace_exporter").replace(
    "from opentelemetry.exporter.otlp.proto.http import Compression", "from grpc import Compression"
)


def test_spans_over_grpc_are_there(backend: Backend, tmp_path: Path) -> None:
    """Of OpenTelemetry's own exporter, with gzip."""
    endpoint = backend.get("info")["otlp"]["grpc"]
    run_python(OVER_GRPC, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    backend.wait_for_rows(spans=1)
    (listed,) = backend.get("traces", q="service:plain")["traces"]
    assert listed["name"] == "outer"


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
        backend.wait_for_rows(spans=3, logs=3, points=1)
    assert len(backend.get("traces")["traces"]) == 1
