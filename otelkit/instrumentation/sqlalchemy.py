"""SQLAlchemy: one client span and one measurement a statement, and the pools' metrics, sync and async.

Listeners on the class `Engine` see engines made earlier and connections that are open; context variables cross the
greenlets of async engines. Pools have no event for the wait before a checkout, so `Engine.raw_connection`, which
every checkout of an engine passes, is wrapped.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Histogram, Observation, get_meter
from opentelemetry.trace import SpanKind, StatusCode

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.instrumentation import instruments
from otelkit.instrumentation.sql import Statement, statement
from otelkit.runtime import guard
from otelkit.signals.exceptions import type_name

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine, ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection

# SQLAlchemy's dialect -> the conventions' name, where they differ.
_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}
_STATE = "_otelkit_state"
_KEPT_STATEMENTS = 512  # of an engine
_LONGEST_KEPT = 8192  # characters


def install(settings: Settings) -> Callable[[], None]:
    """Records the statements and pools of every engine; returns the undo."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    statements = _Statements()
    pools = _Pools()
    listeners: list[tuple[Any, str, Callable[..., Any]]] = [
        (Engine, "before_cursor_execute", statements.before),
        (Engine, "after_cursor_execute", statements.after),
        (Engine, "handle_error", statements.failed),
        (Pool, "checkin", pools.returned),
    ]
    for target, name, listener in listeners:
        event.listen(target, name, listener)
    unwrap = pools.wrap(Engine)

    def undo() -> None:
        for target, name, listener in listeners:
            event.remove(target, name, listener)
        unwrap()

    return undo


class _Kind:
    """What all runs of one statement on one engine have in common."""

    __slots__ = ("duration", "labels", "name", "shared")

    def __init__(self, base: Mapping[str, Any], parsed: Statement, duration: Histogram) -> None:
        self.name = parsed.summary
        self.labels = {**base, "db.operation.name": parsed.operation, "db.query.summary": parsed.summary}
        self.shared = Shared({**self.labels, "db.query.text": parsed.text})
        self.duration = door.records(duration, self.labels)


class _EngineState:
    """What is known of an engine, kept on it: its attributes, and the statements that it has run."""

    __slots__ = ("attributes", "kinds", "owner")

    def __init__(self, owner: _Statements, engine: Engine) -> None:
        self.owner = owner
        self.attributes = _engine_attributes(engine)
        self.kinds: dict[str, _Kind] = {}


class _Running:
    """A statement that is being executed."""

    __slots__ = ("began_ns", "kind", "span")

    def __init__(self, span: Any, kind: _Kind) -> None:
        self.span = span
        self.kind = kind
        self.began_ns = perf_counter_ns()


