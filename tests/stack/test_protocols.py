"""Every way to carry OTLP to the real collector: HTTP and gRPC, plain and compressed, and an outage in between."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from otelkit.stack.native import NativeStack
from otelkit.stack.queries import loki_query, prometheus_query, tempo_trace, wait_for
from tests.support.process import run_python

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

PROGRAM = """
import logging, time
import otelkit
otelkit.bootstrap("carrier")
with otelkit.span("work") as span:
    print(f"{span.get_span_context().trace_id:032x}", time.time_ns())
    otelkit.count("carried.things", 7, marker=MARKER)
    logging.getLogger("carrier").info("carried %s", MARKER)
report = otelkit.flush(10)
assert report.ok, report
"""


@pytest.mark.parametrize(
    ("protocol", "compression"),
    [
        ("http/protobuf", "none"),
        ("http/protobuf", "gzip"),
        ("http/protobuf", "zstd"),
        ("grpc", "none"),
        ("grpc", "gzip"),
    ],
)
def test_all_signals_arrive(native_stack: NativeStack, tmp_path: Path, protocol: str, compression: str) -> None:
    """Acknowledged by the collector, and then in Tempo, Prometheus and Loki."""
    marker = uuid.uuid4().hex
    endpoint = native_stack.otlp_grpc if protocol == "grpc" else native_stack.otlp_http
    finished = run_python(
        f"MARKER = {marker!r}\n{PROGRAM}",
        cwd=tmp_path,
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        },
    )
    trace_id, now = finished.out.split()
    spans = wait_for(lambda: tempo_trace(native_stack.tempo, trace_id), deadline_s=30, what="the trace")
    assert [span.name for span in spans] == ["work"]
    samples = wait_for(
        lambda: prometheus_query(native_stack.prometheus, f'carried_things_total{{marker="{marker}"}}'),
        deadline_s=30,
        what="the count",
    )
    assert [sample.value for sample in samples] == [7]
    start_ns = int(now) - 60 * 10**9
    lines = wait_for(
        lambda: loki_query(
            native_stack.loki,
            f'{{service_name="carrier"}} |= "{marker}"',
            start_ns=start_ns,
            end_ns=start_ns + 600 * 10**9,
        ),
        deadline_s=30,
        what="the line",
    )
    assert [line.labels["trace_id"] for line in lines] == [trace_id]


@pytest.mark.slow
def test_an_absent_collector_is_one_warning_and_its_return_one_info(
    own_stack: Callable[..., NativeStack], tmp_path: Path
) -> None:
    """The collector is killed and comes back: everything arrives, and the log has two lines about it."""
    stack = own_stack(data_dir=tmp_path / "stack")
    stack.start()
    program = """
import logging, sys, time
import otelkit
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
otelkit.bootstrap("outage")
def trace():
    with otelkit.span("work") as span:
        return f"{span.get_span_context().trace_id:032x}"
first = trace()
assert otelkit.flush(10).ok
print("up", first, flush=True)
sys.stdin.readline()
second = trace()
logging.getLogger("shop").info("during the outage")
report = otelkit.flush(1)
assert not report.ok and report.spooled > 0, report
print("down", second, flush=True)
sys.stdin.readline()
report = otelkit.flush(20)
assert report.ok and set(report.dropped) <= {"superseded"}, report
print("again", flush=True)
"""
    from tests.support.process import kill_session, start_python

    process = start_python(program, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http})
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        word, _ = process.stdout.readline().split()
        assert word == "up"
        stack.servers["otelcol"].kill()
        process.stdin.write("\n")
        process.stdin.flush()
        word, during = process.stdout.readline().split()
        assert word == "down"
        stack.start_server("otelcol")
        out, errors = process.communicate("\n", timeout=60)
    finally:
        kill_session(process)
    assert out.strip() == "again", errors
    told = [line for line in errors.splitlines() if " otelkit.delivery " in line]
    assert len(told) == 2, errors
    assert told[0].startswith("WARNING")
    assert "does not take" in told[0]
    assert told[1].startswith("INFO")
    assert "takes everything again" in told[1]
    spans = wait_for(lambda: tempo_trace(stack.tempo, during), deadline_s=30, what="the trace of the outage")
    assert [span.name for span in spans] == ["work"]
