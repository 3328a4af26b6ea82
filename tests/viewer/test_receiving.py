"""OTLP over HTTP: what is taken, what is refused, and that no request takes more than its share."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest
from backports import zstd
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.viewer.backend import PROTOBUF, Answer, Backend, span, spans_request

# The backend that most of these tests share is started by one worker.
pytestmark = pytest.mark.xdist_group("viewer-receiving")

JSON = "application/json"
BODY = spans_request(span("one", answer=42)).SerializeToString()


def post(backend: Backend, body: bytes, kind: str = PROTOBUF, encoding: str = "", path: str = "/v1/traces") -> Answer:
    """One request."""
    headers = {"Content-Type": kind, **({"Content-Encoding": encoding} if encoding else {})}
    return backend.ask(path, body=body, headers=headers, method="POST")


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("", bytes),
        ("gzip", gzip.compress),
        ("zstd", zstd.compress),
        ("deflate", zlib.compress),
        ("gzip", lambda body: gzip.compress(body[:10]) + gzip.compress(body[10:])),
    ],
)
def test_a_body_is_taken_in_every_encoding(shared: Backend, encoding: str, compress: Any) -> None:
    """Protobuf answers protobuf, without a partial success."""
    kept = shared.get("info")["rows"]["spans"]
    answer = post(shared, compress(BODY), encoding=encoding)
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, PROTOBUF, b"")
    shared.wait_for_rows(spans=kept + 1)


OTLP_JSON = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "browser"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "js"},
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "name": "click",
                            "kind": 3,
                            "startTimeUnixNano": str(time.time_ns()),
                            "endTimeUnixNano": str(time.time_ns() + 5_000_000),
                            "attributes": [
                                {"key": "n", "value": {"intValue": "-7"}},
                                {"key": "l", "value": {"arrayValue": {"values": [{"boolValue": True}]}}},
                            ],
                            "events": [{"timeUnixNano": "1", "name": "e"}],
                            "status": {"code": 2, "message": "no"},
                            "unknown": {"is": "ignored"},
                        }
                    ],
                }
            ],
        }
    ]
}


def test_otlp_json_is_taken_as_protobuf_is(backend: Backend) -> None:
    """Ids in hex of either case, 64-bit integers as texts, unknown fields ignored; the answer is JSON."""
    answer = post(backend, json.dumps(OTLP_JSON).encode(), JSON)
    assert (answer.status, answer.json) == (200, {})
    backend.wait_for_rows(spans=1)
    found = backend.get("traces/5b8efff798038103d269b633813fc60c")
    (one,) = found["spans"]
    assert (one["name"], one["kind"], one["status"], one["status_message"]) == ("click", "client", "error", "no")
    assert one["attributes"] == {"n": -7, "l": [True]}
    assert one["duration_ms"] == pytest.approx(5, abs=0.5)


def test_spans_without_valid_ids_are_a_partial_success(backend: Backend) -> None:
    """The others are taken, and the answer says how many were not, and why."""
    broken = span("broken")
    broken.trace_id = b""
    request = spans_request(span("whole"), broken, broken)
    answer = post(backend, request.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, partial.rejected_spans) == (200, 2)
    assert "valid ids" in partial.error_message
    backend.wait_for_rows(spans=1)
    assert backend.get("health")["viewer"]["rejected"] == {"a span without valid ids": 2}


def bomb(compress: Callable[[bytes], bytes]) -> bytes:
    """200 MB in a few kilobytes."""
    return compress(bytes(200 << 20))


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "status"),
    [
        (BODY, "text/plain", "", 415),
        (BODY, PROTOBUF, "br", 415),
        (BODY, PROTOBUF, "gzip", 400),
        (BODY[:-3], PROTOBUF, "", 400),
        (b"\xff" * 100, PROTOBUF, "", 400),
        (gzip.compress(BODY)[:-9], PROTOBUF, "gzip", 400),
        (b"{", JSON, "", 400),
        (b"[" * 100_000, JSON, "", 400),
        (b'{"resourceSpans": 5}', JSON, "", 400),
        (b"x" * (17 << 20), PROTOBUF, "", 413),
        (partial(bomb, gzip.compress), PROTOBUF, "gzip", 413),
        (partial(bomb, zstd.compress), PROTOBUF, "zstd", 413),
    ],
    ids=range(12),
)
def test_what_is_no_request_is_refused_by_its_kind(
    shared: Backend, body: bytes | Callable[[], bytes], kind: str, encoding: str, status: int
) -> None:
    """And a bomb of 200 MB is not inflated: the process stays small. What follows is taken."""
    kept = shared.get("info")["rows"]["spans"]
    # The bombs are made here and not in every process that collects the tests: they take a second.
    assert post(shared, body if isinstance(body, bytes) else body(), kind, encoding).status == status
    assert psutil.Process(shared.process.pid).memory_info().rss < 300 << 20
    assert post(shared, BODY).status == 200
    shared.wait_for_rows(spans=kept + 1)


@pytest.mark.slow
def test_a_sender_that_is_too_fast_is_told_to_wait_and_loses_nothing(backend: Backend) -> None:
    """429 with Retry-After; whoever repeats those has everything in the end, and the memory stays bounded."""
    many = [span(f"s{n % 50}", number=n + 1, trace=n // 10 + 1, path="x" * 600) for n in range(15_000)]
    body = spans_request(*many).SerializeToString()
    refused: list[Answer] = []
    taken: list[int] = []

    def send() -> None:
        while True:
            answer = post(backend, body)
            if answer.status == 200:
                taken.append(1)
                return
            refused.append(answer)
            time.sleep(0.2)

    senders = [threading.Thread(target=send) for _ in range(14)]
    for each in senders:
        each.start()
    highest = 0
    while any(each.is_alive() for each in senders):
        highest = max(highest, psutil.Process(backend.process.pid).memory_info().rss)
        time.sleep(0.05)
    assert len(taken) == len(senders)
    assert {answer.status for answer in refused} == {429}
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    backend.wait_for_rows(spans=15_000 * len(senders))
    assert highest < 700 << 20
    assert backend.get("health")["viewer"]["rejected"]["behind"] == len(refused)


@pytest.mark.slow
def test_a_head_that_never_ends_is_cut_off(backend: Backend) -> None:
    """A slow loris holds its connection for ten seconds."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(backend.url.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(b"GET /api/v1/info HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        connection.settimeout(30)
        ended = False
        while not ended:
            try:
                connection.sendall(b"x")
                connection.settimeout(0.5)
                ended = connection.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
    assert 8 < time.monotonic() - began < 25


