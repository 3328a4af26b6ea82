"""SQLAlchemy: one client span and one measurement a statement, sync and async; statements that repeat or take long.

Engines made earlier and connections that are open are seen too; context variables cross the greenlets of async engines.
Where a statement passes: sqlalchemy_dialects.py, pools: sqlalchemy_pools.py, transactions: sqlalchemy_transactions.py.
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
from otelkit.instrumentation.sqlalchemy_dialects import Dialects, is_initializing
from otelkit.instrumentation.sqlalchemy_pools import Pools, engine_attributes, error_attributes
from otelkit.instrumentation.sqlalchemy_transactions import Transactions, in_transaction_call
from otelkit.instrumentation.sqlcommenter import Commenter
from otelkit.runtime import guard
from otelkit.signals import insights

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_STATE = "_otelkit_state"
_KEPT_STATEMENTS = 512  # of an engine
_LONGEST_KEPT = 8192  # characters
SLOW_QUERY = "otelkit.db.slow_query"


def install(settings: Settings) -> Callable[[], None]:
    """Records the statements and pools of every engine; returns the undo."""
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.default import DefaultDialect
    from sqlalchemy.pool import Pool

    commenter = Commenter(settings) if settings.sqlcommenter != "off" else None
    dialects = Dialects(_Statements(settings), commenter.comment if commenter is not None else None)
    pools = Pools(dialects.watch)
    listeners: list[tuple[Any, str, Callable[..., Any]]] = [
        (Pool, "checkin", pools.returned),
        (Pool, "detach", pools.returned),
    ]
    for listener in listeners:
        event.listen(*listener)
    dialects.watch_all(DefaultDialect)
    restore = [dialects.undo, pools.wrap(Engine)]
    if settings.sqlalchemy_transactions != "off":
        restore.append(Transactions(settings).wrap(Connection))

    def undo() -> None:
        for listener in listeners:
            event.remove(*listener)
        for step in restore:
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


class _DialectState:
    """What is known of an engine, kept on its dialect: its attributes, and the statements that it has run."""

    __slots__ = ("attributes", "kinds", "owner")

    def __init__(self, owner: _Statements, engine: Engine) -> None:
        self.owner = owner
        self.attributes = engine_attributes(engine)
        self.kinds: dict[str, _Kind] = {}


class Running:
    """A statement that is being executed; `span` is None where it has none."""

    __slots__ = ("began_ns", "kind", "parent", "span")

    def __init__(self, span: Any, kind: _Kind, parent: Any) -> None:
        self.span = span
        self.kind = kind
        self.parent = parent
        self.began_ns = perf_counter_ns()


class _Statements:
    """Records what passes from the dialects to the drivers."""

    def __init__(self, settings: Settings) -> None:
        meter = get_meter("otelkit.sqlalchemy")
        self._tracer = door.tracer("otelkit.sqlalchemy")
        self._logger = get_logger("otelkit.sqlalchemy")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)
        self._repeated = instruments.counter(meter, semconv.DB_N_PLUS_ONE)
        self._too_often = settings.n_plus_one_threshold
        self._slow_ns = settings.slow_query_s * 1e9 or math.inf
        self._transactions = settings.sqlalchemy_transactions != "off"

    def begin(self, dialect: Any, sql: str, parameters: Any, context: Any, /) -> Running | None:
        if context is None or _STATE in vars(context):
            return None
        try:
            state = vars(dialect).get(_STATE)
            kind = state.kinds.get(sql) if state is not None and state.owner is self else None
            if kind is None:
                kind = self._kind(dialect, sql, context)
                if kind is None:
                    return None
            # A statement outside of any trace (a health check of the pool, a migration) makes no trace of its own.
            parent = door.parent_to_record()
            span = None
            if parent is not None:
                batch = _batch_size(parameters, context) if context.executemany else None
                span = self._tracer.begin(kind.name, SpanKind.CLIENT, kind.shared, batch)
            running = Running(span, kind, parent)
            setattr(context, _STATE, running)
            return running
        except Exception:  # noqa: BLE001 - a statement is executed whatever telemetry does
            guard.report("the start of a statement's telemetry")
            return None

    def _kind(self, dialect: Any, sql: str, context: Any) -> _Kind | None:
        connection = context.root_connection
        if is_initializing(connection) or (self._transactions and in_transaction_call(connection)):
            return None
        state = vars(dialect).get(_STATE)
        if state is None or state.owner is not self:
            state = _DialectState(self, connection.engine)
            setattr(dialect, _STATE, state)
        kind = _Kind(state.attributes, statement(sql, dialect.name), self._duration)
        if len(sql) <= _LONGEST_KEPT and not (self._transactions and _of_a_transaction(kind)):
            if len(state.kinds) >= _KEPT_STATEMENTS:
                state.kinds.clear()
            state.kinds[sql] = kind
        return kind

    def ended(self, running: Running, context: Any, /) -> None:
        try:
            elapsed_ns = perf_counter_ns() - running.began_ns
            delattr(context, _STATE)
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

    def _ran_too_often(self, running: Running, tally: insights.Tally) -> None:
        if tally.count == self._too_often:
            tally.caller = insights.caller()
            if tally.caller is not None:
                running.span.set_attributes(tally.caller.attributes())
            self._repeated.add(1, running.kind.labels, with_span(running.parent))
        insights.mark(running.parent, running.kind.text, tally)

    def _was_slow(self, running: Running, elapsed_ns: int) -> None:
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
    def failed(self, running: Running, context: Any, error: BaseException, /) -> None:
        elapsed_ns = perf_counter_ns() - running.began_ns
        delattr(context, _STATE)
        of_error, span = error_attributes(error), running.span
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
