"""SQLAlchemy's pools: their connections, what waits for one, and the attempts that failed.

Pools have no event for the wait before a checkout, so `Engine.raw_connection`, which every checkout of an engine
passes, is wrapped.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter
from opentelemetry.trace import SpanKind, StatusCode

from otelkit import semconv
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.instrumentation import instruments
from otelkit.runtime import guard
from otelkit.signals.exceptions import type_name

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect, Engine
    from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

# SQLAlchemy's dialect -> the conventions' name, where they differ.
_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}
_STATE = "_otelkit_state"


def engine_attributes(engine: Engine) -> dict[str, Any]:
    """Which database an engine leads to."""
    url = engine.url
    name = engine.dialect.name
    attributes: dict[str, Any] = {"db.system.name": _SYSTEMS.get(name, name)}
    if url.database:
        # A file's folder says where the application lives, not which database it is.
        attributes["db.namespace"] = url.database.rpartition("/")[2] if name == "sqlite" else url.database
    if url.host:
        attributes["server.address"] = url.host
        if url.port:
            attributes["server.port"] = url.port
    return attributes


def error_attributes(error: BaseException) -> dict[str, Any]:
    """What may be said of a driver's error: its type and SQLSTATE, never its message, which repeats values.

    The asyncio drivers' errors are wrapped once more by SQLAlchemy's dialects: the driver's own is the cause.
    """
    if type(error).__module__.startswith("sqlalchemy.dialects.") and error.__cause__ is not None:
        error = error.__cause__
    found = {"error.type": type_name(error)}
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(code, str):
        found["db.response.status_code"] = code
    return found


def _pool_name(engine: Engine) -> str:
    """The pool's own name, else the conventions' form `server.address:server.port/db.namespace`."""
    if engine.pool.logging_name:
        return engine.pool.logging_name
    found = engine_attributes(engine)
    host = ":".join(str(found[key]) for key in ("server.address", "server.port") if key in found)
    return "/".join(part for part in (host, found.get("db.namespace")) if part) or str(found["db.system.name"])


class _PoolState:
    """What is known of a pool, kept on it: its name, its series, how many wait for a connection, how many have one."""

    __slots__ = ("__weakref__", "name", "owner", "pending", "timeouts", "use", "used", "wait")

    def __init__(self, owner: Pools, name: str) -> None:
        self.owner = owner
        self.name = name
        self.pending = 0
        self.used = 0
        labels = {"db.client.connection.pool.name": name}
        self.wait = door.records(owner.wait_time, labels)
        self.use = door.records(owner.use_time, labels)
        self.timeouts = door.adds(owner.timeouts, labels)


class Pools:
    """Connections in use, idle, waited for and timed out, by pool; pools of one name are one.

    `watch` is given the dialect of every engine with a new pool: its class may have been imported just now.
    """

    def __init__(self, watch: Callable[[type[Dialect]], None]) -> None:
        self._watch = watch
        meter = get_meter("otelkit.sqlalchemy")
        self._tracer = door.tracer("otelkit.sqlalchemy")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self.wait_time = instruments.histogram(meter, semconv.DB_CLIENT_CONNECTION_WAIT_TIME)
        self.use_time = instruments.histogram(meter, semconv.DB_CLIENT_CONNECTION_USE_TIME)
        self.timeouts = instruments.counter(meter, semconv.DB_CLIENT_CONNECTION_TIMEOUTS)
        self._pools: weakref.WeakKeyDictionary[Pool, _PoolState] = weakref.WeakKeyDictionary()
        self._on = True
        for metric, callback in (
            (semconv.DB_CLIENT_CONNECTION_COUNT, self._count),
            (semconv.DB_CLIENT_CONNECTION_MAX, self._max),
            (semconv.DB_CLIENT_CONNECTION_PENDING, self._waiting),
        ):
            instruments.observe(meter, metric, [callback])

    def wrap(self, engine_class: type[Engine]) -> Callable[[], None]:
        """Times `Engine.raw_connection`; returns the undo."""
        from sqlalchemy.exc import TimeoutError as PoolTimeout

        original: Callable[..., PoolProxiedConnection] = engine_class.raw_connection

        def raw_connection(engine: Engine, *args: Any, **options: Any) -> PoolProxiedConnection:
            try:
                state: _PoolState | None = vars(engine.pool).get(_STATE)
                if state is None or state.owner is not self:
                    state = self._state(engine)
            except Exception:  # noqa: BLE001 - a connection is given whatever telemetry does
                guard.report("a pool's telemetry")
                return original(engine, *args, **options)
            state.pending += 1
            began_ns = perf_counter_ns()
            try:
                taken = original(engine, *args, **options)
                found = taken.record_info
                if found is not None:
                    held = found.get(_STATE)
                    # StaticPool and SingletonThreadPool give the same connection to several callers at once.
                    if held is None or held[1] is not state:
                        state.used += 1
                        found[_STATE] = (perf_counter_ns(), state)
                return taken
            except BaseException as error:
                if isinstance(error, PoolTimeout):
                    state.timeouts.add(1)
                self._failed(engine, began_ns, error)
                raise
            finally:
                state.pending -= 1
                state.wait.record((perf_counter_ns() - began_ns) / 1e9)

        engine_class.raw_connection = raw_connection  # type: ignore[method-assign, assignment]

        def undo() -> None:
            self._on = False
            if engine_class.raw_connection is raw_connection:
                engine_class.raw_connection = original  # type: ignore[method-assign]

        return undo

    @guard.guard("the telemetry of a connection that failed")
    def _failed(self, engine: Engine, began_ns: int, error: BaseException) -> None:
        """One span of an attempt that failed; one that succeeds has none."""
        now_ns = perf_counter_ns()
        labels = {
            **engine_attributes(engine),
            "db.operation.name": "CONNECT",
            "db.query.summary": "CONNECT",
            **error_attributes(getattr(error, "orig", None) or error),
        }
        span = None
        if door.parent_to_record() is not None:
            wall_ns = time_ns() - (now_ns - began_ns)
            span = self._tracer.begin("CONNECT", SpanKind.CLIENT, None, labels, start_time=wall_ns)
            span.set_status(StatusCode.ERROR, labels["error.type"])
        self._duration.record((now_ns - began_ns) / 1e9, labels, with_span(span) if span is not None else None)
        if span is not None:
            span.end()

    def _state(self, engine: Engine) -> _PoolState:
        pool = engine.pool
        self._watch(type(engine.dialect))
        state = _PoolState(self, _pool_name(engine))
        setattr(pool, _STATE, state)
        self._pools[pool] = state
        return state

    def returned(self, connection: object, record: ConnectionPoolEntry) -> None:
        """A connection goes back to its pool, or leaves it for good."""
        try:
            taken = record.record_info.pop(_STATE, None) if record.record_info is not None else None
            if taken is not None:
                since_ns, state = taken
                state.used -= 1
                state.use.record((perf_counter_ns() - since_ns) / 1e9)
        except Exception:  # noqa: BLE001 - as above
            guard.report("a pool's telemetry")

    def _alive(self) -> list[tuple[Pool, _PoolState]]:
        return list(self._pools.items()) if self._on else []

    def _count(self, options: CallbackOptions) -> Iterable[Observation]:
        """Of pools that keep no connections, or do not say which are idle, those in use."""
        found: Counter[tuple[str, str]] = Counter()
        for pool, state in self._alive():
            used, idle = getattr(pool, "checkedout", None), getattr(pool, "checkedin", None)
            if used is not None and idle is not None:
                found[state.name, "used"] += used()
                found[state.name, "idle"] += idle()
            else:
                found[state.name, "used"] += max(0, state.used)
        return [
            Observation(count, {"db.client.connection.pool.name": name, "db.client.connection.state": of})
            for (name, of), count in found.items()
        ]

    def _max(self, options: CallbackOptions) -> Iterable[Observation]:
        found: Counter[str] = Counter()
        for pool, state in self._alive():
            size, overflow = getattr(pool, "size", None), getattr(pool, "_max_overflow", 0)
            if callable(size) and overflow >= 0:
                found[state.name] += size() + overflow
        return _by_name(found)

    def _waiting(self, options: CallbackOptions) -> Iterable[Observation]:
        found: Counter[str] = Counter()
        for _, state in self._alive():
            found[state.name] += max(0, state.pending)
        return _by_name(found)


def _by_name(found: Counter[str]) -> list[Observation]:
    return [Observation(count, {"db.client.connection.pool.name": name}) for name, count in found.items()]
