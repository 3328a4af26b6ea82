"""SQLAlchemy's transactions, savepoints and two phases, as events of the current span or as spans, by setting.

The library's own events come before each step and do not say how it ended, so the methods that take the steps are
wrapped, each at its class `Connection`. Some steps are statements (SAVEPOINT, PREPARE TRANSACTION): within a step no
statement is recorded by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import get_meter
from opentelemetry.trace import SpanKind, StatusCode

from otelkit import semconv
from otelkit.config.settings import Settings
from otelkit.engine import door
from otelkit.engine.context import with_span
from otelkit.instrumentation import instruments
from otelkit.instrumentation.sqlalchemy_pools import engine_attributes, error_attributes
from otelkit.runtime import guard

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_STEPS = {
    "_begin_impl": "BEGIN",
    "_commit_impl": "COMMIT",
    "_rollback_impl": "ROLLBACK",
    "_savepoint_impl": "SAVEPOINT",
    "_release_savepoint_impl": "RELEASE SAVEPOINT",
    "_rollback_to_savepoint_impl": "ROLLBACK TO SAVEPOINT",
    "_begin_twophase_impl": "BEGIN TWOPHASE",
    "_prepare_twophase_impl": "PREPARE TRANSACTION",
    "_commit_twophase_impl": "COMMIT PREPARED",
    "_rollback_twophase_impl": "ROLLBACK PREPARED",
}
_IN_STEP = "_otelkit_in_step"


def in_transaction_call(connection: Connection) -> bool:
    """Whether a statement is part of a step of a transaction."""
    return _IN_STEP in vars(connection)


class Transactions:
    """Records each step; `events` or `spans` as the setting says."""

    def __init__(self, settings: Settings) -> None:
        self._tracer = door.tracer("otelkit.sqlalchemy")
        self._spans = settings.sqlalchemy_transactions == "spans"
        meter = get_meter("otelkit.sqlalchemy")
        self._duration = instruments.histogram(meter, semconv.DB_CLIENT_OPERATION_DURATION)

    def wrap(self, connection_class: type[Connection]) -> Callable[[], None]:
        """Wraps the methods that take the steps; returns the undo."""
        restore = []
        for name, step in _STEPS.items():
            original = getattr(connection_class, name)
            wrapper = self._wrapper(original, step)
            setattr(connection_class, name, wrapper)
            restore.append((name, wrapper, original))

        def undo() -> None:
            for name, wrapper, original in restore:
                if vars(connection_class).get(name) is wrapper:
                    setattr(connection_class, name, original)

        return undo

    def _wrapper(self, original: Callable[..., Any], step: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(connection: Connection, *args: Any, **options: Any) -> Any:
            state = vars(connection)
            state[_IN_STEP] = True
            span = None
            began_ns = perf_counter_ns()
            try:
                span = self._begin(connection, step)
                result = original(connection, *args, **options)
            except BaseException as error:
                self._end(connection, step, span, perf_counter_ns() - began_ns, error)
                raise
            finally:
                state.pop(_IN_STEP, None)
            self._end(connection, step, span, perf_counter_ns() - began_ns, None)
            return result

        return wrapper

    @guard.guard("the start of a transaction's telemetry")
    def _begin(self, connection: Connection, step: str) -> Any:
        """The step's own span, or the current one that gets its event."""
        parent = door.parent_to_record()
        if parent is None or not self._spans:
            return parent
        return self._tracer.begin(step, SpanKind.CLIENT, None, self._labels(connection, step))

    @guard.guard("the end of a transaction's telemetry")
    def _end(self, connection: Connection, step: str, span: Any, elapsed_ns: int, error: BaseException | None) -> None:
        of_error = error_attributes(getattr(error, "orig", None) or error) if error is not None else {}
        if not self._spans:
            if span is not None and span.is_recording():
                span.add_event(f"db.transaction.{step.lower().replace(' ', '_')}", of_error)
            return
        labels = {**self._labels(connection, step), **of_error}
        self._duration.record(elapsed_ns / 1e9, labels, with_span(span) if span is not None else None)
        if span is not None:
            if error is not None:
                span.set_attributes(of_error)
                span.set_status(StatusCode.ERROR, of_error["error.type"])
            span.end()

    def _labels(self, connection: Connection, step: str) -> dict[str, Any]:
        return {**engine_attributes(connection.engine), "db.operation.name": step, "db.query.summary": step}
