"""The commands beside `ui`: tail, export and import."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.support.process import run_python
from tests.support.server import BIN, clean_environment, get, running, wait_until_said
from tests.viewer.backend import Backend, running_backend, span, spans_request
from tests.viewer.test_senders import SHOP


def otelkit(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    command = [str(BIN / "otelkit"), *arguments]
    return subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_tail_prints_trees_of_spans_with_their_logs(backend: Backend, tmp_path: Path) -> None:
    """As they come; a filter keeps the others out."""
    log, filtered = tmp_path / "tail.log", tmp_path / "filtered.log"
    environ = clean_environment(PYTHONUNBUFFERED="1", COLUMNS="200")
    command = [str(BIN / "otelkit"), "tail", "--url", backend.url]
    with (
        running(command, cwd=tmp_path, environ=environ, log=log),
        running([*command, "--service", "other", "name:x*"], cwd=tmp_path, environ=environ, log=filtered),
    ):
        seen = 0
        while "order.pay" not in log.read_text() or "xyz" not in filtered.read_text():
            seen += 1
            assert seen < 10, log.read_text() + filtered.read_text()
            run_python(SHOP, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
            backend.send(spans_request(span("xyz", trace=seen), service="other"))
        wait_until_said(log, "order.place")
    printed = log.read_text()
    assert "├── order.price" in printed
    assert "careful 5" in printed
    assert "ValueError: no money" in printed
    assert "order.place" not in filtered.read_text()


def test_tail_without_a_viewer_says_what_to_start(tmp_path: Path) -> None:
    """And ends."""
    finished = otelkit("tail", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert finished.returncode == 1
    assert "start one: otelkit ui" in finished.stderr


@pytest.mark.slow
def test_a_trace_that_was_exported_is_the_same_when_it_is_imported(backend: Backend, tmp_path: Path) -> None:
    """Into another viewer: spans with events and exceptions, logs, attributes and resources."""
    run_python(SHOP, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": backend.url})
    backend.send(spans_request(span("other", trace=77, yes=True, count=5, half=0.5)))
    backend.wait_for_rows(spans=4, logs=3)
    (listed,) = backend.get("traces", q="name:order.place")["traces"]
    one, every = tmp_path / "one.jsonl", tmp_path / "every.jsonl"
    exported = otelkit("export", listed["trace_id"], "-o", str(one), "--url", backend.url, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert otelkit("export", "-o", str(every), "--url", backend.url, cwd=tmp_path).returncode == 0
    assert [list(json.loads(line)) for line in one.read_text().splitlines()] == [["resourceSpans"], ["resourceLogs"]]
    with running_backend(tmp_path) as other:
        assert otelkit("import", str(one), "--url", other.url, cwd=tmp_path).returncode == 0
        other.wait_for_rows(spans=3, logs=2)
        before, after = (each.get(f"traces/{listed['trace_id']}") for each in (backend, other))
        for log in (*before["logs"], *after["logs"]):
            del log["id"]
        assert after == before
        assert otelkit("import", str(every), "--url", other.url, cwd=tmp_path).returncode == 0
        other.wait_for_rows(spans=7)
        (imported,) = other.get(f"traces/{77:032x}")["spans"]
        assert imported["attributes"] == {"yes": True, "count": 5, "half": 0.5}


@pytest.mark.slow
def test_metrics_that_were_exported_are_the_same_when_they_are_imported(backend: Backend, tmp_path: Path) -> None:
    """Counters, gauges, histograms and summaries, with their labels, units, exemplars and temporality."""
    now_ns = time.time_ns()
    request = ExportMetricsServiceRequest()
    one = request.resource_metrics.add()
    one.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = one.scope_metrics.add()
    counter = scope.metrics.add(name="orders", unit="{order}", description="Orders.").sum
    counter.is_monotonic, counter.aggregation_temporality = True, 2
    delta = scope.metrics.add(name="steps").sum
    delta.aggregation_temporality = 1
    for n in range(3):
        at_ns = now_ns + n * 10**9
        for plan in ("free", "pro"):
            point = counter.data_points.add(as_int=20 * n, start_time_unix_nano=now_ns, time_unix_nano=at_ns)
            point.attributes.add(key="plan").value.string_value = plan
        delta.data_points.add(as_double=1.5, time_unix_nano=at_ns)
    scope.metrics.add(name="level", unit="1").gauge.data_points.add(as_double=float("inf"), time_unix_nano=now_ns)
    spread = scope.metrics.add(name="time", unit="s").histogram
    spread.aggregation_temporality = 2
    spread.data_points.add(time_unix_nano=now_ns, count=10, sum=4.5, explicit_bounds=[0.1, 1], bucket_counts=[9, 1, 0])
    exemplar = spread.data_points[0].exemplars.add(as_double=0.5, time_unix_nano=now_ns)
    exemplar.trace_id, exemplar.span_id = (1).to_bytes(16, "big"), (2).to_bytes(8, "big")
    exemplar.filtered_attributes.add(key="user").value.int_value = 7
    scope.metrics.add(name="old").summary.data_points.add(time_unix_nano=now_ns, count=2, sum=3.0)
    backend.send(request)
    backend.wait_for_rows(points=12)
    file = tmp_path / "all.jsonl"
    exported = otelkit("export", "-o", str(file), "--url", backend.url, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert [list(json.loads(line)) for line in file.read_text().splitlines()] == [["resourceMetrics"]]
    everything = "SELECT * EXCLUDE (series) FROM points JOIN series USING (series) ORDER BY ALL"
    with running_backend(tmp_path) as other:
        assert otelkit("import", str(file), "--url", other.url, cwd=tmp_path).returncode == 0
        other.wait_for_rows(points=12)
        query = json.dumps({"query": everything}).encode()
        before, after = (each.ask("/api/v1/sql", body=query, method="POST").json for each in (backend, other))
        assert len(before["rows"]) == 12
        assert after == before


@pytest.mark.slow
def test_what_cannot_be_exported_or_imported_is_said(backend: Backend, tmp_path: Path) -> None:
    """With the place."""
    finished = otelkit("export", "f" * 32, "--url", backend.url, cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "there is no trace" in finished.stderr
    (tmp_path / "bad.jsonl").write_text('{"resourceSpans": []}\nnonsense\n')
    finished = otelkit("import", "bad.jsonl", "--url", backend.url, cwd=tmp_path)
    assert finished.returncode == 1
    assert "bad.jsonl:2" in finished.stderr


@pytest.mark.slow
def test_run_with_ui_starts_both_and_ends_both(tmp_path: Path) -> None:
    """One link is printed, the program's telemetry is there, its exit code is the command's."""
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys, time, urllib.request\n"
        "import otelkit\n"
        "url = os.environ['OTEL_EXPORTER_OTLP_ENDPOINT']\n"
        "with otelkit.span('ran'): pass\n"
        "assert otelkit.flush(10).ok\n"
        "end = time.monotonic() + 20\n"
        "while not (found := json.load(urllib.request.urlopen(f'{url}/api/v1/traces'))['traces']):\n"
        "    assert time.monotonic() < end\n"
        "print('seen', found[0]['name'], flush=True)\n"
        "sys.exit(3)\n"
    )
    finished = otelkit("run", "--ui", "python", str(program), cwd=tmp_path)
    assert finished.returncode == 3, finished.stderr
    link = finished.stdout.splitlines()[0].removeprefix("telemetry: ")
    assert "seen ran" in finished.stdout
    with pytest.raises(OSError, match="refused"):
        get(link)
