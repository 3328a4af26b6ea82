"""OTEL_SDK_DISABLED: nothing is recorded, whatever was on before and whatever process it is."""

from __future__ import annotations

from pathlib import Path

from tests.support.process import run_python
from tests.support.sink import Sink

MEASURE = """
import os
import otelkit
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

tracer = trace.get_tracer("library")
counter = metrics.get_meter("library").create_counter("c")

def recording():
    with tracer.start_as_current_span("span") as span:
        counter.add(1)
        _logs.get_logger("library").emit(body="record")
        return span.is_recording()
"""


def test_a_forked_child_records_nothing_either(tmp_path: Path, sink: Sink) -> None:
    """The child opens nothing that its parent has not."""
    finished = run_python(
        MEASURE
        + """
otelkit.bootstrap("x")
print(recording(), flush=True)
if os.fork() == 0:
    print(recording(), otelkit.status()["state"], otelkit.shutdown().ok, flush=True)
    os._exit(0)
os.wait()
""",
        cwd=tmp_path,
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_SDK_DISABLED": "true"},
    )
    assert finished.out.splitlines() == ["False", "False disabled True"]
    assert [*sink.spans, *sink.logs] == []
    assert sink.total("c") == 0


def test_a_start_that_is_disabled_ends_what_was_on_before(tmp_path: Path, sink: Sink) -> None:
    """Processors and readers that are on the providers for good see nothing, until telemetry is started again."""
    finished = run_python(
        MEASURE
        + """
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
def seen():
    return recording(), len(exporter.get_finished_spans()), reader.get_metrics_data() is not None
otelkit.bootstrap("x")
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
metrics.get_meter_provider().add_metric_reader(reader)
for disabled in (False, True, False):
    otelkit.bootstrap("x", sdk_disabled=disabled)
    print(*seen())
    otelkit.shutdown()
""",
        cwd=tmp_path,
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url},
    )
    assert finished.out.splitlines() == ["True 1 True", "False 1 False", "True 2 True"]
    assert len(sink.spans) == 2
