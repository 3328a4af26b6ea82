"""OTLP over gRPC against a real server on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.grpc import GrpcTransport
from otelkit.delivery.retry import Backoff
from otelkit.delivery.transport import Delivered, Outcome, Refused, Retry, open_transport
from tests.support.process import run_python
from tests.support.records import a_destination, a_pipeline, a_span
from tests.support.server import free_port

Handle = Callable[[bytes, grpc.ServicerContext], bytes]

SERVICES = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}


class Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Hands the bytes of every export to a function."""

    def __init__(self, handle: Handle, asked: list[str]) -> None:
        self._handle = handle
        self._asked = asked

    def service(self, call: Any) -> Any:
        self._asked.append(SERVICES[call.method])
        return grpc.unary_unary_rpc_method_handler(self._handle)


@contextmanager
def server(handle: Handle, asked: list[str] | None = None, credentials: Any = None, port: int = 0) -> Iterator[str]:
    """A gRPC server on a free port of loopback; its address without a scheme."""
    running = grpc.server(
        futures.ThreadPoolExecutor(4), handlers=(Generic(handle, asked if asked is not None else []),)
    )
    if credentials is None:
        port = running.add_insecure_port(f"127.0.0.1:{port}")
    else:
        port = running.add_secure_port(f"127.0.0.1:{port}", credentials)
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait()


def send(
    address: str, body: bytes = b"", *, scheme: str = "http", signal: Signal = "traces", **changes: Any
) -> Outcome:
    """One request over a channel of its own."""
    transport = open_transport(
        a_destination("", signal, protocol="grpc", url=f"{scheme}://{address}", **{"timeout_s": 5.0, **changes})
    )
    assert isinstance(transport, GrpcTransport)
    try:
        return transport.send(body)
    finally:
        transport.close()


def ok(body: bytes, context: grpc.ServicerContext) -> bytes:
    """Takes everything."""
    return b""


@pytest.mark.parametrize("signal", SIGNALS)
def test_each_signal_has_its_method(signal: Signal) -> None:
    """As the protocol's services name them."""
    asked: list[str] = []
    with server(ok, asked) as address:
        assert send(address, signal=signal) == Delivered()
    assert asked == [signal]


@pytest.mark.parametrize("compressed", [False, True])
def test_body_and_headers_arrive(compressed: bool) -> None:
    """Byte for byte, compressed or not."""
    seen: list[Any] = []

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append((body, dict(context.invocation_metadata())))
        return b""

    with server(handle) as address:
        changes: Any = {"headers": {"authorization": "Bearer t"}, "compression": "gzip" if compressed else "none"}
        assert send(address, b"x" * 10_000, **changes) == Delivered()
    ((body, metadata),) = seen
    assert body == b"x" * 10_000
    assert metadata["authorization"] == "Bearer t"


def test_partial_success_is_read() -> None:
    """As over HTTP."""
    answer = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="late")
    ).SerializeToString()
    with server(lambda body, context: answer) as address:
        assert send(address) == Delivered(2, "late")


RETRYABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
FINAL = (
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
)


def aborting(name: str, *details: tuple[str, bytes]) -> Handle:
    """Answers with a status."""

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(details)
        context.abort(grpc.StatusCode[name], "secret detail")
        raise AssertionError

    return handle


@pytest.mark.parametrize("name", RETRYABLE)
def test_what_may_pass_is_tried_again(name: str) -> None:
    """The codes that OTLP calls retryable."""
    with server(aborting(name)) as address:
        outcome = send(address)
    assert isinstance(outcome, Retry)
    assert outcome.cause == f"gRPC {name}"


@pytest.mark.parametrize("name", FINAL)
def test_other_codes_are_for_good(name: str) -> None:
    """RESOURCE_EXHAUSTED too, unless the server says when to come back."""
    whatever_is_sent = name in ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
    with server(aborting(name)) as address:
        assert send(address) == Refused(f"gRPC {name}", anything=whatever_is_sent)


def retry_info(seconds: int, nanos: int) -> bytes:
    """A google.rpc.Status with RetryInfo, by hand: {3: Any{1: type, 2: RetryInfo{1: Duration}}}."""
    from otelkit.delivery.wire import sized, varint

    duration = b"\x08" + varint(seconds) + b"\x10" + varint(nanos)
    details = sized(b"\x0a", b"type.googleapis.com/google.rpc.RetryInfo") + sized(b"\x12", sized(b"\x0a", duration))
    return b"\x08\x08" + sized(b"\x12", b"slow down") + sized(b"\x1a", details)


def test_resource_exhausted_with_a_delay_is_tried_again_after_it() -> None:
    """RetryInfo is gRPC's Retry-After."""
    with server(aborting("RESOURCE_EXHAUSTED", ("grpc-status-details-bin", retry_info(7, 500_000_000)))) as address:
        assert send(address) == Retry("gRPC RESOURCE_EXHAUSTED", 7.5)


def test_an_unavailable_server_may_say_when_to_come_back() -> None:
    """A throttling server answers UNAVAILABLE with RetryInfo, as OTLP describes it."""
    with server(aborting("UNAVAILABLE", ("grpc-status-details-bin", retry_info(9, 0)))) as address:
        outcome = send(address)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 9.0


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\x1a\x02\x12\x00", retry_info(1 << 62, 0)])
def test_unreadable_details_raise_nothing(content: bytes) -> None:
    """Whatever the bytes are."""
    with server(aborting("RESOURCE_EXHAUSTED", ("grpc-status-details-bin", content))) as address:
        outcome = send(address)
    assert isinstance(outcome, (Retry, Refused))
    if isinstance(outcome, Retry):
        assert Backoff().after_failure(outcome.after_s) <= 300.0


