"""The log records of a captured test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, overload

from opentelemetry.sdk._logs import ReadWriteLogRecord

from otelkit.testing.attributes import Attributes, carries, shown, wanted

if TYPE_CHECKING:
    from otelkit.testing.capturing import Captured
    from otelkit.testing.spans import CapturedSpan

Level = Literal["trace", "debug", "info", "warning", "error", "critical"]

_LEVELS: tuple[Level, ...] = ("trace", "debug", "info", "warning", "error", "critical")
_SYNONYMS = {"warn": "warning", "fatal": "critical"}


class CapturedLog:
    """A log record; `otel` is the SDK's."""

    __slots__ = ("_captured", "otel")

    def __init__(self, record: ReadWriteLogRecord, captured: Captured) -> None:
        self.otel = record
        self._captured = captured

    @property
    def text(self) -> str:
        """The message."""
        return str(self.otel.log_record.body)

    @property
    def level(self) -> Level:
        """Its level, whatever name the logging library has for it."""
        severity = self.otel.log_record.severity_number
        number = severity.value if severity is not None else 0
        return _LEVELS[max(0, number - 1) // 4]

    @property
    def logger(self) -> str:
        """The name of its logger."""
        scope = self.otel.instrumentation_scope
        return scope.name if scope is not None else ""

    @property
    def event_name(self) -> str | None:
        """The name of the event, for what `otelkit.event` emits."""
        return self.otel.log_record.event_name or None

    @property
    def attributes(self) -> Attributes:
        """What it carries beside the message."""
        return dict(self.otel.log_record.attributes or {})

    @property
    def trace_id(self) -> str:
        """32 hex digits, zeros outside of a trace."""
        return f"{self.otel.log_record.trace_id or 0:032x}"

    @property
    def span_id(self) -> str:
        """16 hex digits, zeros outside of a span."""
        return f"{self.otel.log_record.span_id or 0:016x}"

    @property
    def span(self) -> CapturedSpan | None:
        """The ended span that it was emitted in."""
        return self._captured.span_of(self.trace_id, self.span_id)

    def __repr__(self) -> str:
        return f"<{self.level} {self.logger}: {self.text!r}>"


class Logs(Sequence[CapturedLog]):
    """Log records in the order in which they were emitted; each filter gives another such collection."""

    def __init__(self, records: Sequence[CapturedLog], captured: Captured) -> None:
        self._records = tuple(records)
        self._captured = captured

    def where(self, condition: Callable[[CapturedLog], bool]) -> Logs:
        """Those for which the condition holds."""
        return Logs([record for record in self._records if condition(record)], self._captured)

    def with_text(self, text: str) -> Logs:
        """Those whose message contains the text."""
        return self.where(lambda record: text in record.text)

    def at_level(self, level: str | int) -> Logs:
        """Those at this level: a name as `"warning"`, or a number as `logging.WARNING`."""
        name = (logging.getLevelName(level) if isinstance(level, int) else level).lower()
        name = _SYNONYMS.get(name, name)
        if name not in _LEVELS:
            raise ValueError(f"{level!r} is no level; there are {', '.join(_LEVELS)}")
        return self.where(lambda record: record.level == name)

    def of_logger(self, name: str) -> Logs:
        """Those of a logger."""
        return self.where(lambda record: record.logger == name)

    def events(self, name: str) -> Logs:
        """Those that `otelkit.event` emitted under this name."""
        return self.where(lambda record: record.event_name == name)

    def with_attributes(self, attributes: Attributes | None = None, /, **attrs: object) -> Logs:
        """Those that carry all of these; dotted keys go into the mapping."""
        sought = wanted(attributes, attrs)
        return self.where(lambda record: carries(record.attributes, sought))

    def one(self) -> CapturedLog:
        """The only one. Raises AssertionError, with all telemetry as a tree, where there is none or more."""
        __tracebackhide__ = True
        if len(self._records) != 1:
            raise AssertionError(f"{len(self)} log records match, expected 1\n\n{self.explain()}")
        return self._records[0]

    def explain(self) -> str:
        """These records, a line each, and all telemetry as a tree."""
        lines = [f"{record.level} {record.logger}: {record.text} {shown(record.attributes)}" for record in self]
        return "\n".join([*lines, "", self._captured.tree()])

    @overload
    def __getitem__(self, index: int) -> CapturedLog: ...
    @overload
    def __getitem__(self, index: slice) -> Logs: ...
    def __getitem__(self, index: int | slice) -> CapturedLog | Logs:
        if isinstance(index, slice):
            return Logs(self._records[index], self._captured)
        return self._records[index]

    def __iter__(self) -> Iterator[CapturedLog]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<{len(self)} log records: {', '.join(repr(record.text) for record in self)}>"