def test_a_connection_is_kept_between_requests(backend: Backend) -> None:
    """Senders post every few seconds over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", int(backend.url.rpartition(":")[2]), timeout=10)
    for _ in range(3):
        connection.request("POST", "/v1/traces", BODY, {"Content-Type": PROTOBUF})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert not re.search("close", answer.headers.get("Connection", ""))
    connection.close()


def test_odd_traces_are_shown(backend: Backend) -> None:
    """A cycle, a parent that is missing, a span an hour off: each is there, and nothing hangs."""
    now = time.time()
    backend.send(
        spans_request(
            span("a", trace=1, number=1, parent=2, start_s=now),
            span("b", trace=1, number=2, parent=1, start_s=now),
            span("self", trace=2, number=3, parent=3, start_s=now),
            span("orphan", trace=3, number=4, parent=999, start_s=now),
            span("late", trace=3, number=5, parent=4, start_s=now - 3600),
        )
    )
    backend.wait_for_rows(spans=5)
    listed = {row["trace_id"]: row for row in backend.get("traces")["traces"]}
    assert len(listed) == 3
    assert {each["name"] for each in backend.get(f"traces/{1:032x}")["spans"]} == {"a", "b"}
    assert len(backend.get(f"traces/{2:032x}")["spans"]) == 1
    assert listed[f"{3:032x}"]["duration_ms"] == pytest.approx(3_600_010, abs=5)
    assert len(backend.get(f"traces/{3:032x}")["spans"]) == 2
