"""redis-py: one client span and one measurement a command or pipeline, sync and async, and cache hits and misses.

The library's own hooks know life cycles and failures, not commands, so these methods are wrapped, each at its class:
`Redis.execute_command`, `Pipeline.execute`, `Pipeline.immediate_execute_command` of redis and of redis.asyncio.
Arguments are never recorded: keys hold user ids, values hold anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from opentelemetry.metrics import get_meter
from opentelemetry.trace import SpanKind, StatusCode

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.instrumentation import instruments
from otelkit.runtime import guard
from otelkit.signals.exceptions import type_name

_LOOKUPS = frozenset(("GET", "MGET", "HGET", "HMGET"))
_POOL_MARK = "_otelkit_pool"
_KEPT_COMMANDS = 512  # of a pool


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


Called = str | bytes
"""A command as the caller wrote it."""


def _command(client: Any, args: tuple[Any, ...]) -> tuple[Called, int]:
    name = args[0] if args else ""
    return (name if isinstance(name, (str, bytes)) else str(name)), 0


def _name(called: Called) -> str:
    text = called.decode("latin-1") if isinstance(called, bytes) else called
    return text.partition(" ")[0].upper()[:32]


def _pipeline(client: Any, args: tuple[Any, ...]) -> tuple[Called, int]:
    transaction = client.is_transaction if hasattr(client, "is_transaction") else client.transaction
    size = len(client.command_stack)
    return ("MULTI" if transaction or client.explicit_transaction else "PIPELINE"), size


Describe = Callable[[Any, tuple[Any, ...]], tuple[Called, int]]


class _Pool:
    """What is known of a connection pool, kept on it: where it leads to, and the series of its commands."""

    __slots__ = ("attributes", "hits", "kinds", "misses", "owner")

    def __init__(self, owner: _Commands, attributes: dict[str, Any]) -> None:
        self.owner = owner
        self.attributes = attributes
        self.kinds: dict[Called, _Kind] = {}
        base = {key: value for key, value in attributes.items() if key in semconv.REDIS_CACHE_LOOKUPS.labels}
        self.hits = door.adds(owner.lookups, {**base, "redis.cache.result": "hit"})
        self.misses = door.adds(owner.lookups, {**base, "redis.cache.result": "miss"})


class _Kind:
    """What all runs of one command over one pool have in common."""

    __slots__ = ("duration", "looks_up", "name", "pool", "shared")

    def __init__(self, pool: _Pool, name: str) -> None:
        self.pool = pool
        self.name = name
        self.shared = Shared({**pool.attributes, "db.operation.name": name})
        self.duration = door.records(pool.owner.duration, self.shared)
        self.looks_up = name in _LOOKUPS


class _Call:
    """A command that is under way."""

    __slots__ = ("began_ns", "kind", "span")

    def __init__(self, kind: _Kind, span: Any) -> None:
        self.kind = kind
        self.span = span
        self.began_ns = perf_counter_ns()


class _Commands:
    """The wrappers around redis-py's methods."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.redis")
        self._tracer = door.tracer("otelkit.redis")
        self.duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self.lookups = instruments.counter(meter, semconv.REDIS_CACHE_LOOKUPS)

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
                self._fail(call, error)
                raise
            self._end(call, result)
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
                self._fail(call, error)
                raise
            self._end(call, result)
            return result

        return wrapper

    def _begin(self, client: Any, args: tuple[Any, ...], describe: Describe) -> _Call | None:
        try:
            connections = client.connection_pool
            pool = vars(connections).get(_POOL_MARK, self)
            if pool is None:  # kombu's
                return None
            if pool is self or pool.owner is not self:
                pool = _Pool(self, _pool_attributes(connections))
                setattr(connections, _POOL_MARK, pool)
            called, size = describe(client, args)
            kind = pool.kinds.get(called)
            if kind is None:
                if len(pool.kinds) >= _KEPT_COMMANDS:
                    pool.kinds.clear()
                kind = pool.kinds[called] = _Kind(pool, _name(called))
            span = None
            # A command outside of any trace (a poll, a warm-up) makes no trace of its own.
            if door.parent_to_record() is not None:
                batch = {"db.operation.batch.size": size} if size > 1 else None
                span = self._tracer.begin(kind.name, SpanKind.CLIENT, kind.shared, batch)
            return _Call(kind, span)
        except Exception:  # noqa: BLE001 - a command is sent whatever telemetry does
            guard.report("the start of a Redis command's telemetry")
            return None

    def _end(self, call: _Call, result: Any) -> None:
        try:
            elapsed_ns = perf_counter_ns() - call.began_ns
            kind, span = call.kind, call.span
            if kind.looks_up:
                self._count_lookups(kind.pool, result)
            kind.duration.record(elapsed_ns / 1e9, span)
            if span is not None:
                span.end()
        except Exception:  # noqa: BLE001 - as above
            guard.report("the end of a Redis command's telemetry")

    @guard.guard("the end of a failed Redis command's telemetry")
    def _fail(self, call: _Call, error: BaseException) -> None:
        elapsed_ns = perf_counter_ns() - call.began_ns
        kind, span = call.kind, call.span
        name = type_name(error)
        if span is not None:
            span.set_attribute("error.type", name)
            if isinstance(error, Exception):
                # The server's message may repeat arguments: only the type is safe.
                span.set_status(StatusCode.ERROR, name)
        labels: dict[str, Any] = {**kind.shared, "error.type": name}
        self.duration.record(elapsed_ns / 1e9, labels, with_span(span) if span is not None else None)
        if span is not None:
            span.end()

    @staticmethod
    def _count_lookups(pool: _Pool, result: Any) -> None:
        if not isinstance(result, (list, tuple)):
            (pool.misses if result is None else pool.hits).add(1)
            return
        misses = sum(value is None for value in result)
        if misses:
            pool.misses.add(misses)
        if misses < len(result):
            pool.hits.add(len(result) - misses)


def _pool_attributes(pool: Any) -> dict[str, Any]:
    """Where a pool leads to."""
    options = pool.connection_kwargs
    attributes: dict[str, Any] = {"db.system.name": "redis", "db.namespace": str(options.get("db") or 0)}
    if "path" in options:
        attributes["server.address"] = str(options["path"])
    else:
        attributes["server.address"] = str(options.get("host", "localhost"))
        attributes["server.port"] = int(options.get("port", 6379))
    return attributes
