"""OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp): status codes, content types, partial success."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from otelkit.delivery.wire import sized, varint
from otelkit.viewer.envelope import Batch
from otelkit.viewer.inflate import TooLarge, UnknownEncoding
from otelkit.viewer.receive import MOST_BODY_BYTES, RETRY_AFTER_S, Behind, Receiver, Signal
from otelkit.viewer.transcode import to_protobuf
from otelkit.viewer.values import Malformed

PROTOBUF, JSON = "application/x-protobuf", "application/json"
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
_REJECTED_FIELDS = {"traces": "rejectedSpans", "metrics": "rejectedDataPoints", "logs": "rejectedLogRecords"}
_BODY_TIMEOUT_S = 30.0
_MOST_READ_BYTES = 64 << 20
_INFLATES = 8  # how much larger than its body a compressed request is taken to be until it is known
_UNKNOWN_BYTES = 1 << 20  # reserved for a body that does not say its size


async def export(request: Request) -> Response:
    """POST /v1/traces, /v1/metrics, /v1/logs."""
    receiver: Receiver = request.app.state.receiver
    signal = cast(Signal, request.path_params["signal"])
    if signal not in SIGNALS:
        return Response("", 404)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (PROTOBUF, JSON):
        return _refused(receiver, JSON, 415, f"the content type is {PROTOBUF} or {JSON}", "content_type")
    length = request.headers.get("content-length", "")
    encoding = request.headers.get("content-encoding", "")
    size = min(int(length), MOST_BODY_BYTES) if length.isdigit() and len(length) < 20 else _UNKNOWN_BYTES
    size *= _INFLATES if encoding else 1
    try:
        receiver.admit(size)
    except Behind:
        with suppress(TooLarge, ClientDisconnect, asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(_body(request, keep=False), _BODY_TIMEOUT_S)
        answer = _answer(kind, 429, "the viewer writes as fast as it can: send it again")
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
        return answer
    try:
        body = await asyncio.wait_for(_body(request), _BODY_TIMEOUT_S)
    except (TooLarge, ClientDisconnect, asyncio.TimeoutError, TimeoutError) as error:
        receiver.release(size)
        return _not_come(receiver, kind, error)
    except BaseException:
        receiver.release(size)
        raise
    convert = to_protobuf if kind == JSON else None
    try:
        batch = await receiver.take(signal, body, size, encoding=encoding, convert=convert)
    except TooLarge as error:
        return _answer(kind, 413, str(error))
    except UnknownEncoding as error:
        return _answer(kind, 415, str(error))
    except (Malformed, ValueError) as error:
        return _answer(kind, 400, f"this is no OTLP request: {error}")
    return _taken(kind, signal, batch)


async def _body(request: Request, *, keep: bool = True) -> bytes:
    """The body, or nothing of it; raises TooLarge.

    It is read to its end even where it is not kept: a client that is cut off while it sends sees no answer.
    """
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_READ_BYTES:
            break
        if keep and size <= MOST_BODY_BYTES:
            parts.append(part)
    if size > MOST_BODY_BYTES:
        raise TooLarge(f"the body is larger than {MOST_BODY_BYTES} bytes")
    return b"".join(parts)


def _not_come(receiver: Receiver, kind: str, error: Exception) -> Response:
    """The answer to a body that could not be read."""
    if isinstance(error, TooLarge):
        return _refused(receiver, kind, 413, str(error), "too_large")
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return _refused(receiver, kind, 408, f"the body did not come within {_BODY_TIMEOUT_S:g} s", "slow")
    return _refused(receiver, kind, 400, "the client has gone", "disconnected")


def _taken(kind: str, signal: Signal, batch: Batch) -> Response:
    rejected = sum(batch.rejected.values())
    reason = ", ".join(f"{count} times {reason}" for reason, count in batch.rejected.items())
    if kind == JSON:
        partial = {"partialSuccess": {_REJECTED_FIELDS[signal]: str(rejected), "errorMessage": reason}}
        return Response(json.dumps(partial if rejected else {}), media_type=JSON)
    content = sized(b"\x0a", b"\x08" + varint(rejected) + sized(b"\x12", reason.encode())) if rejected else b""
    return Response(content, media_type=PROTOBUF)


def _refused(receiver: Receiver, kind: str, status: int, message: str, reason: str) -> Response:
    receiver.refuse(reason)
    return _answer(kind, status, message)


def _answer(kind: str, status: int, message: str) -> Response:
    """An error as google.rpc.Status in the request's own format."""
    if kind == PROTOBUF:
        return Response(sized(b"\x12", message.encode()), status_code=status, media_type=PROTOBUF)
    return Response(json.dumps({"message": message}), status_code=status, media_type=JSON)
