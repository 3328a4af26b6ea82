"""The ASGI layer under FastAPI and Starlette: one server span a request, its metrics, its id, and what is bound to it.

It wraps the application class's `__call__`, so it sees apps made earlier, and unhandled errors as the client does: a
middleware would sit inside ServerErrorMiddleware. The request ends with the last body chunk; background tasks keep it
as their parent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from opentelemetry.metrics import get_meter
from opentelemetry.propagators.textmap import TextMapPropagator

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.seams import propagate
from otelkit.instrumentation import http, instruments
from otelkit.instrumentation.admission import Admission
from otelkit.instrumentation.request import Message, Receive, Request, Send
from otelkit.instrumentation.routes import MARK, Scope
from otelkit.runtime import guard, lifecycle
from otelkit.signals.suppression import silence

_NATIVE_MARK = "fastapi.telemetry"  # FastAPI's own telemetry stays silent where this key is in the scope
_CACHED = 1024  # of each cache of a layer

Call = Callable[[Any, Scope, Receive, Send], Awaitable[None]]
"""An application class's `__call__`, not bound."""
K = TypeVar("K")
V = TypeVar("V")


class AsgiLayer:
    """Records requests as the settings say; one for each instrumented class.

    What many requests have in common is made once and kept, within bounds: the attributes of a server, a route and
    an outcome, and the series that a request counts in.
    """

    def __init__(self, settings: Settings) -> None:
        meter = get_meter("otelkit.asgi")
        self.tracer = door.tracer("otelkit.asgi")
        self._duration = instruments.histogram(meter, semconv.HTTP_SERVER_REQUEST_DURATION)
        self._active = instruments.up_down_counter(meter, semconv.HTTP_SERVER_ACTIVE_REQUESTS)
        # Plain attributes: a setting is looked up by its variable each time.
        self.capture_request_headers = settings.capture_request_headers
        self.capture_response_headers = settings.capture_response_headers
        self.sanitize_headers = settings.sanitize_headers
        self.server_timing = settings.server_timing
        self.log_request_started = settings.log_request_started
        self.log_request_completed = settings.log_request_completed
        self.admission = Admission(settings)
        self.decides = self.admission.decides
        self._excluded = settings.excluded_urls + settings.fastapi_excluded_urls
        self._messages = instruments.counter(meter, semconv.WEBSOCKET_SERVER_MESSAGES)
        self._durations: dict[tuple[object, ...], door.Records] = {}
        self._directions: dict[tuple[str | None, str], door.Adds] = {}
        self._actives: dict[tuple[str, str], door.Adds] = {}
        self._starts: dict[tuple[object, ...], Start] = {}
        self._textmap: TextMapPropagator | None = None
        self._carriers: frozenset[bytes] = frozenset()

    def around(self, call: Call) -> Call:
        """A class's `__call__` that records each request; what is no request, or is recorded already, passes through.

        One coroutine and no more, since each costs a request again at every step of its way.
        """

        async def recorded(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
            kind = scope["type"]
            if MARK in scope or (kind != "http" and kind != "websocket"):
                if kind == "lifespan" and MARK not in scope:
                    scope[MARK] = True
                    send = _at_the_end(send)
                await call(app, scope, receive, send)
                return
            scope[MARK] = True
            scope[_NATIVE_MARK] = None
            if self._excluded and self._is_excluded(scope):
                with silence():
                    await call(app, scope, receive, send)
                return
            try:
                request = Request(self, scope, send)
            except Exception:  # noqa: BLE001 - a request is answered whatever telemetry does
                guard.report("the start of a request's telemetry")
                await call(app, scope, receive, send)
                return
            if kind == "websocket":
                receive = request.connect(receive)
            try:
                await call(app, scope, receive, request.send)
            except BaseException as error:
                request.fail(error)
                raise
            finally:
                request.close()

        return recorded

    def _is_excluded(self, scope: Scope) -> bool:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        url = f"{scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}{scope['path']}"
        return any(pattern.search(url) for pattern in self._excluded)

    @property
    def carriers(self) -> frozenset[bytes]:
        """The names of the headers that may carry a context; without any of them nothing need be extracted."""
        textmap = propagate.get_global_textmap()
        if textmap is not self._textmap:
            self._carriers = frozenset(field.lower().encode("latin-1") for field in textmap.fields)
            self._textmap = textmap
        return self._carriers

    def start(self, method: str, scheme: str, version: str, server: Any, host: bytes, agent: bytes) -> Start:
        """What is known at the start, and alike for many requests."""
        key = (method, scheme, version, server, host, agent)
        found = self._starts.get(key)
        if found is None:
            attributes: dict[str, Any] = {
                "http.request.method": method,
                "url.scheme": scheme,
                "network.protocol.version": version,
            }
            if server:
                attributes["server.address"] = server[0]
                if server[1] is not None:
                    attributes["server.port"] = server[1]
            if host:
                attributes.update(http.server_of(host.decode("latin-1")))
            if agent:
                attributes["user_agent.original"] = agent.decode("latin-1")
            found = _kept(self._starts, key, Start(self, method, scheme, version, attributes))
        return found

    def active(self, method: str, scheme: str) -> door.Adds:
        """The series of the requests that are being answered."""
        found = self._actives.get((method, scheme))
        if found is None:
            labels = {"http.request.method": method, "url.scheme": scheme}
            found = _kept(self._actives, (method, scheme), door.adds(self._active, labels))
        return found

    def messages(self, route: str | None, direction: str) -> door.Adds:
        """The series of the messages of a route's websockets: `receive` or `transmit`."""
        found = self._directions.get((route, direction))
        if found is None:
            labels = {"network.io.direction": direction} | ({"http.route": route} if route is not None else {})
            found = _kept(self._directions, (route, direction), door.adds(self._messages, labels))
        return found

    def duration(self, *key: str | int | None) -> door.Records:
        """The series of a request: method, route, status, scheme, version, error type."""
        found = self._durations.get(key)
        if found is None:
            names = semconv.HTTP_SERVER_REQUEST_DURATION.labels
            labels = {name: value for name, value in zip(names, key, strict=True) if value is not None}
            found = _kept(self._durations, key, door.records(self._duration, labels))
        return found


class Start:
    """What is known at the start of a request, and what it becomes at its end, by the outcome."""

    __slots__ = ("_layer", "_outcomes", "active", "method", "name", "scheme", "shared", "version")

    def __init__(self, layer: AsgiLayer, method: str, scheme: str, version: str, attributes: Mapping[str, Any]) -> None:
        self._layer = layer
        self.method = method
        self.scheme = scheme
        self.version = version
        self.name = method if method != "_OTHER" else "HTTP"
        self.shared = Shared(attributes)
        self.active = layer.active(method, scheme)
        self._outcomes: dict[tuple[str | None, int | None, str | None], Outcome] = {}

    def outcome(self, route: str | None, status: int | None, error: str | None) -> Outcome:
        """With the route, the status and the error."""
        key = (route, status, error)
        found = self._outcomes.get(key)
        if found is None:
            attributes = dict(self.shared)
            if route is not None:
                attributes["http.route"] = route
            if status is not None:
                attributes["http.response.status_code"] = status
            if error is not None:
                attributes["error.type"] = error
            duration = self._layer.duration(self.method, route, status, self.scheme, self.version, error)
            name = self.name if route is None else f"{self.name} {route}"
            found = _kept(self._outcomes, key, Outcome(name, Shared(attributes), duration))
        return found


class Outcome:
    """What requests have in common that came alike and ended alike."""

    __slots__ = ("duration", "name", "shared")

    def __init__(self, name: str, shared: Shared, duration: door.Records) -> None:
        self.name = name
        self.shared = shared
        self.duration = duration


def _kept(cache: dict[K, V], key: K, value: V) -> V:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
    return value


def _at_the_end(send: Send) -> Send:
    """Sends telemetry before the server learns that the application has shut down."""

    async def wrapper(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown"):
            lifecycle.before_the_signal_returns()
        await send(message)

    return wrapper


def wrap_application_class(
    cls: type[Any], around: Callable[[Call], Call], *, skip: Iterable[str] = ()
) -> Callable[[], None]:
    """Puts a layer around a class's `__call__`; subclasses from the packages in `skip` are left alone. Returns the
    undo.
    """
    original: Call = cls.__call__
    call = layer = around(original)
    packages = tuple(skip)
    if packages:
        skipped: dict[type[Any], bool] = {}

        async def unless_skipped(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
            kind = type(self)
            left_alone = skipped.get(kind)
            if left_alone is None:
                left_alone = any(base.__module__.partition(".")[0] in packages for base in kind.__mro__)
                skipped[kind] = left_alone
            await (original if left_alone else layer)(self, scope, receive, send)

        call = unless_skipped

    cls.__call__ = call

    def undo() -> None:
        if cls.__call__ is call:
            cls.__call__ = original

    return undo


def silence_native(cls: type[Any]) -> Callable[[], None]:
    """Switches FastAPI's own telemetry off, which speaks up as soon as global providers are set; returns the undo."""

    def around(call: Call) -> Call:
        async def silenced(app: Any, scope: Scope, receive: Receive, send: Send) -> None:
            scope[_NATIVE_MARK] = None
            await call(app, scope, receive, send)

        return silenced

    return wrap_application_class(cls, around)
