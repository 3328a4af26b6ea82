"""The bundled stack as native processes: what is sent arrives, what breaks says so, what ends is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otelkit.stack.fetch import FetchError, fetch
from otelkit.stack.native import NativeStack, Ports, find_binaries, missing_binaries
from otelkit.stack.queries import (
    NotArrived,
    NotYet,
    SpanRow,
    loki_query,
    prometheus_exemplars,
    prometheus_query,
    tempo_trace,
    wait_for,
)
from otelkit.stack.server import StackError

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

ARRIVAL_S = 20.0
SERVICE = "native-test"
RESOURCE = {"service.name": SERVICE, "service.instance.id": "one", "host.name": "here"}
HOUR_NS = 3600 * 10**9


# --- a sender of hand-made OTLP/JSON


def otlp_value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [otlp_value(each) for each in value]}}
        case dict():
            return {"kvlistValue": {"values": otlp_attributes(value)}}
    return {"stringValue": value}


def otlp_attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": otlp_value(value)} for key, value in values.items()]


def post(stack: NativeStack, signal_name: str, records: list[dict[str, Any]]) -> int:
    """Send spans, metrics or logs to the collector and return the status of its answer."""
    outer, inner, key = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    }[signal_name]
    scope = {"scope": {"name": "hand-made"}, key: records}
    document = {outer: [{"resource": {"attributes": otlp_attributes(RESOURCE)}, inner: [scope]}]}
    request = urllib.request.Request(
        f"{stack.otlp_http}/v1/{signal_name}", json.dumps(document).encode(), {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def new_id(size: int) -> str:
    return os.urandom(size).hex()


def make_span(trace_id: str, **fields: Any) -> dict[str, Any]:
    now = time.time_ns()
    return {
        "traceId": trace_id,
        "spanId": new_id(8),
        "name": "work",
        "kind": 1,
        "startTimeUnixNano": str(now - 10**6),
        "endTimeUnixNano": str(now),
        **fields,
    }


def make_log(body: str | None, *, time_ns: int, trace_id: str = "", **attributes: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "timeUnixNano": str(time_ns),
        "severityNumber": 17,
        "severityText": "ERROR",
        "traceId": trace_id,
        "attributes": otlp_attributes({key.replace("_", "."): value for key, value in attributes.items()}),
    }
    if body is not None:
        record["body"] = {"stringValue": body}
    return record


def arrived_trace(stack: NativeStack, trace_id: str, *, spans: int) -> list[SpanRow]:
    def look() -> list[SpanRow] | None:
        found = tempo_trace(stack.tempo, trace_id)
        if found is None or len(found) < spans:
            raise NotYet(f"{found and len(found)} of {spans} spans")
        return found

    return wait_for(look, deadline_s=ARRIVAL_S, what=f"trace {trace_id} in Tempo")


def arrived_line(stack: NativeStack, *, time_ns: int) -> tuple[str, dict[str, str]]:
    """The one line with exactly this time."""
    lines = wait_for(
        lambda: loki_query(stack.loki, f'{{service_name="{SERVICE}"}}', start_ns=time_ns, end_ns=time_ns + 1, limit=10),
        deadline_s=ARRIVAL_S,
        what=f"the line of {time_ns} in Loki",
    )
    assert len(lines) == 1
    return lines[0].line, dict(lines[0].labels)


# --- what is sent arrives


def test_every_server_answers_at_its_url(native_stack: NativeStack) -> None:
    """The stores answer at the URLs the stack names, and each server's start-up was timed."""
    for url in (f"{native_stack.prometheus}/-/ready", f"{native_stack.loki}/ready", f"{native_stack.tempo}/ready"):
        assert fetch(url)[0] == 200, url
    assert set(native_stack.timings) == {"otelcol", "prometheus", "loki", "tempo"}
    assert all(0 < seconds < 60 for seconds in native_stack.timings.values())
    native_stack.check()


