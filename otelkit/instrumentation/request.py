"""One request or websocket connection, as telemetry sees it: from its scope to the last byte."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, StatusCode

from otelkit.engine import door
from otelkit.engine.context import detach, variable, with_span
from otelkit.engine.seams import propagate
from otelkit.instrumentation import http, runtime
from otelkit.runtime import guard
from otelkit.signals import correlation, exceptions

if TYPE_CHECKING:
    from otelkit.instrumentation.asgi import AsgiLayer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

application_logger = logging.getLogger("http.server")

_LONGEST_URL = 8192  # characters of a path, and of a query
_REQUEST_ID = b"x-request-id"
_REQUEST_ID_LENGTH = len(_REQUEST_ID)


class _Headers(Getter[Mapping[str, str]]):
    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(key)
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


_getter = _Headers()


class Request:
    """One request or websocket connection, from its scope to the last byte."""

    __slots__ = (
        "_active",
        "_begin_ns",
        "_context_token",
        "_done",
        "_error",
        "_holder",
        "_holder_token",
        "_last_byte_ns",
        "_layer",
        "_scope",
        "_send",
        "_start",
        "_status",
        "id",
        "span",
    )

    def __init__(self, layer: AsgiLayer, scope: Scope, send: Send) -> None:
        self._layer = layer
        self._scope = scope
        self._send = send
        self._status: int | None = None
        self._error: str | None = None
        self._last_byte_ns = 0
        self._done = False
        runtime.watch_running_loop()
        host = agent = b""
        identity = None
        carried = False
        carriers = layer.carriers
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"user-agent":
                agent = value
            elif name == _REQUEST_ID:
                identity = value.decode("latin-1")
            elif name in carriers:
                carried = True
        kind = scope["type"]
        original = scope["method"] if kind == "http" else "GET"
        method = http.known_method(original)
        self.id = http.request_id(identity)
        self._start = start = layer.start(
            method,
            scope.get("scheme", "http"),
            scope.get("http_version", "1.1"),
            _pair(scope.get("server")),
            host,
            agent,
        )
        own: dict[str, Any] = {"url.path": scope["path"][:_LONGEST_URL]}
        if client := scope.get("client"):
            own["client.address"] = own["network.peer.address"] = client[0]
            own["client.port"] = client[1]
        if query := scope.get("query_string"):
            own["url.query"] = http.safe_query(query[:_LONGEST_URL].decode("latin-1"))
        if method == "_OTHER":
            own["http.request.method_original"] = original[:64]
        if layer.capture_request_headers:
            own |= http.captured_headers(
                "request", scope["headers"], layer.capture_request_headers, layer.sanitize_headers
            )
        self._holder_token, holder = correlation.open_holder({correlation.REQUEST_ID: self.id})
        # uvicorn starts a pipelined request's task within the last `send` of the one before: that is not its parent.
        context = Context() if correlation.follows_another(self._holder_token) else None
        if carried:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            context = propagate.extract(headers, context, getter=_getter)
        self._holder = holder
        self.span: Span = layer.tracer.begin(start.name, SpanKind.SERVER, start.shared, own, context)
        holder.entry_span = self.span
        self._context_token = variable.set(with_span(self.span, context))
        self._active = start.active if kind == "http" else None
        if self._active is not None:
            self._active.add(1, self.span)
        self._begin_ns = perf_counter_ns()
        if layer.log_request_started:
            application_logger.debug("request started: %s %s", method, scope["path"])

    def send(self, message: Message) -> Awaitable[None]:
        """Passes a message on to the server, with the request's id in its head; the last one ends the request."""
        kind = message["type"]
        if kind == "http.response.body":
            return self._send(message) if message.get("more_body", False) else self._send_last(message)
        if kind == "http.response.start" or kind == "websocket.accept":
            try:
                self._head(message)
            except Exception:  # noqa: BLE001 - a request is answered whatever telemetry does
                guard.report("the head of a response")
        elif kind == "websocket.close" and self._status is None:
            self._status = 403  # closed before it was accepted: what the client sees
        return self._send(message)

    async def _send_last(self, message: Message) -> None:
        await self._send(message)
        self._last_byte_ns = perf_counter_ns()
        # Starlette answers an unhandled error with a whole 500 and raises it then: its exception is still to come.
        if self._status is None or self._status < 500:
            self.finish()

    def _head(self, message: Message) -> None:
        self._status = message.get("status", 101)
        layer = self._layer
        headers = list(message.get("headers", ()))
        if layer.capture_response_headers:
            self.span.set_attributes(
                http.captured_headers("response", headers, layer.capture_response_headers, layer.sanitize_headers)
            )
        for name, _ in headers:
            if len(name) == _REQUEST_ID_LENGTH and name.lower() == _REQUEST_ID:
                break
        else:
            headers.append((_REQUEST_ID, self.id.encode("latin-1")))
        if layer.server_timing:
            traceparent = door.traceparent(self.span)
            if traceparent is not None:
                headers.append((b"server-timing", b'traceparent;desc="%b"' % traceparent))
        message["headers"] = headers

    def fail(self, error: BaseException) -> None:
        """Marks the request as failed by an exception that nobody handled; a cancelled one is no error."""
        if self._status is None and isinstance(error, Exception):
            self._status = 500
        if isinstance(error, Exception):
            self._error = exceptions.type_name(error)
            with guard.guarded("the record of an exception"):
                exceptions.record(self.span, error)

    def finish(self) -> None:
        """Ends the span and records the metrics; a second call does nothing."""
        if self._done:
            return
        self._done = self._holder.over = True
        try:
            self._finish()
        except Exception:  # noqa: BLE001 - a request is answered whatever telemetry does
            guard.report("the end of a request's telemetry")

    def _finish(self) -> None:
        end_ns = self._last_byte_ns or perf_counter_ns()
        elapsed_ns = end_ns - self._begin_ns
        span, status, error = self.span, self._status, self._error
        if error is None and status is not None and status >= 500:
            error = str(status)
        start = self._start
        outcome = start.outcome(template(self._scope), status, error)
        if span.is_recording():
            door.extend(span, start.shared, outcome.shared)
            span.update_name(outcome.name)
            if error is not None and self._error is None:
                span.set_status(StatusCode.ERROR)
        if self._active is not None:
            self._active.add(-1, span)
            outcome.duration.record(elapsed_ns / 1e9, span)
        door.end_at(span, end_ns)
        if self._layer.log_request_completed:
            self._log_completed(outcome.shared.get("http.route"), elapsed_ns / 1e9)

    def _log_completed(self, route: Any, elapsed_s: float) -> None:
        status = self._status or 0
        level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
        client = self._scope.get("client")
        method = self._start.method
        application_logger.log(
            level,
            "request completed: %s %s %s %.1f ms",
            method,
            route,
            status,
            elapsed_s * 1000,
            extra={
                "http.request.method": method,
                "http.route": route or "",
                "http.response.status_code": status,
                "duration": elapsed_s,
                "client.address": client[0] if client else "",
            },
        )

    def close(self) -> None:
        """Leaves the request's context."""
        detach(self._context_token)
        correlation.close_holder(self._holder_token)


def _pair(found: Any) -> Any:
    """An address as a key: servers give tuples or lists."""
    return tuple(found) if isinstance(found, list) else found


def template(scope: Scope) -> str | None:
    """The route's template with the prefixes of mounts and routers; None where no route matched.

    `scope["route"]` knows neither an including router's prefix (fastapi keeps that in its own context) nor a mount's,
    which is what the application's root path has gained.
    """
    own = scope.get("fastapi")
    context = own.get("effective_route_context") if own is not None and isinstance(own, Mapping) else None
    path = getattr(context, "path_format", None)
    if not path:
        route = scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(path, str):
        return None
    outer = scope.get("app_root_path")
    return str(scope.get("root_path", ""))[len(outer) :] + path if isinstance(outer, str) else path
