"""OTLP over gRPC (https://opentelemetry.io/docs/specs/otlp/#otlpgrpc), where grpcio is installed: `otelkit[grpc]`."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from otelkit.delivery.wire import sized, varint
from otelkit.viewer.inflate import TooLarge
from otelkit.viewer.receive import MOST_BODY_BYTES, RETRY_AFTER_S, Behind, Receiver, Signal
from otelkit.viewer.values import Malformed

_SERVICES: dict[str, Signal] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
}
_RETRY_INFO = "grpc-status-details-bin"
_PORTS_TRIED = 20


def start(receiver: Receiver, host: str, port: int, token: str | None) -> tuple[Any, int] | None:
    """A running server on a port or the next free one, and which it is; None where none of twenty is free."""
    options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MOST_BODY_BYTES))
    server = grpc.server(ThreadPoolExecutor(4, "otelkit-viewer-grpc"), options=options)
    for service, signal in _SERVICES.items():
        export = grpc.unary_unary_rpc_method_handler(_exporting(receiver, signal, token))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": export}),))
    named = f"[{host}]" if ":" in host else host
    for candidate in range(port, port + _PORTS_TRIED) if port else (0,):
        try:
            got = server.add_insecure_port(f"{named}:{candidate}")
        except RuntimeError:
            continue
        if got:
            server.start()
            return server, got
    return None


def _exporting(receiver: Receiver, signal: Signal, token: str | None) -> Callable[[bytes, Any], bytes]:
    def export(body: bytes, context: Any) -> bytes:
        if token is not None:
            said = str(dict(context.invocation_metadata()).get("authorization", ""))
            if not hmac.compare_digest(said.encode(), f"Bearer {token}".encode()):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server wants its token")
        try:
            receiver.admit(len(body))
        except Behind:
            context.set_trailing_metadata(((_RETRY_INFO, _retry_info()),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the viewer writes as fast as it can: send it again")
        try:
            batch = receiver.take_in_thread(signal, body, len(body))
        except (Malformed, TooLarge, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"this is no OTLP request: {error}")
        rejected = sum(batch.rejected.values())
        reason = ", ".join(f"{count} times {reason}" for reason, count in batch.rejected.items())
        return sized(b"\x0a", b"\x08" + varint(rejected) + sized(b"\x12", reason.encode())) if rejected else b""

    return export


def _retry_info() -> bytes:
    """google.rpc.Status with a RetryInfo: when to come again."""
    info = sized(b"\x0a", b"\x08" + varint(RETRY_AFTER_S))
    kind = b"type.googleapis.com/google.rpc.RetryInfo"
    detail = sized(b"\x0a", kind) + sized(b"\x12", info)
    return b"\x08" + varint(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]) + sized(b"\x1a", detail)