def test_a_span_arrives_in_tempo(native_stack: NativeStack) -> None:
    """Ids, parent, kind, status, times and attributes of all types come back as they were sent."""
    trace_id, root_id = new_id(16), new_id(8)
    attributes = {"text": "x" * 10_000, "count": 5, "ratio": 0.5, "flag": True, "list": ["a", 1], "map": {"k": "v"}}
    root = make_span(
        trace_id,
        spanId=root_id,
        name="GET /orders",
        kind=2,
        status={"code": 2, "message": "broken"},
        attributes=otlp_attributes(attributes),
        startTimeUnixNano=str(time.time_ns() - 10**9),
    )
    child = make_span(trace_id, parentSpanId=root_id, name="SELECT orders", kind=3)
    assert post(native_stack, "traces", [child, root]) == 200

    first, second = arrived_trace(native_stack, trace_id, spans=2)
    assert first == SpanRow(
        trace_id=trace_id,
        span_id=root_id,
        parent_span_id=None,
        service=SERVICE,
        name="GET /orders",
        kind="server",
        status="error",
        status_message="broken",
        start_ns=int(root["startTimeUnixNano"]),
        end_ns=int(root["endTimeUnixNano"]),
        attributes=attributes,
        resource=RESOURCE,
    )
    assert (second.parent_span_id, second.kind, second.status) == (root_id, "client", "unset")


def test_a_trace_that_tempo_does_not_have_is_none(native_stack: NativeStack) -> None:
    """An unknown id is no error."""
    assert tempo_trace(native_stack.tempo, new_id(16)) is None


def test_a_metric_arrives_in_prometheus_and_its_exemplar_leads_to_a_trace(native_stack: NativeStack) -> None:
    """Name, unit, labels and value are Prometheus', the resource is in the labels, the exemplar has the trace id."""
    trace_id, now = new_id(16), time.time_ns()
    times = {"timeUnixNano": str(now), "startTimeUnixNano": str(now - 10**10)}
    point = {**times, "asInt": "7", "attributes": otlp_attributes({"http.route": "/orders"})}
    exemplar = {"timeUnixNano": str(now), "asDouble": 0.2, "traceId": trace_id, "spanId": new_id(8)}
    bucket = {**times, "count": "2", "sum": 0.3, "bucketCounts": ["1", "1", "0"], "explicitBounds": [0.1, 1]}
    metrics = [
        {
            "name": "shop.orders",
            "unit": "{order}",
            "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
        },
        {
            "name": "shop.wait",
            "unit": "s",
            "histogram": {"aggregationTemporality": 2, "dataPoints": [{**bucket, "exemplars": [exemplar]}]},
        },
    ]
    assert post(native_stack, "metrics", metrics) == 200
    assert post(native_stack, "traces", [make_span(trace_id)]) == 200

    (sample,) = wait_for(
        lambda: prometheus_query(native_stack.prometheus, "shop_orders_total"),
        deadline_s=ARRIVAL_S,
        what="the counter in Prometheus",
    )
    assert sample.value == 7
    expected = {"job": SERVICE, "instance": "one", "service_name": SERVICE, "http_route": "/orders"}
    assert expected.items() <= sample.labels.items()
    assert "host_name" not in sample.labels, "only the listed resource attributes are labels"

    (found,) = wait_for(
        lambda: prometheus_exemplars(
            native_stack.prometheus, "shop_wait_seconds_bucket", start_s=now / 1e9 - 60, end_s=now / 1e9 + 60
        ),
        deadline_s=ARRIVAL_S,
        what="the exemplar in Prometheus",
    )
    assert found.value == 0.2
    assert arrived_trace(native_stack, found.labels["trace_id"], spans=1)[0].trace_id == trace_id


