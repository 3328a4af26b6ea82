"""OTLP over HTTP against real servers that misbehave in every way that servers do."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otelkit.config.load import load
from otelkit.delivery.compression import Compression, compressed, compression_of, decompressed
from otelkit.delivery.destination import Destination, destination
from otelkit.delivery.transport import (
    Delivered,
    HttpTransport,
    Outcome,
    Refused,
    Retry,
    open_transport,
    partial_success,
)
from tests.support.raw import HTTP_200, Raw, answering, closed, once, read_request, reset
from tests.support.records import a_destination
from tests.support.server import free_port
from tests.support.sink import Answer, Sink


def send(url: str, body: bytes = b"", **changes: Any) -> Outcome:
    """One request over a transport of its own."""
    transport = open_transport(a_destination(url, **changes))
    try:
        return transport.send(body)
    finally:
        transport.close()


def send_under(sink: Sink, **environ: str) -> Outcome:
    """One request under settings of the environment."""
    settings = load({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **environ}).settings
    transport = open_transport(destination(settings, "traces"))
    try:
        return transport.send(b"")
    finally:
        transport.close()


def test_an_acknowledged_request_is_delivered(sink: Sink) -> None:
    """An empty body is a valid request; any 2xx is an acknowledgement."""
    assert send(sink.url) == Delivered()
    with Raw(answering(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")) as server:
        assert send(server.url) == Delivered()


def test_partial_success_says_how_many_and_why(sink: Sink) -> None:
    """The reason is cut, since it may be a server's whole page."""
    body = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old " * 100)
    ).SerializeToString()
    sink.answer = lambda path: Answer(body=body)
    outcome = send(sink.url)
    assert isinstance(outcome, Delivered)
    assert outcome.rejected == 3
    assert outcome.message == ("too old " * 100)[:200]


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff\xff\xff", b"<html>", b"\x0a\x02\x08", b"\x08\x01"])
def test_an_acknowledgement_that_cannot_be_read_is_one(sink: Sink, body: bytes) -> None:
    """The status decides."""
    sink.answer = lambda path: Answer(body=body)
    assert send(sink.url) == Delivered()
    assert partial_success(body) == Delivered()


@pytest.mark.parametrize("status", [300, 400, 404, 405, 415, 422, 500, 501])
def test_other_answers_are_for_good(sink: Sink, status: int) -> None:
    """Redirects and refused credentials: tests/faults/test_f28_*, test_f29_*."""
    asked = []

    def answer(path: str) -> Answer:
        asked.append(path)
        return Answer(status=status)

    sink.answer = answer
    assert send(sink.url) == Refused(f"HTTP {status}", anything=status not in (400, 422))
    assert len(asked) == 1


def test_too_large_is_told_apart(sink: Sink) -> None:
    """413."""
    sink.answer = lambda path: Answer(status=413)
    assert send(sink.url) == Refused("HTTP 413", too_large=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("7", 7.0), ("soon", None)])
def test_what_may_pass_is_tried_again_when_the_server_says(
    sink: Sink, status: int, header: str | None, seconds: float | None
) -> None:
    """The statuses that OTLP calls retryable."""
    sink.answer = lambda path: Answer(status=status, headers={"retry-after": header} if header else {})
    assert send(sink.url) == Retry(f"HTTP {status}", seconds)


def test_nobody_at_the_address() -> None:
    """A refused port and a name that does not exist."""
    for host in (f"127.0.0.1:{free_port()}", "no-such-host.invalid:4318"):
        outcome = send(f"http://{host}")
        assert outcome == Retry("connection refused or no such host", unreachable=True)


def test_a_server_that_never_answers_costs_the_timeout(sink: Sink) -> None:
    """And no more."""
    sink.answer = lambda path: Answer(after_s=30)
    began = time.monotonic()
    assert send(sink.url, timeout_s=0.3) == Retry("no answer in time", unreachable=True)
    assert 0.25 < time.monotonic() - began < 1.0


