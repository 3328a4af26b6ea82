"""Sends OTLP over gRPC (https://opentelemetry.io/docs/specs/otlp/#otlpgrpc); needs the extra `otelkit[grpc]`."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from otelkit.delivery.destination import Destination
from otelkit.delivery.headers import Headers
from otelkit.delivery.transport import Delivered, Outcome, Refused, Retry, partial_success
from otelkit.delivery.wire import read_fields

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_RETRYABLE = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
_ANYTHING = frozenset(
    (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
)
_TOO_LARGE = "larger than max"  # how grpc-go, grpc-core and grpc-java word it; the status is that of a full server too
_RETRY_INFO = "grpc-status-details-bin"


class GrpcTransport:
    """One channel, made by the sender thread of the process that uses it: a channel must not cross a fork."""

    def __init__(self, destination: Destination) -> None:
        parts = urlsplit(destination.url)
        compressed = destination.compression != "none"
        compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
        if parts.scheme == "https":
            credentials = grpc.ssl_channel_credentials(
                _read(destination.certificate),
                _read(destination.client_key),
                _read(destination.client_certificate),
            )
            self._channel = grpc.secure_channel(parts.netloc, credentials, compression=compression)
        else:
            self._channel = grpc.insecure_channel(parts.netloc, compression=compression)
        self._timeout_s = destination.timeout_s
        self._headers = Headers(destination.headers, destination.headers_file)
        self._export = self._channel.unary_unary(
            _METHODS[destination.signal], request_serializer=bytes, response_deserializer=bytes
        )

    def send(self, body: bytes, longest_s: float | None = None) -> Outcome:
        try:
            answer: bytes = self._export(
                body, timeout=min(self._timeout_s, longest_s or math.inf), metadata=self._metadata()
            )
        except grpc.RpcError as error:
            code = error.code()
            cause = f"gRPC {code.name}"
            delay_s = _retry_delay_s(error)
            if code in _RETRYABLE:
                return Retry(cause, delay_s, unreachable=code is grpc.StatusCode.UNAVAILABLE)
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED and delay_s is not None:
                return Retry(cause, delay_s)
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                return Refused(cause, too_large=_TOO_LARGE in (error.details() or ""))
            return Refused(cause, anything=code in _ANYTHING)
        except ValueError:
            # How grpcio 1.78 and older say that they cannot carry a header; the message has its value.
            return Refused("gRPC INTERNAL", anything=True)
        outcome: Delivered = partial_success(answer)
        return outcome

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        headers = self._headers.current().items()
        return tuple((name, value.encode() if name.endswith("-bin") else value) for name, value in headers)

    def hurry(self) -> None:
        """A call's deadline is gRPC's own."""

    def close(self) -> None:
        self._channel.close()


def _retry_delay_s(error: grpc.RpcError) -> float | None:
    """RetryInfo's delay: google.rpc.Status{3: Any{1: type, 2: RetryInfo{1: Duration{1: seconds, 2: nanos}}}}."""
    for key, value in error.trailing_metadata() or ():
        if key != _RETRY_INFO:
            continue
        try:
            for number, detail in read_fields(value):
                fields = dict(read_fields(detail)) if number == 3 and isinstance(detail, bytes) else {}
                if bytes(fields.get(1, b"")).endswith(b"google.rpc.RetryInfo"):
                    duration = dict(read_fields(dict(read_fields(fields[2]))[1]))  # type: ignore[arg-type]
                    return float(duration.get(1, 0)) + float(duration.get(2, 0)) / 1e9
        except (ValueError, KeyError, TypeError):
            return None
    return None


def _read(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