def test_a_point_that_is_late_arrives_in_prometheus(native_stack: NativeStack) -> None:
    """A point 20 minutes older than the newest of its series is stored."""
    now_s = time.time()
    for age_s, value in ((0, 9), (1200, 4)):
        point = {"asInt": str(value), "timeUnixNano": str(int((now_s - age_s) * 1e9))}
        metric = {"name": "shop.late", "gauge": {"dataPoints": [point]}}
        assert post(native_stack, "metrics", [metric]) == 200
        (sample,) = wait_for(
            lambda age_s=age_s: prometheus_query(native_stack.prometheus, "shop_late", time_s=now_s - age_s + 1),  # type: ignore[misc]
            deadline_s=ARRIVAL_S,
            what=f"the point of {age_s} s ago",
        )
        assert sample.value == value


def test_a_log_arrives_in_loki(native_stack: NativeStack) -> None:
    """The body is the line; severity, ids, attributes and resource are its labels."""
    trace_id, now = new_id(16), time.time_ns()
    assert post(native_stack, "logs", [make_log("no stock", time_ns=now, trace_id=trace_id, order="17")]) == 200
    line, labels = arrived_line(native_stack, time_ns=now)
    assert line == "no stock"
    expected = {"service_name": SERVICE, "trace_id": trace_id, "severity_text": "ERROR", "order": "17"}
    assert expected.items() <= labels.items()
    by_trace = loki_query(
        native_stack.loki,
        f'{{service_name="{SERVICE}"}} | trace_id="{trace_id}"',
        start_ns=now - HOUR_NS,
        end_ns=now + HOUR_NS,
    )
    assert [each.line for each in by_trace] == ["no stock"]


def test_a_long_stack_trace_becomes_part_of_the_line(native_stack: NativeStack) -> None:
    """Loki would refuse the record for its long attribute; short ones stay attributes, a missing body is no matter."""
    now, stack_trace = time.time_ns(), "frame\n" * 60_000 + "ValueError: the end"
    records = [
        make_log("failed", time_ns=now, exception_stacktrace=stack_trace, exception_type="ValueError"),
        make_log(None, time_ns=now + 1, exception_stacktrace=stack_trace),
        make_log("failed", time_ns=now + 2, exception_stacktrace="short"),
    ]
    assert post(native_stack, "logs", records) == 200
    line, labels = arrived_line(native_stack, time_ns=now)
    assert line == f"failed\n{stack_trace}"
    assert labels["exception_type"] == "ValueError"
    assert "exception_stacktrace" not in labels
    assert arrived_line(native_stack, time_ns=now + 1)[0] == stack_trace
    line, labels = arrived_line(native_stack, time_ns=now + 2)
    assert (line, labels["exception_stacktrace"]) == ("failed", "short")


def test_a_log_that_is_late_arrives_in_loki(native_stack: NativeStack) -> None:
    """A line five hours older than the newest of its stream is stored and found."""
    now = time.time_ns()
    for time_ns in (now, now - 5 * HOUR_NS):
        assert post(native_stack, "logs", [make_log("late", time_ns=time_ns)]) == 200
        assert arrived_line(native_stack, time_ns=time_ns)[0] == "late"


# --- what the collector has accepted is not lost


@pytest.mark.slow
def test_what_was_accepted_while_the_store_was_away_survives_a_killed_collector(
    own_stack: Callable[..., NativeStack],
) -> None:
    """Accepted spans arrive after kill -9; those that a full queue has no room for are refused, retryably."""
    stack = own_stack(environ={"STACK_COLLECTOR_QUEUE_BYTES": "600000"})
    stack.start()
    stack.servers["tempo"].kill()
    accepted: list[str] = []
    statuses: list[int] = []
    while 503 not in statuses and len(statuses) < 100:
        trace_id = new_id(16)
        payload = otlp_attributes({"payload": "x" * 50_000})
        statuses.append(post(stack, "traces", [make_span(trace_id, attributes=payload)]))
        if statuses[-1] == 200:
            accepted.append(trace_id)
    assert statuses[-1] == 503, "a full queue is said to the sender"
    assert len(accepted) >= 5

    stack.servers["otelcol"].kill()
    stack.start_server("tempo")
    stack.start_server("otelcol")
    for trace_id in accepted:
        assert len(arrived_trace(stack, trace_id, spans=1)) == 1