def test_a_timeout_of_nothing_means_no_limit(sink: Sink) -> None:
    """As the OpenTelemetry specification has it: OTEL_EXPORTER_OTLP_TIMEOUT=0."""
    sink.answer = lambda path: Answer(after_s=0.2)
    assert send_under(sink, OTEL_EXPORTER_OTLP_TIMEOUT="0") == Delivered()


def test_the_longest_timeout_that_a_variable_can_say_works(sink: Sink) -> None:
    """Java's Long.MAX_VALUE is a common way to say `never`."""
    assert send_under(sink, OTEL_EXPORTER_OTLP_TIMEOUT=str((1 << 63) - 1)) == Delivered()


@pytest.mark.parametrize(
    "serve",
    [
        reset,
        closed,
        once(b"HTTP/1"),
        once(b"garbage\r\n\r\n"),
        once(HTTP_200 + b"content-length: 100\r\n\r\nabc"),
        once(HTTP_200 + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"),
        once(HTTP_200 + b"transfer-encoding: chunked\r\n\r\nzz\r\n"),
        once(HTTP_200 + b"transfer-encoding: chunked\r\n\r\n5\r\nab"),
        once(HTTP_200 + b"x: y\r\n" * 200 + b"\r\n"),
        once(HTTP_200 + b"x: " + b"y" * 70_000 + b"\r\n\r\n"),
    ],
    ids=["reset", "closed", "cut", "garbage", "cut body", "no gzip", "bad chunk", "cut chunk", "headers", "long line"],
)
def test_a_broken_answer_is_a_failed_attempt(serve: Callable[[socket.socket], None]) -> None:
    """Whether it was taken is unknown: it is sent again; nothing is raised."""
    with Raw(serve) as server:
        assert isinstance(send(server.url, timeout_s=2.0), Retry)


def test_an_answer_cut_after_its_status_is_what_the_status_says() -> None:
    """The server had decided when it wrote that line."""
    with Raw(once(b"HTTP/1.1 200")) as server:
        assert send(server.url) == Delivered()
    with Raw(once(b"HTTP/1.1 503 Una")) as server:
        assert send(server.url) == Retry("HTTP 503")


def test_after_a_failure_the_same_transport_works_again(sink: Sink) -> None:
    """Over a new connection where the old one is gone."""
    answers = iter([Answer(status=503), Answer(after_s=5), Answer(), Answer()])
    sink.answer = lambda path: next(answers)
    transport = HttpTransport(a_destination(sink.url, timeout_s=0.3))
    outcomes = [type(transport.send(b"")).__name__ for _ in range(4)]
    transport.close()
    assert outcomes == ["Retry", "Retry", "Delivered", "Delivered"]


def test_connections_are_kept() -> None:
    """Ten requests, one connection; also after refusals with a body."""
    answers = [HTTP_200 + b"content-length: 0\r\n\r\n", b"HTTP/1.1 400 Bad\r\ncontent-length: 5\r\n\r\nwrong"] * 5

    def serve(connection: socket.socket) -> None:
        for answer in answers:
            if not read_request(connection):
                return
            connection.sendall(answer)

    with Raw(serve) as server:
        transport = HttpTransport(a_destination(server.url))
        outcomes = [type(transport.send(b"x")).__name__ for _ in range(10)]
        transport.close()
        assert outcomes == ["Delivered", "Refused"] * 5
        assert server.connections == 1


def test_a_compressed_answer_is_read(sink: Sink) -> None:
    """As proxies like to send them."""
    body = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="late")
    ).SerializeToString()
    sink.answer = lambda path: Answer(headers={"content-encoding": "gzip"}, body=gzip.compress(body))
    assert send(sink.url) == Delivered(2, "late")


# -- TLS


