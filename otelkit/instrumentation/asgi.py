"""The ASGI layer under FastAPI and Starlette: one server span a request, its metrics, its id, and what is bound to it.

It wraps the application class's `__call__`, so it sees apps made earlier, and unhandled errors as the client does: a
middleware would sit inside ServerErrorMiddleware. The request ends with the last body chunk; background tasks keep it
as their parent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.metrics import get_meter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, StatusCode, get_tracer, set_span_in_context

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.engine.current import detach
from otelkit.engine.seams import propagate
from otelkit.instrumentation import http, instruments, runtime
from otelkit.runtime import guard, lifecycle
from otelkit.signals import correlation, exceptions
from otelkit.signals.suppression import silence

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MARK = "otelkit.request"
_NATIVE_MARK = "fastapi.telemetry"  # FastAPI's own telemetry stays silent where this key is in the scope
_CACHED_LABELS = 1024

application_logger = logging.getLogger("http.server")


class _Headers(Getter[Mapping[str, str]]):
    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(key)
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


_getter = _Headers()


class AsgiLayer:
    """Records requests as the settings say; one for each instrumented class."""

    def __init__(self, settings: Settings) -> None:
        meter = get_meter("otelkit.asgi")
        self.tracer = get_tracer("otelkit.asgi")
        self.duration = instruments.histogram(meter, semconv.HTTP_SERVER_REQUEST_DURATION)
        self.active = instruments.up_down_counter(meter, semconv.HTTP_SERVER_ACTIVE_REQUESTS)
        self.settings = settings
        self._excluded = settings.excluded_urls + settings.fastapi_excluded_urls
        self._labels: dict[tuple[object, ...], dict[str, str | int]] = {}

    async def __call__(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application for one request; what is no request, or is recorded already, passes through."""
        kind = scope["type"]
        if kind == "lifespan" and MARK not in scope:
            scope[MARK] = True
            await app(scope, receive, _at_the_end(send))
            return
        if kind not in ("http", "websocket") or MARK in scope:
            await app(scope, receive, send)
            return
        scope[MARK] = True
        scope[_NATIVE_MARK] = None
        if self._excluded and self._is_excluded(scope):
            with silence():
                await app(scope, receive, send)
            return
        try:
            request = Request(self, scope, send)
        except Exception:  # noqa: BLE001 - a request is answered whatever telemetry does
            guard.report("the start of a request's telemetry")
            await app(scope, receive, send)
            return
        try:
            await app(scope, receive, request.send)
        except BaseException as error:
            request.fail(error)
            raise
        finally:
            request.finish()
            request.close()

    def _is_excluded(self, scope: Scope) -> bool:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        url = f"{scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}{scope['path']}"
        return any(pattern.search(url) for pattern in self._excluded)

    def labels(self, *key: str | int | None) -> dict[str, str | int]:
        """The labels of the duration metric, cached: method, route, status, scheme, version, error type."""
        found = self._labels.get(key)
        if found is None:
            if len(self._labels) >= _CACHED_LABELS:
                self._labels.clear()
            names = semconv.HTTP_SERVER_REQUEST_DURATION.labels
            found = {name: value for name, value in zip(names, key, strict=True) if value is not None}
            self._labels[key] = found
        return found


