"""redis-py: one client span and one measurement a command or pipeline, sync and async, and cache hits and misses.

The library's own hooks know life cycles and failures, not commands, so these methods are wrapped, each at its class:
`Redis.execute_command`, `Pipeline.execute`, `Pipeline.immediate_execute_command` of redis and of redis.asyncio.
Arguments are never recorded: keys hold user ids, values hold anything.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, get_tracer, set_span_in_context

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.instrumentation import instruments
from otelkit.runtime import guard
from otelkit.signals.exceptions import type_name

_LOOKUPS = frozenset(("GET", "MGET", "HGET", "HMGET"))
_POOL_MARK = "_otelkit_attributes"


def install(settings: Settings) -> Callable[[], None]:
    """Records the commands of every client; returns the undo."""
    import redis.asyncio.client
    import redis.client

    commands = _Commands()
    restore: list[Callable[[], None]] = []
    for module, decorate in ((redis.client, commands.sync), (redis.asyncio.client, commands.asynchronous)):
        for cls, method, describe in (
            (module.Redis, "execute_command", _command),
            (module.Pipeline, "immediate_execute_command", _command),
            (module.Pipeline, "execute", _pipeline),
        ):
            original = getattr(cls, method)
            wrapper = decorate(original, describe)
            setattr(cls, method, wrapper)
            restore.append(functools.partial(_restore, cls, method, wrapper, original))

    def undo() -> None:
        for step in restore:
            step()

    return undo


def silence_kombu() -> Callable[[], None]:
    """Marks the connection pools of Celery's broker: its polls and deliveries are told of by Celery's own spans.

    Nothing on a pool of kombu's tells it from an application's, so the method that makes the pools is wrapped.
    Returns the undo.
    """
    from kombu.transport.redis import Channel

    cls: Any = Channel
    original = cls._get_pool

    def _get_pool(channel: Any, *args: Any, **options: Any) -> Any:
        pool = original(channel, *args, **options)
        setattr(pool, _POOL_MARK, None)
        return pool

    cls._get_pool = _get_pool
    return functools.partial(_restore, cls, "_get_pool", _get_pool, original)


def _restore(cls: type, method: str, wrapper: object, original: object) -> None:
    if cls.__dict__.get(method) is wrapper:
        setattr(cls, method, original)


def _command(client: Any, args: tuple[Any, ...]) -> tuple[str, int]:
    name = args[0] if args else ""
    text = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    return text.partition(" ")[0].upper()[:32], 0


def _pipeline(client: Any, args: tuple[Any, ...]) -> tuple[str, int]:
    transaction = client.is_transaction if hasattr(client, "is_transaction") else client.transaction
    size = len(client.command_stack)
    return ("MULTI" if transaction or client.explicit_transaction else "PIPELINE"), size


Describe = Callable[[Any, tuple[Any, ...]], tuple[str, int]]


class _Call:
    """A command that is under way."""

    __slots__ = ("labels", "operation", "span", "started")

    def __init__(self, operation: str, labels: dict[str, Any], span: Span | None) -> None:
        self.operation = operation
        self.labels = labels
        self.span = span
        self.started = time.perf_counter()


class _Commands:
    """The wrappers around redis-py's methods."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.redis")
        self._tracer = get_tracer("otelkit.redis")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self._lookups = instruments.counter(meter, semconv.REDIS_CACHE_LOOKUPS)

    def sync(self, original: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
        """Wraps a blocking method."""

        @functools.wraps(original)
        def wrapper(client: Any, *args: Any, **options: Any) -> Any:
            call = self._begin(client, args, describe)
            if call is None:
                return original(client, *args, **options)
            try:
                result = original(client, *args, **options)
            except BaseException as error:
                self._end(call, None, error)
                raise
            self._end(call, result, None)
            return result

        return wrapper

    def asynchronous(self, original: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
        """Wraps a coroutine method."""

        @functools.wraps(original)
        async def wrapper(client: Any, *args: Any, **options: Any) -> Any:
            call = self._begin(client, args, describe)
            if call is None:
                return await original(client, *args, **options)
            try:
                result = await original(client, *args, **options)
            except BaseException as error:
                self._end(call, None, error)
                raise
            self._end(call, result, None)
            return result

        return wrapper

    @guard.guard("the start of a Redis command's telemetry")
    def _begin(self, client: Any, args: tuple[Any, ...], describe: Describe) -> _Call | None:
        base = _pool_attributes(client.connection_pool)
        if base is None:
            return None
        operation, size = describe(client, args)
        labels = {**base, "db.operation.name": operation}
        span = None
        # A command outside of any trace (a poll, a warm-up) makes no trace of its own.
        if get_current_span().get_span_context().is_valid:
            span = self._tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=labels)
            if size > 1:
                span.set_attribute("db.operation.batch.size", size)
        return _Call(operation, labels, span)

    @guard.guard("the end of a Redis command's telemetry")
    def _end(self, call: _Call, result: Any, error: BaseException | None) -> None:
        elapsed = time.perf_counter() - call.started
        labels, span = call.labels, call.span
        if error is not None:
            labels = {**labels, "error.type": type_name(error)}
            if span is not None:
                span.set_attribute("error.type", labels["error.type"])
                if isinstance(error, Exception):
                    # The server's message may repeat arguments: only the type is safe.
                    span.set_status(StatusCode.ERROR, type_name(error))
        elif call.operation in _LOOKUPS:
            self._count_lookups(call, result)
        self._duration.record(elapsed, labels, set_span_in_context(span) if span is not None else None)
        if span is not None:
            span.end()

    def _count_lookups(self, call: _Call, result: Any) -> None:
        found = result if isinstance(result, (list, tuple)) else (result,)
        misses = sum(value is None for value in found)
        base = {key: value for key, value in call.labels.items() if key in semconv.REDIS_CACHE_LOOKUPS.labels}
        if misses:
            self._lookups.add(misses, {**base, "redis.cache.result": "miss"})
        if misses < len(found):
            self._lookups.add(len(found) - misses, {**base, "redis.cache.result": "hit"})


def _pool_attributes(pool: Any) -> dict[str, Any] | None:
    """Where a pool leads to, kept on the pool; None for kombu's."""
    try:
        known: dict[str, Any] | None = vars(pool)[_POOL_MARK]
        return known
    except KeyError:
        pass
    options = pool.connection_kwargs
    attributes: dict[str, Any] = {"db.system.name": "redis", "db.namespace": str(options.get("db") or 0)}
    if "path" in options:
        attributes["server.address"] = str(options["path"])
    else:
        attributes["server.address"] = str(options.get("host", "localhost"))
        attributes["server.port"] = int(options.get("port", 6379))
    setattr(pool, _POOL_MARK, attributes)
    return attributes
