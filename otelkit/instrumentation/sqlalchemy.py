"""SQLAlchemy: one client span and one measurement a statement, and the pools' metrics, sync and async.

Listeners on the class `Engine` see engines made earlier and connections that are open; context variables cross the
greenlets of async engines. Pools have no event for the wait before a checkout, so `Engine.raw_connection`, which
every checkout of an engine passes, is wrapped.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, get_tracer, set_span_in_context

from otelkit import semconv
from otelkit.config.settings import Settings
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


class _Running:
    """A statement that is being executed."""

    __slots__ = ("labels", "parsed", "span", "started")

    def __init__(self, span: Span | None, parsed: Statement, labels: dict[str, Any], started: float) -> None:
        self.span = span
        self.parsed = parsed
        self.labels = labels
        self.started = started


class _Statements:
    """The listeners of the cursor events."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.sqlalchemy")
        self._tracer = get_tracer("otelkit.sqlalchemy")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self._engines: weakref.WeakKeyDictionary[Engine, dict[str, Any]] = weakref.WeakKeyDictionary()

    @guard.guard("the start of a statement's telemetry")
    def before(
        self,
        connection: Connection,
        cursor: object,
        sql: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        engine = connection.engine
        base = self._engines.get(engine)
        if base is None:
            base = self._engines[engine] = _engine_attributes(engine)
        parsed = statement(sql, engine.dialect.name)
        labels = {**base, "db.operation.name": parsed.operation, "db.query.summary": parsed.summary}
        span = None
        # A statement outside of any trace (a health check of the pool, a migration) makes no trace of its own.
        if get_current_span().get_span_context().is_valid:
            attributes = {**labels, "db.query.text": parsed.text}
            if executemany and len(parameters) > 1:
                attributes["db.operation.batch.size"] = len(parameters)
            span = self._tracer.start_span(parsed.summary, kind=SpanKind.CLIENT, attributes=attributes)
        if context is not None:
            setattr(context, _STATE, _Running(span, parsed, labels, time.perf_counter()))

    @guard.guard("the end of a statement's telemetry")
    def after(
        self,
        connection: Connection,
        cursor: object,
        sql: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        running = _take(context)
        if running is not None:
            self._finish(running, None)

    @guard.guard("the end of a failed statement's telemetry")
    def failed(self, error: ExceptionContext) -> None:
        running = _take(error.execution_context)
        if running is not None:
            self._finish(running, error.original_exception)

    def _finish(self, running: _Running, error: BaseException | None) -> None:
        elapsed = time.perf_counter() - running.started
        labels, span = running.labels, running.span
        if error is not None:
            code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
            labels = {**labels, "error.type": type_name(error)}
            if isinstance(code, str):
                labels["db.response.status_code"] = code
            if span is not None:
                span.set_attributes(labels)
                # The driver's message repeats literals and bind values of the statement: only its type is safe.
                span.set_status(StatusCode.ERROR, type_name(error))
        self._duration.record(elapsed, labels, set_span_in_context(span) if span is not None else None)
        if span is not None:
            span.end()


def _take(context: Any) -> _Running | None:
    running: _Running | None = getattr(context, _STATE, None)
    if running is not None:
        setattr(context, _STATE, None)
    return running


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


class _Pools:
    """Connections in use, idle, waited for and timed out, by pool."""

    def __init__(self) -> None:
        meter = get_meter("otelkit.sqlalchemy")
        self._wait_time = instruments.histogram(meter, semconv.DB_CLIENT_CONNECTION_WAIT_TIME)
        self._use_time = instruments.histogram(meter, semconv.DB_CLIENT_CONNECTION_USE_TIME)
        self._timeouts = instruments.counter(meter, semconv.DB_CLIENT_CONNECTION_TIMEOUTS)
        self._pools: weakref.WeakKeyDictionary[Pool, dict[str, str]] = weakref.WeakKeyDictionary()
        self._pending: weakref.WeakKeyDictionary[Pool, int] = weakref.WeakKeyDictionary()
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
            pool = engine.pool
            labels = self._labels(engine)
            self._pending[pool] = self._pending.get(pool, 0) + 1
            started = time.perf_counter()
            try:
                taken = original(engine)
                if taken.record_info is not None:
                    taken.record_info[_STATE] = (time.perf_counter(), labels)
                return taken
            except PoolTimeout:
                self._timeouts.add(1, labels)
                raise
            finally:
                self._pending[pool] = max(0, self._pending.get(pool, 1) - 1)
                self._wait_time.record(time.perf_counter() - started, labels)

        engine_class.raw_connection = raw_connection  # type: ignore[method-assign, assignment]

        def undo() -> None:
            self._on = False
            if engine_class.raw_connection is raw_connection:
                engine_class.raw_connection = original  # type: ignore[method-assign]

        return undo

    def _labels(self, engine: Engine) -> dict[str, str]:
        labels = self._pools.get(engine.pool)
        if labels is None:
            labels = {"db.client.connection.pool.name": _pool_name(engine)}
            self._pools[engine.pool] = labels
        return labels

    @guard.guard("a pool's telemetry")
    def returned(self, connection: object, record: ConnectionPoolEntry) -> None:
        taken = record.record_info.pop(_STATE, None) if record.record_info is not None else None
        if taken is not None:
            since, labels = taken
            self._use_time.record(time.perf_counter() - since, labels)

    def _alive(self) -> list[tuple[Pool, dict[str, str]]]:
        return list(self._pools.items()) if self._on else []

    def _count(self, options: CallbackOptions) -> Iterable[Observation]:
        found = []
        for pool, labels in self._alive():
            used, idle = getattr(pool, "checkedout", None), getattr(pool, "checkedin", None)
            if used is not None and idle is not None:
                found.append(Observation(used(), {**labels, "db.client.connection.state": "used"}))
                found.append(Observation(idle(), {**labels, "db.client.connection.state": "idle"}))
        return found

    def _max(self, options: CallbackOptions) -> Iterable[Observation]:
        found = []
        for pool, labels in self._alive():
            size, overflow = getattr(pool, "size", None), getattr(pool, "_max_overflow", 0)
            if callable(size) and overflow >= 0:
                found.append(Observation(size() + overflow, labels))
        return found

    def _waiting(self, options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._pending.get(pool, 0), labels) for pool, labels in self._alive()]