# --- what breaks says so


def test_missing_programs_are_named(tmp_path: Path) -> None:
    """The error names each program that is missing and where it was looked for; otelcol-contrib does for otelcol."""
    for name in ("otelcol-contrib", "loki"):
        (tmp_path / name).touch(mode=0o755)
    environ = {"OTELKIT_STACK_BIN": str(tmp_path), "PATH": os.environ["PATH"]}
    assert find_binaries(environ) == {"otelcol": tmp_path / "otelcol-contrib", "loki": tmp_path / "loki"}
    assert missing_binaries(environ) == ["prometheus", "tempo"]
    stack = NativeStack(tmp_path / "data", environ=environ)
    with pytest.raises(StackError, match=f"not found in {tmp_path}: prometheus, tempo"):
        stack.start()


def test_programs_are_found_on_path_without_the_variable(tmp_path: Path) -> None:
    """Without OTELKIT_STACK_BIN, PATH is searched."""
    (tmp_path / "tempo").touch(mode=0o755)
    assert find_binaries({"PATH": f"/nowhere:{tmp_path}"}) == {"tempo": tmp_path / "tempo"}


def test_a_given_port_that_is_taken_is_named(stack_binaries: dict[str, Path], tmp_path: Path) -> None:
    """The error names the server, the port and its name, and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = Ports.free()
        ports = Ports(**{**vars(free), "loki_http": port})
        stack = NativeStack(tmp_path, ports=ports)
        with pytest.raises(StackError, match=rf"loki needs port {port} \(loki_http\): Address already in use"):
            stack.start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["otlp_grpc", "loki_http"])
@pytest.mark.slow
def test_a_free_port_that_is_lost_to_another_process_is_replaced(
    own_stack: Callable[..., NativeStack], field: str
) -> None:
    """Between the choice of a port and its use it can be taken: the start is repeated with other ports."""
    stack = own_stack()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unlucky = Ports(**{**vars(stack.ports), field: taken.getsockname()[1]})
        stack.ports = unlucky
        stack.start()
        assert stack.ports != unlucky
        stack.check()
        assert "address already in use" in "".join(log.read_text() for log in stack.data_dir.glob("*.log"))


def test_a_server_that_ends_at_its_start_is_named_with_its_last_words(own_stack: Callable[..., NativeStack]) -> None:
    """The error has the server's name, exit code and log; the other servers are ended again."""
    stack = own_stack(environ={"STACK_COLLECTOR_QUEUE_BYTES": "1"})
    with pytest.raises(StackError, match=r"(?s)^otelcol exited with code 1;.*otelcol\.log.*less than or equal to"):
        stack.start()
    assert stack.servers == {}
    for url in (stack.prometheus, stack.loki, stack.tempo):
        with pytest.raises(FetchError):
            fetch(url)


def test_a_server_that_is_not_ready_in_time_is_named(stack_binaries: dict[str, Path], tmp_path: Path) -> None:
    """The error names who is late; nobody is left running."""
    stack = NativeStack(tmp_path, ready_timeout_s=0.0)
    with pytest.raises(StackError, match=r"not ready within 0 s: .*loki"):
        stack.start()
    assert stack.servers == {}


@pytest.mark.slow
def test_a_server_that_ends_later_is_noticed(own_stack: Callable[..., NativeStack]) -> None:
    """`check` names it and the signal; starting it again makes the stack whole."""
    stack = own_stack()
    stack.start()
    stack.check()
    stack.servers["prometheus"].kill()
    with pytest.raises(StackError, match="prometheus was ended by SIGKILL"):
        stack.check()
    stack.start_server("prometheus")
    stack.check()
    with pytest.raises(StackError, match="prometheus runs already"):
        stack.start_server("prometheus")


# --- what ends is gone


