"""SQLAlchemy: one client span and one measurement a statement, sync and async; statements that repeat or take long.

Listeners on the class `Engine` see engines made earlier and connections that are open; context variables cross the
greenlets of async engines. Pools: sqlalchemy_pools.py, transactions: sqlalchemy_transactions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import SeverityNumber, get_logger
from opentelemetry.metrics import Histogram, get_meter
from opentelemetry.trace import SpanKind, StatusCode

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.delivery.records import Shared
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.instrumentation import instruments
from otelkit.instrumentation.sql import Statement, statement
from otelkit.instrumentation.sqlalchemy_pools import Pools, engine_attributes, error_attributes
from otelkit.instrumentation.sqlalchemy_transactions import Transactions, in_transaction_call
from otelkit.instrumentation.sqlcommenter import Commenter
from otelkit.runtime import guard
from otelkit.signals import insights

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine, ExceptionContext

_STATE = "_otelkit_state"
_KEPT_STATEMENTS = 512  # of an engine
_LONGEST_KEPT = 8192  # characters
SLOW_QUERY = "otelkit.db.slow_query"


def install(settings: Settings) -> Callable[[], None]:
    """Records the statements and pools of every engine; returns the undo."""
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import Pool

    statements = _Statements(settings)
    pools = Pools()
    before: Callable[..., Any] = statements.before
    options: dict[str, Any] = {}
    if settings.sqlcommenter != "off":
        before, options = Commenter(settings, statements.before, statements.span_of).before, {"retval": True}
    listeners: list[tuple[Any, str, Callable[..., Any], dict[str, Any]]] = [
        (Engine, "before_cursor_execute", before, options),
        (Engine, "after_cursor_execute", statements.after, {}),
        (Engine, "handle_error", statements.failed, {}),
        (Pool, "checkin", pools.returned, {}),
        (Pool, "detach", pools.returned, {}),
    ]
    for target, name, listener, how in listeners:
        event.listen(target, name, listener, **how)
    unwrap = [pools.wrap(Engine)]
    if settings.sqlalchemy_transactions != "off":
        unwrap.append(Transactions(settings).wrap(Connection))

    def undo() -> None:
        for target, name, listener, _ in listeners:
            event.remove(target, name, listener)
        for step in unwrap:
            step()

    return undo


class _Kind:
    """What all runs of one statement on one engine have in common."""

    __slots__ = ("duration", "labels", "name", "shared", "text")

    def __init__(self, base: Mapping[str, Any], parsed: Statement, duration: Histogram) -> None:
        self.name = parsed.summary
        self.text = parsed.text
        self.labels = {**base, "db.operation.name": parsed.operation, "db.query.summary": parsed.summary}
        self.shared = Shared({**self.labels, "db.query.text": parsed.text})
        self.duration = door.records(duration, self.labels)


class _EngineState:
    """What is known of an engine, kept on it: its attributes, and the statements that it has run."""

    __slots__ = ("attributes", "kinds", "owner")

    def __init__(self, owner: _Statements, engine: Engine) -> None:
        self.owner = owner
        self.attributes = engine_attributes(engine)
        self.kinds: dict[str, _Kind] = {}


class _Running:
    """A statement that is being executed."""

    __slots__ = ("began_ns", "kind", "parent", "span")

    def __init__(self, span: Any, kind: _Kind, parent: Any) -> None:
        self.span = span
        self.kind = kind
        self.parent = parent
        self.began_ns = perf_counter_ns()


class _Statements:
    """The listeners of the cursor events."""

    def __init__(self, settings: Settings) -> None:
        meter = get_meter("otelkit.sqlalchemy")
        self._tracer = door.tracer("otelkit.sqlalchemy")
        self._logger = get_logger("otelkit.sqlalchemy")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self._repeated = instruments.counter(meter, semconv.DB_N_PLUS_ONE)
        self._too_often = settings.n_plus_one_threshold
        self._slow_ns = settings.slow_query_s * 1e9 or math.inf
        self._transactions = settings.sqlalchemy_transactions != "off"

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
                kind = self._kind(connection, sql)
                if kind is None:
                    return
            # A statement outside of any trace (a health check of the pool, a migration) makes no trace of its own.
            parent = door.parent_to_record()
            span = None
            if parent is not None:
                batch = _batch_size(parameters, context) if executemany else None
                span = self._tracer.begin(kind.name, SpanKind.CLIENT, kind.shared, batch)
            setattr(context, _STATE, _Running(span, kind, parent))
        except Exception:  # noqa: BLE001 - a statement is executed whatever telemetry does
            guard.report("the start of a statement's telemetry")

    def _kind(self, connection: Connection, sql: str) -> _Kind | None:
        if self._transactions and in_transaction_call(connection):
            return None
        engine = connection.engine
        state = vars(engine).get(_STATE)
        if state is None or state.owner is not self:
            state = _EngineState(self, engine)
            setattr(engine, _STATE, state)
        kind = _Kind(state.attributes, statement(sql, engine.dialect.name), self._duration)
        if len(sql) <= _LONGEST_KEPT and not (self._transactions and _of_a_transaction(kind)):
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
            parent = running.parent
            if parent is not None and self._too_often:
                tally = insights.ran(parent, running.kind.text, elapsed_ns)
                if tally is not None and tally.count >= self._too_often:
                    self._ran_too_often(running, tally)
            if elapsed_ns >= self._slow_ns:
                self._was_slow(running, elapsed_ns)
            if span is not None:
                span.end()
        except Exception:  # noqa: BLE001 - as above
            guard.report("the end of a statement's telemetry")

    @staticmethod
    def span_of(context: Any) -> Any:
        """The span of the statement that is being executed, None where it has none."""
        running: _Running | None = getattr(context, _STATE, None)
        return running.span if running is not None else None

    def _ran_too_often(self, running: _Running, tally: insights.Tally) -> None:
        if tally.count == self._too_often:
            tally.caller = insights.caller()
            if tally.caller is not None:
                running.span.set_attributes(tally.caller.attributes())
            self._repeated.add(1, running.kind.labels, with_span(running.parent))
        insights.mark(running.parent, running.kind.text, tally)

    def _was_slow(self, running: _Running, elapsed_ns: int) -> None:
        """One log record, in the statement's own span where it has one."""
        span = running.span
        caller = insights.caller()
        of_caller = caller.attributes() if caller is not None else {}
        if span is not None:
            span.set_attributes(of_caller)
        where = f" ({caller})" if caller is not None else ""
        self._logger.emit(
            context=with_span(span) if span is not None else None,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"slow query: {running.kind.name} took {elapsed_ns / 1e9:.3f} s{where}",
            event_name=SLOW_QUERY,
            attributes={**running.kind.shared, **of_caller, "otelkit.db.duration": elapsed_ns / 1e9},
        )

    @guard.guard("the end of a failed statement's telemetry")
    def failed(self, found: ExceptionContext) -> None:
        context = found.execution_context
        running: _Running | None = getattr(context, _STATE, None)
        if running is None:
            return
        setattr(context, _STATE, None)
        elapsed_ns = perf_counter_ns() - running.began_ns
        of_error, span = error_attributes(found.original_exception), running.span
        if span is not None:
            span.set_attributes(of_error)
            # The driver's message repeats literals and bind values of the statement: only its type is safe.
            span.set_status(StatusCode.ERROR, of_error["error.type"])
        labels = {**running.kind.labels, **of_error}
        self._duration.record(elapsed_ns / 1e9, labels, with_span(span) if span is not None else None)
        if elapsed_ns >= self._slow_ns:
            self._was_slow(running, elapsed_ns)
        if span is not None:
            span.end()


def _of_a_transaction(kind: _Kind) -> bool:
    """Whether it may be the library's own, which the next time must be told apart again."""
    return kind.labels["db.operation.name"] in ("SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "PREPARE", "BEGIN")


def _batch_size(parameters: Any, context: Any) -> dict[str, Any] | None:
    """The rows of an executemany, where there are several.

    Those of an INSERT with RETURNING are in one statement, its parameters one flat tuple or dict (`name__0`,
    `price__0`, `name__1`, …).
    """
    rows = 0
    if isinstance(parameters, Mapping):
        last = next(reversed(parameters), "").rpartition("__")[2]
        rows = int(last) + 1 if last.isdecimal() else 0
    elif isinstance(parameters, Sequence):
        one = parameters[0] if parameters else None
        if isinstance(one, (Mapping, Sequence)) and not isinstance(one, (str, bytes)):
            rows = len(parameters)
        else:
            rows = len(parameters) // max(1, len(getattr(context.compiled, "positiontup", None) or ()))
    return {"db.operation.batch.size": rows} if rows > 1 else None
