"""What the benchmark reports is what was received, and nothing that was lost becomes a figure."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import comparison, memory, processes
from benchmarks.cpu import resident_bytes, used_s
from benchmarks.peers import NAMES, peer
from benchmarks.report import Spread, table
from benchmarks.rounds import Comparison, Measured, Workload, missing, summed
from benchmarks.sinks.datadog import Reader

PING = Workload("ping", "GET /ping", "request", turn=100)
NOTHING: processes.Received = {"spans": {}, "logs": {}, "points": {}, "unknown": {}}


def post(url: str, body: bytes, *, compressed: bool = False, method: str = "POST") -> None:
    """Sends a body as a peer would."""
    headers = {"content-encoding": "gzip"} if compressed else {}
    sent = Request(url, gzip.compress(body) if compressed else body, headers, method=method)
    with urlopen(sent, timeout=10) as answer:
        assert answer.status == 200


def otlp_bodies() -> dict[str, bytes]:
    """Two spans, three log records of one logger, and four points of two metrics."""
    traces = ExportTraceServiceRequest()
    spans = traces.resource_spans.add().scope_spans.add().spans
    for name in ("GET /ping", "SELECT orders"):
        spans.add(name=name, start_time_unix_nano=1, end_time_unix_nano=2)
    logs = ExportLogsServiceRequest()
    scope = logs.resource_logs.add().scope_logs.add()
    scope.scope.name = "shop"
    for _ in range(3):
        scope.log_records.add(severity_text="INFO")
    metrics = ExportMetricsServiceRequest()
    found = metrics.resource_metrics.add().scope_metrics.add().metrics
    counter, histogram = found.add(name="requests"), found.add(name="duration")
    for number in range(3):
        counter.sum.data_points.add(as_int=number)
    histogram.histogram.data_points.add(count=1, sum=0.5)
    return {
        "/v1/traces": traces.SerializeToString(),
        "/v1/logs": logs.SerializeToString(),
        "/v1/metrics": metrics.SerializeToString(),
    }


def sentry_envelope() -> bytes:
    """A transaction with one span, and two log lines."""
    transaction = {"contexts": {"trace": {"op": "http.server"}}, "spans": [{"op": "db"}]}
    logs = {"items": [{"body": "order read", "attributes": {"logger.name": {"value": "shop"}}}] * 2}
    lines = [b"{}"]
    for kind, payload in (("transaction", transaction), ("log", logs)):
        content = json.dumps(payload).encode()
        lines += [json.dumps({"type": kind, "length": len(content)}).encode(), content]
    return b"\n".join(lines) + b"\n"


def datadog_traces() -> bytes:
    """A trace of two spans: their texts stand in a table, a span is twelve values."""
    texts = ["", "fastapi.request", "sqlite.query"]
    packed = bytes([0x90 | len(texts)]) + b"".join(bytes([0xA0 | len(text)]) + text.encode() for text in texts)
    spans = b"".join(
        b"\x9c" + bytes([0, name, 0]) + b"\xcf" + struct.pack(">Q", 2**63) + bytes(5) + b"\x80\x80" + b"\x00"
        for name in (1, 2)
    )
    return b"\x92" + packed + b"\x91\x92" + spans


def elastic_events() -> bytes:
    """A transaction, a span, and two metrics, after the line that says who sends."""
    events: tuple[dict[str, dict[str, object]], ...] = (
        {"metadata": {}},
        {"transaction": {"name": "GET /ping"}},
        {"span": {"name": "SELECT FROM orders"}},
        {"metricset": {"samples": {"cpu": {"value": 1}, "memory": {"value": 2}}}},
    )
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_the_sink_counts_every_format_and_begins_anew(tmp_path: Path) -> None:
    """OTLP, Sentry, Datadog and Elastic bodies, plain and compressed, are counted by name, once."""
    with processes.sink(tmp_path) as receiver:
        for path, body in otlp_bodies().items():
            post(f"{receiver.url}{path}", body, compressed=True)
        found = receiver.received()
        assert found == {
            "spans": {"GET /ping": 1, "SELECT orders": 1},
            "logs": {"shop": 3},
            "points": {"requests": 3, "duration": 1},
            "unknown": {},
        }
        assert receiver.received() == NOTHING
        post(f"{receiver.url}/api/1/envelope/", sentry_envelope(), compressed=True)
        assert receiver.received() == {**NOTHING, "spans": {"http.server": 1, "db": 1}, "logs": {"shop": 2}}
        post(f"{receiver.url}/v0.5/traces", datadog_traces(), method="PUT")
        assert receiver.received() == {**NOTHING, "spans": {"fastapi.request": 1, "sqlite.query": 1}}
        post(f"{receiver.url}/intake/v2/events?flushed=true", elastic_events(), compressed=True)
        expected = {"GET /ping": 1, "SELECT FROM orders": 1}
        assert receiver.received() == {**NOTHING, "spans": expected, "points": {"cpu": 1, "memory": 1}}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\x07", 7),
        (b"\xff", -1),
        (b"\xc0", None),
        (b"\xc3", True),
        (b"\xcb" + struct.pack(">d", 0.5), 0.5),
        (b"\xd3" + struct.pack(">q", -(2**40)), -(2**40)),
        (b"\xd9\x03abc", "abc"),
        (b"\xc4\x02\x00\x01", b"\x00\x01"),
        (b"\xdc\x00\x02\x01\x02", [1, 2]),
        (b"\x81\xa1k\x92\x01\xa1v", {"k": [1, "v"]}),
        (b"\xde\x00\x01\x01\x02", {1: 2}),
    ],
)
def test_the_reader_of_datadogs_format_knows_its_types(body: bytes, value: object) -> None:
    """A value of each kind, in the short form or with its size before it."""
    assert Reader(body).value() == value


def test_what_did_not_arrive_is_named() -> None:
    """A peer that says it sends three spans and a log line a request is held to it."""
    arrived = {**NOTHING, "spans": {"GET /orders/{number}": 299}, "logs": {"shop": 100}}
    assert missing("otelkit", {"order": 100}, arrived) == "299 of 300 spans arrived"
    assert missing("otelkit", {"order": 100}, NOTHING) == "0 of 300 spans arrived, 0 of 100 logs arrived"
    assert missing("otelkit", {"order": 100}, {**arrived, "spans": {"GET": 300}}) == ""
    assert missing("otelkit", {"order": 90, "ping": 29}, arrived) == ""


@pytest.mark.parametrize(
    ("spans", "complaint"), [(100, ""), (130, ""), (3, "3 of about 100"), (9000, "9000 of about 100")]
)
def test_a_share_of_the_traces_may_vary_by_chance_and_not_by_much(spans: int, complaint: str) -> None:
    """Neither no sampling nor no spans at all pass for one trace in a hundred."""
    assert missing("otelkit_1pct", {"ping": 10_000}, {**NOTHING, "spans": {"GET /ping": spans}}).startswith(complaint)


def measured(number: int, name: str, cpu_us: float) -> Measured:
    """A round of 100 requests, for each of which one span arrived."""
    return Measured(number, name, "ping", 100, cpu_us, {**NOTHING, "spans": {"GET": 0 if name == "none" else 100}})


def test_the_best_peer_is_the_one_that_adds_least_and_otelkit_is_none() -> None:
    """Failed peers are shown with their reason and are never the best."""
    result = Comparison(PING)
    for number, cpu in enumerate(({"none": 100, "contrib": 500, "sentry": 300, "ddtrace": 110, "otelkit": 140},) * 2):
        result.measured += [measured(number, name, us + 10 * number) for name, us in cpu.items()]
    result.failures["ddtrace"] = "0 of 200 spans arrived\nand a log"
    assert comparison.best_peer(result) == "sentry"
    shown = comparison.shown(result)
    assert "error: 0 of 200 spans arrived |" in shown
    assert "otelkit adds 0.20 (0.20 to 0.20) times what sentry-sdk adds." in shown
    rows = {line.split("|")[1].strip(): line.split("|") for line in shown.splitlines() if line.startswith("|")}
    assert [cell.strip() for cell in rows["sentry-sdk"][2:7]] == [
        "305 (300 to 310)",
        "200 (200 to 200)",
        "1.00",
        "1",
        "0",
    ]
    assert rows["no telemetry"][3].strip() == ""


def test_without_the_bare_application_nothing_is_compared() -> None:
    """What a peer adds is known against `none` of the same run only."""
    result = Comparison(PING, [measured(0, "contrib", 500), measured(0, "otelkit", 140)])
    assert comparison.best_peer(result) is None
    assert "140 (140 to 140)" in comparison.shown(result)


def test_answers_of_a_sink_are_summed_by_name() -> None:
    """A name in two answers counts twice."""
    first, second = {"spans": {"a": 1, "b": 2}}, {"spans": {"b": 3}, "logs": {"c": 4}}
    assert summed([first, second]) == {"spans": {"a": 1, "b": 5}, "logs": {"c": 4}}


def test_memory_is_what_a_peer_has_beyond_the_bare_application() -> None:
    """In MiB; a peer that failed has its reason instead."""
    mib = 1024 * 1024
    found: dict[str, memory.Memory | str] = {
        "none": memory.Memory(40 * mib, 50 * mib),
        "otelkit": memory.Memory(60 * mib, 65 * mib),
        "sentry": "has ended: nobody knows why",
    }
    shown = memory.shown(found, 1000)
    assert "| otelkit      | " in shown
    assert shown.splitlines()[3].split("|")[2:5] == [f" {'60.0':>34} ", f" {'65.0':>19} ", "  15.0 "]
    assert "error: has ended: nobody knows why" in shown


def test_a_table_aligns_its_columns() -> None:
    """The first to the left, the others to the right."""
    assert table(("a", "us"), [("long", "1"), ("b", "1000")]).splitlines() == [
        "| a    |   us |",
        "| ---- | ---: |",
        "| long |    1 |",
        "| b    | 1000 |",
    ]
    assert Spread.of([3, 1, 2]).shown(1) == "2.0 (1.0 to 3.0)"


def test_cpu_and_memory_of_helper_processes_count() -> None:
    """A helper that works for its parent is its parent's cost, while it lives and afterwards."""
    helper = """
import time
kept = bytes(b"x" * 20_000_000)
while time.process_time() < 0.3:
    pass
print(flush=True)
input()
"""
    parent = f"""
import subprocess, sys
kept = bytes(b"x" * 30_000_000)
pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}}
helper = subprocess.Popen([sys.executable, "-c", {helper!r}], **pipes)
helper.stdout.readline()
print(flush=True)
input()
helper.communicate(b"\\n")
print(flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert used_s(process.pid) >= 0.3
        assert resident_bytes(process.pid) >= 50_000_000
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        assert 0.3 <= used_s(process.pid) < 0.6, "counted once"
        process.stdin.write("\n")


def test_every_peer_says_what_it_sends() -> None:
    """Every name has a module; every peer has both routes, and all but FastAPI's own have the task."""
    for name in NAMES:
        found = peer(name)
        assert {"ping", "order"} <= set(found.sends)
        assert ("task" in found.sends) is (name != "native")
        assert found.lacks
        assert found.environ("http://127.0.0.1:1")