def _at_the_end(send: Send) -> Send:
    """Sends telemetry before the server learns that the application has shut down."""

    async def wrapper(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown"):
            lifecycle.before_the_signal_returns()
        await send(message)

    return wrapper


class Request:
    """One request or websocket connection, from its scope to the last byte."""

    __slots__ = (
        "_active_labels",
        "_context_token",
        "_done",
        "_error",
        "_holder_token",
        "_last_byte",
        "_layer",
        "_method",
        "_scope",
        "_send",
        "_started",
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
        self._last_byte: tuple[float, int] | None = None
        self._done = False
        runtime.watch_running_loop()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        websocket = scope["type"] == "websocket"
        original = "GET" if websocket else scope["method"]
        self._method = http.known_method(original)
        self.id = http.request_id(headers.get("x-request-id"))
        self._active_labels = {"http.request.method": self._method, "url.scheme": scope.get("scheme", "http")}
        parent = propagate.extract(headers, getter=_getter)
        attributes = self._attributes(scope, headers, original)
        values = {correlation.REQUEST_ID: self.id}
        self._holder_token = correlation.open_holder(values)
        self.span: Span = layer.tracer.start_span(
            self._method if self._method != "_OTHER" else "HTTP",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        correlation.holder().entry_span = self.span
        self._context_token = context_api.attach(set_span_in_context(self.span, parent))
        if not websocket:
            layer.active.add(1, self._active_labels)
        self._started = time.perf_counter()
        if layer.settings.log_request_started:
            application_logger.debug("request started: %s %s", self._method, scope["path"])

    def _attributes(self, scope: Scope, headers: Mapping[str, str], original: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "http.request.method": self._method,
            "url.scheme": scope.get("scheme", "http"),
            "url.path": scope["path"],
            "network.protocol.version": scope.get("http_version", "1.1"),
        }
        if self._method == "_OTHER":
            attributes["http.request.method_original"] = original[:64]
        if query := scope.get("query_string"):
            attributes["url.query"] = http.safe_query(query.decode("latin-1"))
        if server := scope.get("server"):
            attributes["server.address"] = server[0]
            if server[1] is not None:
                attributes["server.port"] = server[1]
        if host := headers.get("host"):
            address, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
            attributes["server.address"] = address or host
            if port.isdigit() and address:
                attributes["server.port"] = int(port)
        if client := scope.get("client"):
            attributes["client.address"] = attributes["network.peer.address"] = client[0]
            attributes["client.port"] = client[1]
        if agent := headers.get("user-agent"):
            attributes["user_agent.original"] = agent
        settings = self._layer.settings
        if settings.capture_request_headers:
            attributes |= http.captured_headers(
                "request", scope["headers"], settings.capture_request_headers, settings.sanitize_headers
            )
        return attributes

    async def send(self, message: Message) -> None:
        """Passes a message on to the server, with the request's id in its head; the last one ends the request."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.accept"):
            with guard.guarded("the head of a response"):
                self._head(message)
        elif kind == "websocket.close" and self._status is None:
            self._status = 403  # closed before it was accepted: what the client sees
        await self._send(message)
        if kind == "http.response.body" and not message.get("more_body", False):
            self._last_byte = (time.perf_counter(), time.time_ns())
            # Starlette answers an unhandled error with a whole 500 and raises it then: its exception is still to come.
            if self._status is None or self._status < 500:
                self.finish()

    def _head(self, message: Message) -> None:
        self._status = message.get("status", 101)
        settings = self._layer.settings
        headers = list(message.get("headers", ()))
        if settings.capture_response_headers:
            self.span.set_attributes(
                http.captured_headers("response", headers, settings.capture_response_headers, settings.sanitize_headers)
            )
        if not any(name.lower() == b"x-request-id" for name, _ in headers):
            headers.append((b"x-request-id", self.id.encode("latin-1")))
        context = self.span.get_span_context()
        if settings.server_timing and context.is_valid:
            flags = int(context.trace_flags)
            value = f'traceparent;desc="00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"'
            headers.append((b"server-timing", value.encode("latin-1")))
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
        self._done = True
        with guard.guarded("the end of a request's telemetry"):
            ended, ended_ns = self._last_byte or (time.perf_counter(), time.time_ns())
            elapsed = ended - self._started
            scope, span, status = self._scope, self.span, self._status
            route = template(scope)
            error = self._error
            if error is None and status is not None and status >= 500:
                error = str(status)
            if span.is_recording():
                if route is not None:
                    span.set_attribute("http.route", route)
                    span.update_name(f"{self._method if self._method != '_OTHER' else 'HTTP'} {route}")
                if status is not None:
                    span.set_attribute("http.response.status_code", status)
                if error is not None:
                    span.set_attribute("error.type", error)
                    if self._error is None:
                        span.set_status(StatusCode.ERROR)
            if scope["type"] == "http":
                layer = self._layer
                layer.active.add(-1, self._active_labels)
                version = scope.get("http_version", "1.1")
                scheme = scope.get("scheme", "http")
                context = set_span_in_context(span)
                labels = layer.labels(self._method, route, status, scheme, version, error)
                layer.duration.record(elapsed, labels, context)
            span.end(ended_ns)
            if self._layer.settings.log_request_completed:
                self._log_completed(route, elapsed)

    def _log_completed(self, route: str | None, elapsed_s: float) -> None:
        status = self._status or 0
        level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
        client = self._scope.get("client")
        application_logger.log(
            level,
            "request completed: %s %s %s %.1f ms",
            self._method,
            route,
            status,
            elapsed_s * 1000,
            extra={
                "http.request.method": self._method,
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


def template(scope: Scope) -> str | None:
    """The route's template with the prefixes of mounts and routers; None where no route matched.

    `scope["route"]` knows neither an including router's prefix (fastapi keeps that in its own context) nor a mount's,
    which is what the application's root path has gained.
    """
    own = scope.get("fastapi")
    context = own.get("effective_route_context") if isinstance(own, Mapping) else None
    route = scope.get("route")
    path = getattr(context, "path_format", None) or getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(path, str):
        return None
    outer = scope.get("app_root_path")
    mounted = str(scope.get("root_path", ""))[len(outer) :] if isinstance(outer, str) else ""
    return mounted + path


Layer = Callable[[Application, Scope, Receive, Send], Awaitable[None]]


def wrap_application_class(cls: type[Any], layer: Layer, *, skip: Iterable[str] = ()) -> Callable[[], None]:
    """Puts the layer around a class's `__call__`; subclasses from the packages in `skip` are left alone. Returns the
    undo.
    """
    original: Callable[..., Awaitable[None]] = cls.__call__
    skipped: dict[type[Any], bool] = {}
    packages = tuple(skip)

    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        kind = type(self)
        left_alone = skipped.get(kind)
        if left_alone is None:
            left_alone = any(base.__module__.partition(".")[0] in packages for base in kind.__mro__)
            skipped[kind] = left_alone
        if left_alone:
            await original(self, scope, receive, send)
            return
        await layer(lambda s, r, w: original(self, s, r, w), scope, receive, send)

    cls.__call__ = call

    def undo() -> None:
        if cls.__call__ is call:
            cls.__call__ = original

    return undo


def silence_native(cls: type[Any]) -> Callable[[], None]:
    """Switches FastAPI's own telemetry off, which speaks up as soon as global providers are set; returns the undo."""

    async def pass_on(app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_NATIVE_MARK] = None
        await app(scope, receive, send)

    return wrap_application_class(cls, pass_on)
