"""The collector takes a request and rejects one record of it (partial_success): the rejection is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from tests.faults.spooled import balanced, run_service
from tests.support.records import a_pipeline, a_span, balance
from tests.support.sink import Answer, Sink


def rejecting(rejected: int) -> dict[str, bytes]:
    """What each path answers that rejects so many."""
    why = "too old"
    traces = ExportTracePartialSuccess(rejected_spans=rejected, error_message=why)
    logs = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=why)
    metrics = ExportMetricsPartialSuccess(rejected_data_points=rejected, error_message=why)
    return {
        "/v1/traces": ExportTraceServiceResponse(partial_success=traces).SerializeToString(),
        "/v1/logs": ExportLogsServiceResponse(partial_success=logs).SerializeToString(),
        "/v1/metrics": ExportMetricsServiceResponse(partial_success=metrics).SerializeToString(),
    }


def test_one_rejected_of_every_signal(tmp_path: Path, sink: Sink) -> None:
    """The official exporter calls it SUCCESS; here the ledger, the flush and a line in the log say it, with the
    collector's reason. The rest is delivered, and nothing is sent again.
    """
    answers = rejecting(1)
    sink.answer = lambda path: Answer(body=answers[path])
    source = """
for number in range(3):
    with otelkit.span("work"): pass
    otelkit.event("done")
    otelkit.count("made", number=number)
report = otelkit.flush(10)
print(json.dumps([report.ok, report.dropped, otelkit.status()["ledger"]]))
"""
    finished = run_service(source, sink.port, tmp_path)
    ok, dropped, ledger = json.loads(finished.out)
    assert (ok, dropped) == (False, {"rejected": 3})
    for signal, account in ledger.items():
        assert balanced(account), signal
        assert account["dropped"] == {"rejected": 1}, signal
        assert account["delivered"] == account["accepted"] - 1 >= 2, signal
        rejection = f"rejected 1 of {account['accepted']} {signal}: too old"
        assert rejection in finished.err
    assert len(sink.named("work")) == 3


@pytest.mark.parametrize(("rejected", "counted"), [(1, 1), (99, 3), (-5, 0)])
def test_rejected_records_are_counted_within_the_batch(tmp_path: Path, sink: Sink, rejected: int, counted: int) -> None:
    """A server that claims more than it got, or less than nothing, breaks no ledger."""
    answers = rejecting(rejected)
    sink.answer = lambda path: Answer(body=answers[path])
    pipeline = a_pipeline(sink.url, tmp_path)
    try:
        for number in range(3):
            pipeline.spans.put(a_span(number))
        report = pipeline.flush(10)
        assert report.delivered == 3 - counted
        assert report.dropped == ({"rejected": counted} if counted else {})
        assert balance(pipeline) == (3, 3)
    finally:
        pipeline.shutdown(0.0)