class _Statements:
    """The listeners of the cursor events."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.sqlalchemy")
        self._tracer = door.tracer("otelkit.sqlalchemy")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)

    def before(
        self,
        connection: Connection,
        cursor: object,
        sql: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        if context is None:
            return
        try:
            engine = connection.engine
            state = vars(engine).get(_STATE)
            kind = state.kinds.get(sql) if state is not None and state.owner is self else None
            if kind is None:
                kind = self._kind(engine, sql)
            span = None
            # A statement outside of any trace (a health check of the pool, a migration) makes no trace of its own.
            if door.parent_to_record() is not None:
                batch = {"db.operation.batch.size": len(parameters)} if executemany and len(parameters) > 1 else None
                span = self._tracer.begin(kind.name, SpanKind.CLIENT, kind.shared, batch)
            setattr(context, _STATE, _Running(span, kind))
        except Exception:  # noqa: BLE001 - a statement is executed whatever telemetry does
            guard.report("the start of a statement's telemetry")

    def _kind(self, engine: Engine, sql: str) -> _Kind:
        state = vars(engine).get(_STATE)
        if state is None or state.owner is not self:
            state = _EngineState(self, engine)
            setattr(engine, _STATE, state)
        kind = _Kind(state.attributes, statement(sql, engine.dialect.name), self._duration)
        if len(sql) <= _LONGEST_KEPT:
            if len(state.kinds) >= _KEPT_STATEMENTS:
                state.kinds.clear()
            state.kinds[sql] = kind
        return kind

    def after(
        self,
        connection: Connection,
        cursor: object,
        sql: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        running: _Running | None = getattr(context, _STATE, None)
        if running is None:
            return
        try:
            setattr(context, _STATE, None)
            elapsed_ns = perf_counter_ns() - running.began_ns
            span = running.span
            running.kind.duration.record(elapsed_ns / 1e9, span)
            if span is not None:
                span.end()
        except Exception:  # noqa: BLE001 - as above
            guard.report("the end of a statement's telemetry")

    @guard.guard("the end of a failed statement's telemetry")
    def failed(self, found: ExceptionContext) -> None:
        context = found.execution_context
        running: _Running | None = getattr(context, _STATE, None)
        if running is None:
            return
        setattr(context, _STATE, None)
        elapsed_ns = perf_counter_ns() - running.began_ns
        error, span = found.original_exception, running.span
        of_error = {"error.type": type_name(error)}
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if isinstance(code, str):
            of_error["db.response.status_code"] = code
        if span is not None:
            span.set_attributes(of_error)
            # The driver's message repeats literals and bind values of the statement: only its type is safe.
            span.set_status(StatusCode.ERROR, type_name(error))
        labels = {**running.kind.labels, **of_error}
        self._duration.record(elapsed_ns / 1e9, labels, with_span(span) if span is not None else None)
        if span is not None:
            span.end()


def _engine_attributes(engine: Engine) -> dict[str, Any]:
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


def _pool_name(engine: Engine) -> str:
    """The pool's own name, else the conventions' form `server.address:server.port/db.namespace`."""
    if engine.pool.logging_name:
        return engine.pool.logging_name
    found = _engine_attributes(engine)
    host = ":".join(str(found[key]) for key in ("server.address", "server.port") if key in found)
    return "/".join(part for part in (host, found.get("db.namespace")) if part) or str(found["db.system.name"])


class _PoolState:
    """What is known of a pool, kept on it: its labels, its series, and how many wait for a connection."""

    __slots__ = ("__weakref__", "labels", "owner", "pending", "timeouts", "use", "wait")

    def __init__(self, owner: _Pools, name: str) -> None:
        self.owner = owner
        self.pending = 0
        self.labels = {"db.client.connection.pool.name": name}
        self.wait = door.records(owner.wait_time, self.labels)
        self.use = door.records(owner.use_time, self.labels)
        self.timeouts = door.adds(owner.timeouts, self.labels)


class _Pools:
    """Connections in use, idle, waited for and timed out, by pool."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.sqlalchemy")
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

        original = engine_class.raw_connection

        def raw_connection(engine: Engine) -> PoolProxiedConnection:
            try:
                state: _PoolState | None = vars(engine.pool).get(_STATE)
                if state is None or state.owner is not self:
                    state = self._state(engine)
            except Exception:  # noqa: BLE001 - a connection is given whatever telemetry does
                guard.report("a pool's telemetry")
                return original(engine)
            state.pending += 1
            began_ns = perf_counter_ns()
            try:
                taken = original(engine)
                if taken.record_info is not None:
                    taken.record_info[_STATE] = (perf_counter_ns(), state)
                return taken
            except PoolTimeout:
                state.timeouts.add(1)
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

    def _state(self, engine: Engine) -> _PoolState:
        pool = engine.pool
        state = _PoolState(self, _pool_name(engine))
        setattr(pool, _STATE, state)
        self._pools[pool] = state
        return state

    def returned(self, connection: object, record: ConnectionPoolEntry) -> None:
        try:
            taken = record.record_info.pop(_STATE, None) if record.record_info is not None else None
            if taken is not None:
                since_ns, state = taken
                state.use.record((perf_counter_ns() - since_ns) / 1e9)
        except Exception:  # noqa: BLE001 - as above
            guard.report("a pool's telemetry")

    def _alive(self) -> list[tuple[Pool, _PoolState]]:
        return list(self._pools.items()) if self._on else []

    def _count(self, options: CallbackOptions) -> Iterable[Observation]:
        found = []
        for pool, state in self._alive():
            used, idle = getattr(pool, "checkedout", None), getattr(pool, "checkedin", None)
            if used is not None and idle is not None:
                found.append(Observation(used(), {**state.labels, "db.client.connection.state": "used"}))
                found.append(Observation(idle(), {**state.labels, "db.client.connection.state": "idle"}))
        return found

    def _max(self, options: CallbackOptions) -> Iterable[Observation]:
        found = []
        for pool, state in self._alive():
            size, overflow = getattr(pool, "size", None), getattr(pool, "_max_overflow", 0)
            if callable(size) and overflow >= 0:
                found.append(Observation(size() + overflow, state.labels))
        return found

    def _waiting(self, options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(max(0, state.pending), state.labels) for _, state in self._alive()]
