"""The connection pools of redis-py: connections in use and idle, and the waits for one of a pool that lets wait.

What a pool holds is read when metrics are collected. Only a `BlockingConnectionPool` has waits; its `get_connection` is
wrapped. Time in use is not recorded: a connection is in use for one command, whose duration is.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter_ns
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from otelkit import semconv
from otelkit.engine import door
from otelkit.instrumentation import instruments
from otelkit.instrumentation.redis_commands import POOL_MARK, pool_attributes
from otelkit.runtime import guard

_WAITS = "_otelkit_waits"
_NAME = "db.client.connection.pool.name"
_STATE = "db.client.connection.state"
_UNLIMITED = 2**31  # what redis-py takes where nobody gave a number


class _Waits:
    """What is known of the waits for a pool's connections, kept on it."""

    __slots__ = ("owner", "pending", "timeouts", "wait")

    def __init__(self, owner: Pools, name: str) -> None:
        self.owner = owner
        self.pending = 0
        self.wait = door.records(owner.wait_time, {_NAME: name})
        self.timeouts = door.adds(owner.timeouts, {_NAME: name})


class Pools:
    """The pools that commands were sent over, by name."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.redis")
        self.wait_time = instruments.histogram(meter, semconv.DB_CLIENT_CONNECTION_WAIT_TIME)
        self.timeouts = instruments.counter(meter, semconv.DB_CLIENT_CONNECTION_TIMEOUTS)
        self._pools: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._on = True
        for metric, callback in (
            (semconv.DB_CLIENT_CONNECTION_COUNT, self._count),
            (semconv.DB_CLIENT_CONNECTION_MAX, self._max),
            (semconv.DB_CLIENT_CONNECTION_PENDING, self._pending),
        ):
            instruments.observe(meter, metric, [callback])

    @guard.guard("a Redis pool's telemetry")
    def add(self, holder: Any, attributes: dict[str, Any]) -> None:
        """Observes a pool, or the pools of a cluster's nodes, from now on."""
        self._pools[holder] = _name(attributes)

    def close(self) -> None:
        """Observes nothing any more."""
        self._on = False

    def sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the `get_connection` of a pool of threads."""
        from redis.exceptions import ConnectionError as NoConnection

        @functools.wraps(original)
        def get_connection(pool: Any, *args: Any, **options: Any) -> Any:
            waits = self._waits(pool)
            if waits is None:
                return original(pool, *args, **options)
            waits.pending += 1
            began_ns = perf_counter_ns()
            try:
                return original(pool, *args, **options)
            except NoConnection as error:
                self._gave_up(waits, error)
                raise
            finally:
                self._over(waits, began_ns)

        return get_connection

    def asynchronous(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the `get_connection` of a pool of tasks."""
        from redis.exceptions import ConnectionError as NoConnection

        @functools.wraps(original)
        async def get_connection(pool: Any, *args: Any, **options: Any) -> Any:
            waits = self._waits(pool)
            if waits is None:
                return await original(pool, *args, **options)
            waits.pending += 1
            began_ns = perf_counter_ns()
            try:
                return await original(pool, *args, **options)
            except NoConnection as error:
                self._gave_up(waits, error)
                raise
            finally:
                self._over(waits, began_ns)

        return get_connection

    @guard.guard("a Redis pool's telemetry")
    def _waits(self, pool: Any) -> _Waits | None:
        found: _Waits | None = vars(pool).get(_WAITS)
        if found is None or found.owner is not self:
            if vars(pool).get(POOL_MARK, self) is None:  # kombu's
                return None
            attributes = pool_attributes(pool)
            found = _Waits(self, _name(attributes))
            setattr(pool, _WAITS, found)
            self.add(pool, attributes)
        return found

    @guard.guard("a Redis pool's telemetry")
    def _gave_up(self, waits: _Waits, error: Exception) -> None:
        # The same exception as that of a server that cannot be reached.
        if str(error).startswith("No connection available"):
            waits.timeouts.add(1)

    @guard.guard("a Redis pool's telemetry")
    def _over(self, waits: _Waits, began_ns: int) -> None:
        waits.pending -= 1
        waits.wait.record((perf_counter_ns() - began_ns) / 1e9)

    def _observed(self, read: Callable[[Any], dict[str, int]]) -> Iterable[Observation]:
        """The sums over all pools of a name, by name and what `read` tells apart."""
        sums: dict[tuple[str, str], int] = {}
        for holder, name in list(self._pools.items()) if self._on else ():
            for pool in _pools_of(holder):
                for state, value in read(pool).items():
                    sums[name, state] = sums.get((name, state), 0) + value
        for (name, state), value in sums.items():
            yield Observation(value, {_NAME: name, _STATE: state} if state else {_NAME: name})

    def _count(self, options: CallbackOptions) -> Iterable[Observation]:
        return self._observed(_in_hand)

    def _max(self, options: CallbackOptions) -> Iterable[Observation]:
        return self._observed(lambda pool: {"": found} if (found := pool.max_connections) < _UNLIMITED else {})

    def _pending(self, options: CallbackOptions) -> Iterable[Observation]:
        return self._observed(
            lambda pool: {"": max(0, found.pending)} if (found := getattr(pool, _WAITS, None)) else {}
        )


def _pools_of(holder: Any) -> Iterator[Any]:
    """A pool itself; of a cluster those of its nodes, of which asyncio's are pools themselves."""
    if hasattr(holder, "connection_kwargs") and hasattr(holder, "max_connections"):
        yield holder
        return
    manager = getattr(holder, "nodes_manager", holder)
    for node in list(manager.nodes_cache.values()):
        if hasattr(node, "max_connections"):
            yield node
        elif (client := getattr(node, "redis_connection", None)) is not None:
            yield client.connection_pool


def _in_hand(pool: Any) -> dict[str, int]:
    """How many of a pool's connections are used and idle; redis-py has no name for it before 7.2."""
    if (used := getattr(pool, "_in_use_connections", None)) is not None:
        return {"used": len(used), "idle": len(pool._available_connections)}
    if (queue := getattr(pool, "pool", None)) is not None:  # of connections, and None for each that may be made yet
        entries = list(queue.queue if hasattr(queue, "queue") else queue._queue)
        idle = sum(entry is not None for entry in entries)
    else:
        idle = len(pool._free)
    return {"used": max(0, len(pool._connections) - idle), "idle": idle}


def _name(attributes: dict[str, Any]) -> str:
    """The conventions' form `server.address:server.port/db.namespace`."""
    host = ":".join(str(attributes[key]) for key in ("server.address", "server.port") if key in attributes)
    return f"{host}/{attributes['db.namespace']}"
