"""A Redis command's span and measurement: what the wrappers of every kind of client have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Generic, TypeVar

from opentelemetry.metrics import get_meter
from opentelemetry.trace import SpanKind, StatusCode

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.instrumentation import instruments, redis_errors
from otelkit.instrumentation.redis_lookups import Lookups
from otelkit.instrumentation.redis_names import Called, blocks, may_block, name_of
from otelkit.runtime import guard
from otelkit.signals.exceptions import type_name

POOL_MARK = "_otelkit_pool"
"""Where a connection pool, or what stands for one in a cluster, keeps what is known of it; None: not recorded."""

_KEPT_COMMANDS = 512  # of a pool

C = TypeVar("C")
Describe = Callable[[Any, tuple[Any, ...]], "tuple[Called, int] | None"]
"""A call's command and number of commands, from the client and the arguments; None where nothing will be sent."""


class Pool:
    """What is known of a connection pool, kept on it: where it leads to, and the series of its commands."""

    __slots__ = ("attributes", "kinds", "lookups", "owner")

    def __init__(self, owner: Commands, attributes: dict[str, Any]) -> None:
        self.owner = owner
        self.attributes = attributes
        self.kinds: dict[Called, Kind] = {}
        self.lookups = Lookups(owner.lookups, attributes, owner.prefixes)

    def kind(self, called: Called) -> Kind:
        """What all runs of a command over this pool have in common."""
        if len(self.kinds) >= _KEPT_COMMANDS:
            self.kinds.clear()
        name = name_of(called)
        found = self.kinds[called] = Kind(self, name, blocking=blocks(name, ()))
        if may_block(name):
            found.when_blocking = Kind(self, name, blocking=True)
        return found


class Kind:
    """What all runs of one command over one pool have in common.

    `when_blocking` is that of the runs that may wait, of a command of which only some do.
    """

    __slots__ = ("blocking", "duration", "labels", "lookup", "name", "pool", "shared", "when_blocking")

    def __init__(self, pool: Pool, name: str, *, blocking: bool) -> None:
        self.pool = pool
        self.name = name
        self.blocking = blocking
        self.labels = {**pool.attributes, "db.operation.name": name}
        self.shared = Shared({**self.labels, "redis.client.operation.blocking": True} if blocking else self.labels)
        self.duration = door.records(pool.owner.waits if blocking else pool.owner.duration, self.labels)
        self.lookup = pool.lookups.of(name)
        self.when_blocking: Kind | None = None


class Call:
    """A command that is under way."""

    __slots__ = ("began_ns", "kind", "span")

    def __init__(self, kind: Kind, span: Any) -> None:
        self.kind = kind
        self.span = span
        self.began_ns = perf_counter_ns()