def make_certificates(folder: Path) -> Path:
    """A certification authority of our own, a server's and a client's certificate."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    # Python 3.13 verifies strictly (VERIFY_X509_STRICT): every certificate needs these extensions.
    (folder / "config").write_text(
        "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = test\n"
        "[ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n"
        "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n"
        "[end]\nbasicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n"
        "extendedKeyUsage = serverAuth, clientAuth\nsubjectAltName = IP:127.0.0.1, DNS:localhost\n"
        "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n"
    )
    request = ("req", "-config", "config", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *(*request, "-x509", "-extensions", "ca", "-subj", "/CN=test CA"),
        *("-keyout", "ca.key", "-out", "ca.pem", "-days", "2"),
    )
    for name in ("server", "client"):
        openssl(*request, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.pem", "-days", "2", "-extfile", "config", "-extensions", "end"),
        )
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `make_certificates`."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


def server_context(certificates: Path, *, ask_client: bool = False) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if ask_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "ca.pem")
    return context


OK = answering(HTTP_200 + b"content-length: 0\r\n\r\n")


def test_a_server_is_checked_against_the_configured_authority(certificates: Path) -> None:
    """With it the request is delivered; without it, it is not."""
    with Raw(OK, server_context(certificates)) as server:
        assert send(server.url, certificate=str(certificates / "ca.pem")) == Delivered()
        assert send(server.url) == Retry("TLS handshake failed", unreachable=True)
        assert send(server.url, certificate=str(certificates / "client.pem")) == Retry(
            "TLS handshake failed", unreachable=True
        )


def test_a_server_with_another_name_is_refused(certificates: Path) -> None:
    """A certificate for 127.0.0.1 does not speak for 127.0.0.2."""
    with Raw(OK, server_context(certificates)) as server:
        url = server.url.replace("127.0.0.1", "127.0.0.2")
        with contextlib.closing(socket.create_server(("127.0.0.2", 0))):
            assert isinstance(send(url, certificate=str(certificates / "ca.pem"), timeout_s=1.0), Retry)


def test_mutual_tls_presents_the_clients_certificate(certificates: Path) -> None:
    """And without one the server does not take the request."""
    with Raw(OK, server_context(certificates, ask_client=True)) as server:
        ca = str(certificates / "ca.pem")
        files: dict[str, Any] = {
            "client_certificate": str(certificates / "client.pem"),
            "client_key": str(certificates / "client.key"),
        }
        assert send(server.url, certificate=ca, **files) == Delivered()
        assert isinstance(send(server.url, certificate=ca, timeout_s=2.0), Retry)


def test_a_certificate_file_that_is_not_there_is_a_failed_attempt(tmp_path: Path, certificates: Path) -> None:
    """It may be mounted later; nothing is raised."""
    with Raw(OK, server_context(certificates)) as server:
        assert isinstance(send(server.url, certificate=str(tmp_path / "missing.pem")), Retry)


def test_plain_http_at_a_tls_port_is_a_failed_attempt(certificates: Path) -> None:
    """And the other way round."""
    with Raw(OK, server_context(certificates)) as server:
        assert isinstance(send(server.url.replace("https", "http"), timeout_s=2.0), (Retry, Refused))
    with Raw(OK) as plain:
        assert isinstance(send(plain.url.replace("http", "https"), timeout_s=2.0), Retry)


# -- proxies


@pytest.fixture
def proxy() -> Iterator[tuple[Raw, list[bytes]]]:
    """An HTTP proxy that answers by itself and remembers what it was asked for."""
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while request := read_request(connection):
            asked.append(request.split(b"\r\n")[0])
            connection.sendall(HTTP_200 + b"content-length: 0\r\n\r\n")

    with Raw(serve) as server:
        yield server, asked


def test_the_environments_proxy_is_used(proxy: tuple[Raw, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other HTTP client of the host does."""
    server, asked = proxy
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert send("http://collector.invalid:4318") == Delivered()
    assert asked == [b"POST http://collector.invalid:4318/v1/traces HTTP/1.1"]


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_hosts_that_need_no_proxy_are_reached_directly(
    proxy: tuple[Raw, list[bytes]], monkeypatch: pytest.MonkeyPatch, sink: Sink, name: str
) -> None:
    """A local collector beside a proxy for the world."""
    server, asked = proxy
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv(name, "127.0.0.1,localhost")
    assert send(sink.url) == Delivered()
    assert asked == []
    assert len(sink.requests) == 1