def test_nobody_at_the_address() -> None:
    """A refused port is unreachable, within the time-out."""
    began = time.monotonic()
    outcome = send(f"127.0.0.1:{free_port()}", timeout_s=2.0)
    assert time.monotonic() - began < 3.0
    assert isinstance(outcome, Retry)
    assert outcome.unreachable


def test_a_server_that_never_answers_costs_the_timeout() -> None:
    """And is tried again."""
    release = threading.Event()

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(10)
        return b""

    with server(handle) as address:
        began = time.monotonic()
        assert send(address, timeout_s=0.3) == Retry("gRPC DEADLINE_EXCEEDED")
        assert 0.25 < time.monotonic() - began < 1.5
        release.set()


def test_an_answer_that_is_too_large_is_no_success_and_costs_no_memory() -> None:
    """gRPC's own bound of 4 MiB holds."""
    with server(lambda body, context: bytes(8 << 20)) as address:
        assert isinstance(send(address), (Refused, Retry))


def test_a_channel_recovers_when_the_server_comes_back() -> None:
    """The same transport, over an outage."""
    port = free_port()
    transport = GrpcTransport(a_destination("", protocol="grpc", url=f"http://127.0.0.1:{port}", timeout_s=2.0))
    assert isinstance(transport.send(b""), Retry)
    with server(ok, port=port):
        end = time.monotonic() + 15
        while not isinstance(transport.send(b""), Delivered):
            assert time.monotonic() < end, "the channel did not recover"
            time.sleep(0.1)
    transport.close()


def test_tls_checks_the_server_and_presents_the_client(tmp_path: Path) -> None:
    """With an authority of our own, and mutual TLS."""
    from tests.unit.test_transport import make_certificates

    folder = make_certificates(tmp_path)
    read = {name: (folder / name).read_bytes() for name in ("ca.pem", "server.pem", "server.key")}
    credentials = grpc.ssl_server_credentials(
        [(read["server.key"], read["server.pem"])], root_certificates=read["ca.pem"], require_client_auth=True
    )
    files: dict[str, Any] = {
        "certificate": str(folder / "ca.pem"),
        "client_certificate": str(folder / "client.pem"),
        "client_key": str(folder / "client.key"),
    }
    with server(ok, credentials=credentials) as address:
        assert send(address, scheme="https", **files) == Delivered()
        assert isinstance(send(address, scheme="https", certificate=files["certificate"], timeout_s=1.0), Retry)
        assert isinstance(send(address, scheme="https", timeout_s=1.0), Retry)


@pytest.mark.parametrize("headers", [{"x-ümlaut": "v"}, {"x-key": "ü"}, {"x!key": "v"}, {"x-key-bin": "v"}])
def test_a_header_that_grpc_cannot_carry_does_not_raise(headers: dict[str, str]) -> None:
    """HTTP allows more than gRPC does."""
    with server(ok) as address:
        assert isinstance(send(address, headers=headers), (Refused, Retry, Delivered))


def test_a_pipeline_over_grpc_delivers_everything(tmp_path: Path) -> None:
    """End to end: queue, encoder, gzip by gRPC, acknowledgement."""
    seen: list[int] = []

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        request = ExportTraceServiceRequest.FromString(body)
        seen.extend(
            span.attributes[0].value.int_value
            for part in request.resource_spans
            for scoped in part.scope_spans
            for span in scoped.spans
        )
        return b""

    with server(handle) as address:
        hop = a_destination("", protocol="grpc", url=f"http://{address}", compression="gzip")
        pipeline = a_pipeline("", tmp_path, destinations={"traces": hop})
        for number in range(600):
            pipeline.spans.put(a_span(number))
        assert pipeline.flush(10).ok
        pipeline.shutdown(1)
    assert sorted(seen) == list(range(600))


@pytest.mark.slow
def test_without_grpcio_the_start_says_what_to_install(tmp_path: Path) -> None:
    """The application starts; the WARNING names the extra; strict raises."""
    source = """
    import importlib.util
    real = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name == "grpc" else real(name, package)
    import otelkit
    otelkit.bootstrap("x", otlp_protocol="grpc")
    otelkit.shutdown(0.1)
    """
    finished = run_python(source, cwd=tmp_path)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL='grpc' needs grpcio: pip install 'otelkit[grpc]'" in finished.err
    strict = run_python(source, cwd=tmp_path, environ={"OTELKIT_STRICT": "1"}, check=False)
    assert strict.code == 1
    assert "ConfigurationError" in strict.err


def test_a_channel_is_made_by_the_process_that_uses_it(tmp_path: Path) -> None:
    """A fork between two exports: parent and child both deliver, neither hangs (a channel must not cross a fork)."""
    asked: list[str] = []
    with server(ok, asked) as address:
        finished = run_python(
            """
            import os, otelkit
            otelkit.bootstrap("x")
            with otelkit.span("parent"): pass
            assert otelkit.flush(10).ok
            pid = os.fork()
            if pid == 0:
                with otelkit.span("child"): pass
                os._exit(0 if otelkit.flush(10).ok else 1)
            print(os.waitpid(pid, 0)[1])
            with otelkit.span("parent again"): pass
            print(otelkit.flush(10).ok)
            """,
            cwd=tmp_path,
            environ={
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}",
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
            },
        )
    assert finished.out.split() == ["0", "True"]
    assert asked.count("traces") == 3