class Wrapping(Generic[C]):
    """The wrappers around a client's methods; what is begun is ended or fails, in the same context."""

    def begin(self, client: Any, args: tuple[Any, ...], describe: Describe) -> C | None:
        """A call that begins now, None for one that is not recorded; never raises."""
        raise NotImplementedError

    def end(self, call: C, args: tuple[Any, ...], result: Any) -> None:
        """The call has returned; never raises."""
        raise NotImplementedError

    def fail(self, call: C, error: BaseException) -> None:
        """The call has raised; never raises."""
        raise NotImplementedError

    def sync(self, original: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
        """Wraps a blocking method."""

        @functools.wraps(original)
        def wrapper(client: Any, *args: Any, **options: Any) -> Any:
            call = self.begin(client, args, describe)
            if call is None:
                return original(client, *args, **options)
            try:
                result = original(client, *args, **options)
            except BaseException as error:
                self.fail(call, error)
                raise
            self.end(call, args, result)
            return result

        return wrapper

    def asynchronous(self, original: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
        """Wraps a coroutine method."""

        @functools.wraps(original)
        async def wrapper(client: Any, *args: Any, **options: Any) -> Any:
            call = self.begin(client, args, describe)
            if call is None:
                return await original(client, *args, **options)
            try:
                result = await original(client, *args, **options)
            except BaseException as error:
                self.fail(call, error)
                raise
            self.end(call, args, result)
            return result

        return wrapper


class Commands(Wrapping[Call]):
    """The commands of clients that have a connection pool, and what those of all clients are made of."""

    def __init__(self, settings: Settings) -> None:
        meter = get_meter("otelkit.redis")
        self.prefixes = settings.redis_prefixes
        self._tracer = door.tracer("otelkit.redis")
        self.duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self.waits = instruments.histogram(meter, semconv.REDIS_BLOCKING_DURATION)
        self.lookups = instruments.counter(meter, semconv.REDIS_CACHE_LOOKUPS)
        self.on_pool: Callable[[Any, dict[str, Any]], None] = lambda holder, attributes: None

    def begin(self, client: Any, args: tuple[Any, ...], describe: Describe) -> Call | None:
        try:
            connections = client.connection_pool
            pool = vars(connections).get(POOL_MARK, self)
            if pool is None:  # kombu's
                return None
            if pool is self or pool.owner is not self:
                pool = self.pool(connections, pool_attributes(connections))
            described = describe(client, args)
            return self.start(pool, described, args) if described is not None else None
        except Exception:  # noqa: BLE001 - a command is sent whatever telemetry does
            guard.report("the start of a Redis command's telemetry")
            return None

    def pool(self, holder: Any, attributes: dict[str, Any]) -> Pool:
        """Makes what is known of a connection pool, and keeps it there."""
        pool = Pool(self, attributes)
        setattr(holder, POOL_MARK, pool)
        self.on_pool(holder, attributes)
        return pool

    def start(self, pool: Pool, described: tuple[Called, int], args: tuple[Any, ...]) -> Call:
        """A call that begins now, with a span where there is a trace for it. May raise."""
        called, size = described
        kind = pool.kinds.get(called) or pool.kind(called)
        if kind.when_blocking is not None and blocks(kind.name, args):
            kind = kind.when_blocking
        span = None
        # A command outside of any trace (a poll, a warm-up) makes no trace of its own.
        if door.parent_to_record() is not None:
            batch = {"db.operation.batch.size": size} if size > 1 else None
            span = self._tracer.begin(kind.name, SpanKind.CLIENT, kind.shared, batch)
        return Call(kind, span)

    def end(self, call: Call, args: tuple[Any, ...], result: Any) -> None:
        """The call has returned."""
        try:
            elapsed_ns = perf_counter_ns() - call.began_ns
            kind, span = call.kind, call.span
            if kind.lookup is not None:
                kind.lookup(args, result)
            kind.duration.record(elapsed_ns / 1e9, span)
            if span is not None:
                span.end()
        except Exception:  # noqa: BLE001 - as above
            guard.report("the end of a Redis command's telemetry")

    @guard.guard("the end of a failed Redis command's telemetry")
    def fail(self, call: Call, error: BaseException) -> None:
        """The call has raised."""
        elapsed_ns = perf_counter_ns() - call.began_ns
        kind, span = call.kind, call.span
        of_error: dict[str, Any] = {}
        code = redis_errors.status_code(error)
        if code is not None:
            of_error["db.response.status_code"] = code
        if code not in redis_errors.NO_FAILURES:
            of_error["error.type"] = name = type_name(error)
            if span is not None and isinstance(error, Exception):
                # The server's message may repeat arguments: only the type is safe.
                span.set_status(StatusCode.ERROR, name)
        if span is not None:
            span.set_attributes(of_error)
        measured = self.waits if kind.blocking else self.duration
        context = with_span(span) if span is not None else None
        measured.record(elapsed_ns / 1e9, {**kind.labels, **of_error}, context)
        if span is not None:
            span.end()


def pool_attributes(pool: Any) -> dict[str, Any]:
    """Where a pool leads to; through a sentinel it is the service's name, which stays over a failover."""
    options = pool.connection_kwargs
    attributes: dict[str, Any] = {"db.system.name": "redis", "db.namespace": str(options.get("db") or 0)}
    if "path" in options:
        attributes["server.address"] = str(options["path"])
    elif (service := getattr(pool, "service_name", None)) is not None:
        attributes["server.address"] = str(service)
    else:
        attributes["server.address"] = str(options.get("host", "localhost"))
        attributes["server.port"] = int(options.get("port", 6379))
    return attributes