@pytest.mark.slow
def test_stopping_leaves_no_process_and_a_new_start_finds_the_data(own_stack: Callable[..., NativeStack]) -> None:
    """All four are gone after `stop`, a second `stop` is a no-op, and the data is there at the next start."""
    stack = own_stack(environ={"OTEL_SERVICE_NAME": "shop", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    stack.start()
    pids = [server.pid for server in stack.servers.values() if server.pid]
    assert len(pids) == 4
    for pid in pids:
        assert os.getsid(pid) == pid, "the terminal's Ctrl-C must not reach the servers before us"
        inherited = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"OTEL_" not in inherited, "the application's telemetry settings are not the servers'"
    trace_id, now = new_id(16), time.time_ns()
    post(stack, "traces", [make_span(trace_id)])
    post(stack, "logs", [make_log("kept", time_ns=now)])
    arrived_trace(stack, trace_id, spans=1)
    arrived_line(stack, time_ns=now)

    stack.stop()
    stack.stop()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []

    stack.start()
    assert arrived_trace(stack, trace_id, spans=1)
    assert arrived_line(stack, time_ns=now)[0] == "kept"


@pytest.mark.slow
def test_an_error_in_the_block_ends_the_servers(stack_binaries: dict[str, Path], tmp_path: Path) -> None:
    """The context manager ends them whatever happens inside."""
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt), NativeStack(tmp_path) as stack:  # noqa: PT012
        pids += [server.pid for server in stack.servers.values() if server.pid]
        raise KeyboardInterrupt
    assert len(pids) == 4
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


SCRIPT = """
import pathlib, sys, time
from otelkit.stack.native import NativeStack
stack = NativeStack(pathlib.Path(sys.argv[1]))
stack.start()
print(*[server.pid for server in stack.servers.values()], flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_the_servers_do_not_outlive_a_killed_parent(stack_binaries: dict[str, Path], tmp_path: Path) -> None:
    """After SIGKILL of the process that started them, all four end."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 4
    try:
        wait_for(
            lambda: not any(_is_alive(pid) for pid in pids),
            deadline_s=ARRIVAL_S,
            what="the end of the servers of a killed process",
        )
    finally:
        for pid in filter(_is_alive, pids):
            os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    """Whether it still runs; nobody waits for an orphan where init does not, so a zombie is an ended process."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- waiting


def test_wait_for_returns_the_first_true_value() -> None:
    """Falsy values, NotYet and FetchError mean "not yet"."""
    answers: list[Any] = [NotYet("1 of 2"), None, [], FetchError("refused"), ["found"]]

    def look() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_for(look, deadline_s=5.0, what="it") == ["found"]


@pytest.mark.parametrize(("seen", "said"), [(NotYet("1 of 2 spans"), "1 of 2 spans"), (None, "None")])
def test_wait_for_says_what_was_missing_and_what_was_seen(seen: Exception | None, said: str) -> None:
    """The error at the deadline names both."""

    def look() -> None:
        if seen is not None:
            raise seen

    with pytest.raises(NotArrived, match=f"the trace: not within 0 s; last seen: {said}"):
        wait_for(look, deadline_s=0.0, what="the trace")


def test_wait_for_lets_other_errors_through() -> None:
    """A mistake in the predicate is not waited out."""
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 // 0, deadline_s=5.0, what="it")


# --- last, because the collector reports on itself every 15 s only


def test_the_collectors_own_metrics_arrive_in_prometheus(native_stack: NativeStack) -> None:
    """How full each of its queues is can be asked of Prometheus."""

    def look() -> set[str] | None:
        found = prometheus_query(native_stack.prometheus, 'otelcol_exporter_queue_size{job="otelcol"}')
        return {sample.labels["exporter"] for sample in found}

    seen = wait_for(look, deadline_s=30.0, what="the collector's queue sizes")
    assert seen == {"otlp_grpc/tempo", "otlp_http/prometheus", "otlp_http/loki"}
