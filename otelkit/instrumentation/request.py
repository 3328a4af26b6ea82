"""One request or websocket connection, as telemetry sees it: from its scope to the last byte."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from otelkit.engine import door
from otelkit.engine.context import detach, variable, with_span
from otelkit.instrumentation import http
from otelkit.instrumentation.loop_timers import watch_loop_of_request
from otelkit.instrumentation.routes import MARK, Scope, template
from otelkit.instrumentation.websocket import Messages
from otelkit.runtime import guard
from otelkit.signals import correlation, exceptions, urls
from otelkit.signals.suppression import decided

if TYPE_CHECKING:
    from otelkit.instrumentation.asgi import AsgiLayer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

application_logger = logging.getLogger("http.server")

_NO_SCOPE: Scope = {}
_LONGEST_URL = 8192  # characters of a path, and of a query
_REQUEST_ID = b"x-request-id"
_REQUEST_ID_LENGTH = len(_REQUEST_ID)


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
        "_left",
        "_messages",
        "_send",
        "_start",
        "_status",
        "id",
        "layer",
        "scope",
        "span",
    )

    def __init__(self, layer: AsgiLayer, scope: Scope, send: Send) -> None:
        self.layer = layer
        self.scope = scope
        self._send = send
        self._status: int | None = None
        self._error: str | None = None
        self._last_byte_ns = 0
        self._left: bool | None = None
        self._done = False
        watch_loop_of_request()
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
        server = scope.get("server")
        if type(server) is list:  # as a key; some servers give lists
            server = tuple(server)
        self._start = start = layer.start(
            method, scope.get("scheme", "http"), scope.get("http_version", "1.1"), server, host, agent
        )
        own: dict[str, Any] = {"url.path": scope["path"][:_LONGEST_URL]}
        if client := scope.get("client"):
            own["client.address"] = own["network.peer.address"] = client[0]
            own["client.port"] = client[1]
        if query := scope.get("query_string"):
            own["url.query"] = urls.safe_query(query[:_LONGEST_URL].decode("latin-1"))
        if method == "_OTHER":
            own["http.request.method_original"] = original[:64]
        if layer.capture_request_headers:
            own |= http.captured_headers(
                "request", scope["headers"], layer.capture_request_headers, layer.sanitize_headers
            )
        self._holder_token, holder = correlation.open_holder({correlation.REQUEST_ID: self.id})
        # uvicorn starts a pipelined request's task within the last `send` of the one before: that is not its parent.
        context = Context() if correlation.follows_another(self._holder_token) else None
        links: tuple[Link, ...] = ()
        if carried:
            context, links = layer.admission.context(scope, context)
        self._holder = holder
        bound = layer.admission.bound(scope, context) if layer.decides else None
        if bound is None:
            self.span: Span = layer.tracer.begin(start.name, SpanKind.SERVER, start.shared, own, context, links)
        else:
            token = decided.set(bound)
            try:
                self.span = layer.tracer.begin(start.name, SpanKind.SERVER, start.shared, own, context, links)
            finally:
                decided.reset(token)
        holder.entry_span = self.span
        self._context_token = variable.set(with_span(self.span, context))
        self._active = start.active if kind == "http" else None
        if self._active is not None:
            self._active.add(1, self.span)
        self._begin_ns = perf_counter_ns()
        scope[MARK] = self
        if layer.log_request_started:
            application_logger.debug("request started: %s %s", method, scope["path"])

    def connect(self, receive: Receive) -> Receive:
        """For a websocket: counts the messages that pass from here on."""
        self._messages = messages = Messages(self, receive, self._send)
        self._send = messages.send
        return messages.receive

    def send(self, message: Message) -> Awaitable[None]:
        """Passes a message on to the server, with the request's id in its head; the last one ends the request."""
        kind = message["type"]
        if kind == "http.response.body":
            return self._send(message) if message.get("more_body", False) else self._send_last(message)
        if kind == "http.response.start" or kind == "websocket.accept" or kind == "websocket.http.response.start":
            try:
                self._head(message)
            except Exception:  # noqa: BLE001 - a request is answered whatever telemetry does
                guard.report("the head of a response")
        elif kind == "websocket.close" and self._status is None:
            self._status = 403  # closed before it was accepted: what the client sees
        elif kind == "http.response.pathsend":
            return self._send_last(message)
        return self._send(message)

    async def _send_last(self, message: Message) -> None:
        await self._send(message)
        self._last_byte_ns = perf_counter_ns()
        # Starlette answers an unhandled error with a whole 500 and raises it then: its exception is still to come.
        if self._status is None or self._status < 500:
            self.finish()

    def _head(self, message: Message) -> None:
        self._status = message.get("status", 101)
        layer = self.layer
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

    def context(self) -> contextvars.Context:
        """One with the request's own span and what is bound, for who tells of the request from another thread."""
        found = contextvars.Context()
        found.run(variable.set, with_span(self.span))
        found.run(correlation.share, self._holder)
        return found

    def fail(self, error: BaseException) -> None:
        """Marks the request as failed by an exception that nobody handled; neither a cancelled one is an error nor one
        whose client has left.
        """
        self._left = exceptions.client_left(error)
        if self._left:
            if self._status == 500:  # Starlette's answer to the exception, which nobody has seen
                self._status = None
            return
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
        span, status, error = self.span, self._status, self._error
        end_ns = self._last_byte_ns
        if not end_ns:
            end_ns = perf_counter_ns()
            if self._left is None and status is not None:
                self._left = self._active is not None  # the application has returned in the middle of its answer
        elapsed_ns = end_ns - self._begin_ns
        if error is None and status is not None and status >= 500:
            error = str(status)
        start = self._start
        outcome = start.outcome(template(self.scope), status, error)
        if span.is_recording():
            door.extend(span, start.shared, outcome.shared)
            span.update_name(outcome.name)
            if error is not None and self._error is None:
                span.set_status(StatusCode.ERROR)
            if self._left:
                span.set_attribute("otelkit.client.disconnected", True)
        if self._active is not None:
            self._active.add(-1, span)
            outcome.duration.record(elapsed_ns / 1e9, span)
        elif span.is_recording():
            span.set_attributes(self._messages.attributes())
        door.end_at(span, end_ns)
        if self.layer.log_request_completed:
            self._log_completed(outcome.shared.get("http.route"), elapsed_ns / 1e9)

    def _log_completed(self, route: Any, elapsed_s: float) -> None:
        status = self._status or 0
        level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
        client = self.scope.get("client")
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
        """Ends the request if its last byte did not; leaves its context, and the scope that refers to it."""
        if not self._done:
            self.finish()
        self.scope = _NO_SCOPE
        detach(self._context_token)
        correlation.close_holder(self._holder_token)