# -- the request itself


def test_headers_of_the_settings_win_over_the_defaults() -> None:
    """A gateway may ask for a user agent of its own."""
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(HTTP_200 + b"content-length: 0\r\n\r\n")

    with Raw(serve) as server:
        assert send(server.url, gzip.compress(b"body"), headers={"user-agent": "mine", "x-key": "v"}) == Delivered()
    head = seen[0].lower()
    assert b"user-agent: mine\r\n" in head
    assert head.count(b"user-agent:") == 1
    assert b"x-key: v\r\n" in head
    assert b"content-encoding: gzip\r\n" in head
    assert gzip.decompress(seen[0].partition(b"\r\n\r\n")[2]) == b"body"


# -- compression


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@given(body=st.binary(max_size=3000).map(lambda body: b"\x0a" + body))
def test_a_body_says_how_it_is_compressed(compression: Compression, body: bytes) -> None:
    made = compressed(body, compression)
    assert compression_of(made) == compression
    assert decompressed(made) == body


@pytest.mark.parametrize("status", [400, 415])
def test_a_next_hop_that_does_not_know_zstd_gets_gzip(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """The same request at once, and every later one; it is said once."""
    caplog.set_level(logging.WARNING, "otelkit")
    body = compressed(b"", "zstd")
    encodings: list[str] = []

    def serve(connection: socket.socket) -> None:
        head = read_request(connection).lower()
        encodings.append("zstd" if b"content-encoding: zstd" in head else "gzip" if b": gzip" in head else "none")
        line = f"HTTP/1.1 {status} No" if encodings[-1] == "zstd" else "HTTP/1.1 200 OK"
        connection.sendall(f"{line}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())

    with Raw(serve) as server:
        transport = open_transport(a_destination(server.url, compression="zstd"))
        assert transport.send(body) == Delivered()
        assert transport.send(body) == Delivered()
        transport.close()
    assert encodings == ["zstd", "gzip", "gzip"]
    assert caplog.text.count("does not take zstd") == 1


def test_a_refusal_by_a_next_hop_that_takes_zstd_is_a_refusal(sink: Sink) -> None:
    transport = open_transport(a_destination(sink.url, compression="zstd"))
    body = compressed(ExportTraceServiceResponse().SerializeToString(), "zstd")
    assert transport.send(body) == Delivered()
    asked: list[str] = []
    sink.answer = lambda path: asked.append(path) or Answer(400)  # type: ignore[func-returns-value]
    assert transport.send(body) == Refused("HTTP 400")
    transport.close()
    assert len(asked) == 1


# -- the file of headers


def test_headers_of_a_file_are_read_again_when_it_changes(sink: Sink, tmp_path: Path) -> None:
    """A renewed token takes effect with the next request; what is unreadable leaves the one before in force."""
    file = tmp_path / "headers"
    file.write_text("# of the gateway\nAuthorization=Bearer a=b,c\n\n x-tenant = t \n")
    transport = open_transport(
        a_destination(sink.url, headers={"x-tenant": "old", "x-key": "k"}, headers_file=str(file))
    )

    def sent() -> tuple[str | None, ...]:
        assert transport.send(b"") == Delivered()
        _, headers, _ = sink.requests[-1]
        return tuple(headers.get(name) for name in ("authorization", "x-tenant", "x-key"))

    assert sent() == ("Bearer a=b,c", "t", "k")
    renewed = tmp_path / "renewed"
    renewed.write_text("authorization=Bearer 2")
    renewed.replace(file)  # as a secret is mounted: another file under the name
    assert sent() == ("Bearer 2", "old", "k")
    file.unlink()
    assert sent() == ("Bearer 2", "old", "k")
    file.write_text("authorization=Bearer 3")
    assert sent() == ("Bearer 3", "old", "k")
    transport.close()


def test_a_bad_line_of_the_file_is_named_without_what_it_says(
    sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "otelkit")
    file = tmp_path / "headers"
    file.write_text("SECRET-1\nx key=SECRET-2\nx-a=SECRET\x07-3\nx-b=kept\n")
    transport = open_transport(a_destination(sink.url, headers_file=str(file)))
    assert transport.send(b"") == Delivered()
    transport.close()
    assert sink.requests[-1][1]["x-b"] == "kept"
    said = [record.getMessage() for record in caplog.records]
    assert [f"line {number} is left out" in text for number, text in enumerate(said, 1)] == [True] * 3
    assert f"OTELKIT_EXPORTER_OTLP_HEADERS_FILE={file}" in said[0]
    assert "SECRET" not in caplog.text


def test_a_file_of_headers_that_is_not_there_is_named_once(
    sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "otelkit")
    transport = open_transport(a_destination(sink.url, headers={"x-key": "k"}, headers_file=str(tmp_path / "none")))
    for _ in range(3):
        assert transport.send(b"") == Delivered()
    transport.close()
    assert sink.requests[-1][1]["x-key"] == "k"
    assert caplog.text.count("No such file") == 1


@pytest.mark.parametrize("value", ["Bücher", "€", "a\u2028b"])
def test_a_header_that_http_cannot_carry_is_refused_by_the_settings(value: str) -> None:
    """Else every request of the process would fail, for ever."""
    from urllib.parse import quote

    loaded = load({}, {"OTEL_EXPORTER_OTLP_HEADERS": f"x-key={quote(value)}"})
    headers = loaded.settings.otlp_headers
    with Sink() as receiver:
        assert send(receiver.url, headers=dict(headers)) == Delivered()


def where(signal: Any, environ: dict[str, str], **arguments: object) -> Destination:
    """Where a signal goes under these settings."""
    return destination(load(arguments, environ).settings, signal)


@pytest.mark.parametrize(
    ("environ", "signal", "url"),
    [
        ({}, "traces", "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "logs", "http://c:4318/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "logs", "http://c:4318/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp/"}, "metrics", "https://c/otlp/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp?x=1"}, "metrics", "https://c/otlp/v1/metrics?x=1"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4318"}, "traces", "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318"}, "traces", "http://[::1]:4318/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/my/path"},
            "logs",
            "http://l/my/path",
        ),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l"}, "traces", "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "traces", "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"}, "logs", "https://c:4317"),
        (
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317",
                "OTEL_EXPORTER_OTLP_INSECURE": "true",
            },
            "logs",
            "http://c:4317",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"},
            "logs",
            "http://c:4317",
        ),
    ],
)
def test_the_address_follows_the_specification(environ: dict[str, str], signal: Any, url: str) -> None:
    """https://opentelemetry.io/docs/specs/otel/protocol/exporter/"""
    assert where(signal, environ).url == url


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    """User, password, query and fragment are not for logs."""
    shown = where("traces", {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:s3cret@[::1]:99/p?key=s3cret#s3cret"})
    assert shown.shown == "https://[::1]:99/p/v1/traces"
    assert shown.hop == "https://[::1]:99"


def test_only_an_address_that_nobody_named_is_the_default() -> None:
    """The absence of a collector that nobody asked for is no news."""
    assert where("traces", {}).by_default
    assert not where("traces", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}).by_default
    assert not where("traces", {}, otlp_traces_endpoint="http://localhost:4318/v1/traces").by_default
