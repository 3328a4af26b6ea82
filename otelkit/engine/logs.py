"""The logger provider: one object for the life of the process, over openings that come and go (see tracing.py).

A log record that nobody but the OTLP pipeline wants takes the short way here. Where processors want to see it, or it
comes as a ready-made record or with an exception, the SDK's own logger of the opening makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from types import NoneType
from typing import Any

from opentelemetry import _logs as api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import _logs as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.util.types import Attributes

from otelkit.delivery.records import LogRecord, Shared
from otelkit.engine.attributes import SIMPLE, AttributeLimits, Taken
from otelkit.engine.context import SPAN_KEY, variable
from otelkit.engine.seams import ForklessLoggerProvider
from otelkit.engine.span import Span
from otelkit.engine.unsampled import UnsampledSpan
from otelkit.runtime import fork, guard
from otelkit.signals import correlation

_KEPT_LOGGERS = 1024
_SCALARS = (str, int, float, bytes, NoneType)
_new = object.__new__


class Record:
    """A log record of the short way, as the encoder reads it (delivery/records.py)."""

    __slots__ = (
        "body",
        "bound",
        "event_name",
        "flags",
        "instrumentation_scope",
        "observed_timestamp",
        "own",
        "severity_number",
        "severity_text",
        "shared",
        "slot",
        "span_id",
        "timestamp",
        "trace_id",
    )

    timestamp: int | None
    observed_timestamp: int | None
    severity_number: int
    severity_text: str | None
    body: object
    event_name: str | None
    trace_id: int
    span_id: int
    flags: int
    shared: Shared | None
    bound: Shared | None
    own: Taken | None
    slot: int
    instrumentation_scope: InstrumentationScope


class Logging:
    """What the loggers of one opening work with.

    `put` takes records, None where logs are not exported by OTLP. `make_sdk` makes the SDK's provider that takes the
    long way, `long` says that every record goes there.
    """

    def __init__(
        self,
        *,
        resource: Resource,
        limits: sdk.LogRecordLimits,
        put: Callable[[LogRecord], None] | None,
        make_sdk: Callable[[], sdk.LoggerProvider],
        flush: Callable[[int], bool] | None,
        long: bool,
    ) -> None:
        self.resource = resource
        self.attributes = AttributeLimits(limits.max_log_record_attributes, limits.max_log_record_attribute_length)
        self.put = put
        self.flush = flush
        self.long = long
        self._make_sdk = make_sdk
        self._sdk: sdk.LoggerProvider | None = None

    @property
    def sdk(self) -> sdk.LoggerProvider:
        """The SDK's provider of this opening, made when it is first needed."""
        if self._sdk is None:
            self._sdk = self._make_sdk()
        return self._sdk


class LoggerProvider(ForklessLoggerProvider):
    """Re-openable; processors that users add stay over every opening."""

    def __init__(self) -> None:
        self.logging: Logging | None = None
        self._added: list[sdk.LogRecordProcessor] = []
        self._made: dict[InstrumentationScope, Logger] = {}
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())

    def open(self, logging: Logging) -> None:
        """Lets every logger of this provider work for this opening."""
        for processor in self._added:
            _add(logging, processor)
        self.logging = logging

    @property
    def resource(self) -> Resource:
        return self.logging.resource if self.logging is not None else Resource.get_empty()

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Logger:
        logger = Logger(self, name, version, schema_url, attributes)
        if len(self._made) >= _KEPT_LOGGERS:
            return logger  # an application that makes up names
        return self._made.setdefault(logger.scope, logger)

    def add_log_record_processor(self, log_record_processor: sdk.LogRecordProcessor) -> None:
        self._added.append(log_record_processor)
        if self.logging is not None:
            _add(self.logging, log_record_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        logging = self.logging
        if logging is None:
            return True
        if logging.long:
            return logging.sdk.force_flush(timeout_millis)
        return logging.flush(timeout_millis) if logging.flush is not None else True

    def shutdown(self) -> None:
        if self.logging is not None and self.logging.long:
            self.logging.sdk.shutdown()


def _add(logging: Logging, processor: sdk.LogRecordProcessor) -> None:
    logging.sdk.add_log_record_processor(processor)
    logging.long = True


class Logger(sdk.Logger):
    """A logger of the provider's present opening."""

    def __init__(
        self,
        provider: LoggerProvider,
        name: str,
        version: str | None,
        schema_url: str | None,
        attributes: Attributes,
    ) -> None:
        # Not the SDK's, which wants what an opening has.
        api.Logger.__init__(self, name, version, schema_url, attributes)
        self._provider = provider
        self._arguments = (name, version, schema_url, attributes)
        self.scope = InstrumentationScope(name, version, schema_url, attributes)
        self._for: Logging | None = None
        self._long: api.Logger = api.NoOpLogger(name)

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        return self.scope

    @property
    def resource(self) -> Resource:
        return self._provider.resource

    def emit(
        self,
        record: api.LogRecord | None = None,
        *,
        timestamp: int | None = None,
        observed_timestamp: int | None = None,
        context: Context | None = None,
        severity_number: api.SeverityNumber | None = None,
        severity_text: str | None = None,
        body: Any = None,
        attributes: Attributes = None,
        event_name: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        logging = self._provider.logging
        if logging is None:
            return
        if record is not None:
            with guard.guarded("a log record"):
                self._of_the_sdk(logging).emit(record)
        elif logging.long or exception is not None:
            with guard.guarded("a log record"):
                self._of_the_sdk(logging).emit(
                    timestamp=timestamp,
                    observed_timestamp=observed_timestamp,
                    context=context,
                    severity_number=severity_number,
                    severity_text=severity_text,
                    body=body,
                    attributes=attributes,
                    event_name=event_name,
                    exception=exception,
                )
        else:
            self.write(
                timestamp,
                getattr(severity_number, "value", 0),
                severity_text,
                body,
                attributes=attributes,
                event_name=event_name,
                context=context,
                observed_timestamp=observed_timestamp,
            )

    def write(
        self,
        timestamp: int | None,
        severity_number: int,
        severity_text: str | None,
        body: Any,
        shared: Shared | None = None,
        attributes: Mapping[str, Any] | None = None,
        event_name: str | None = None,
        context: Context | None = None,
        observed_timestamp: int | None = None,
    ) -> None:
        """Emits a record, as `emit` does: the door for otelkit's own instrumentations.

        `shared` are attributes that many records have, such as their place in the code: not copied, encoded once.
        """
        logging = self._provider.logging
        if logging is None:
            return
        if logging.long:
            with guard.guarded("a log record"):
                self._of_the_sdk(logging).emit(
                    timestamp=timestamp,
                    observed_timestamp=observed_timestamp,
                    context=context,
                    severity_number=api.SeverityNumber(severity_number),
                    severity_text=severity_text,
                    body=body,
                    attributes={**(shared or {}), **(attributes or {})},
                    event_name=event_name,
                )
            return
        put = logging.put
        if put is None:
            return
        record = _new(Record)
        span = (context or variable.get()).get(SPAN_KEY)
        if span is None:
            fork.check()
            logging = self._provider.logging or logging
            put = logging.put or put
            record.trace_id = record.span_id = record.flags = 0
        elif type(span) is Span or type(span) is UnsampledSpan:
            record.trace_id = span.trace_id
            record.span_id = span.span_id
            record.flags = span.flags & 0xFF
        else:
            found = span.get_span_context() if isinstance(span, trace.Span) else trace.INVALID_SPAN_CONTEXT
            record.trace_id = found.trace_id
            record.span_id = found.span_id
            record.flags = int(found.trace_flags)
        record.timestamp = timestamp
        record.observed_timestamp = time_ns() if observed_timestamp is None else observed_timestamp
        record.severity_number = severity_number
        record.severity_text = severity_text
        record.event_name = event_name
        record.instrumentation_scope = self.scope
        record.shared = shared
        record.bound = bound = correlation.bound()
        record.own = own = None
        record.body = body if type(body) in SIMPLE else None
        try:
            if record.body is not body:
                record.body = _snapshot(body)
            if logging.attributes.tight and (shared is not None or bound is not None):
                everything = {**(bound or {}), **(shared or {}), **(attributes or {})}
                record.own = logging.attributes.bounded(everything)
                record.shared = record.bound = shared = bound = None
            elif attributes:
                record.own = own = logging.attributes.take(attributes)
        except Exception:  # noqa: BLE001 - a value that cannot be read must not fail the application
            guard.report("the attributes of a log record")
        if shared is not None and bound is not None and not shared.keys().isdisjoint(bound):
            record.bound = bound = Shared({key: value for key, value in bound.items() if key not in shared})
        if own is not None:
            if bound is not None and not bound.keys().isdisjoint(own):
                record.bound = Shared({key: value for key, value in bound.items() if key not in own})
            if shared is not None and not shared.keys().isdisjoint(own):
                record.shared = Shared({key: value for key, value in shared.items() if key not in own})
        put(record)

    def _of_the_sdk(self, logging: Logging) -> api.Logger:
        if logging is not self._for:
            self._long = logging.sdk.get_logger(*self._arguments)
            self._for = logging
        return self._long

    def enabled(
        self,
        *,
        context: Context | None = None,
        severity_number: api.SeverityNumber | None = None,
        event_name: str | None = None,
    ) -> bool:
        logging = self._provider.logging
        if logging is None:
            return False
        if not logging.long:
            return logging.put is not None
        return self._of_the_sdk(logging).enabled(
            context=context, severity_number=severity_number, event_name=event_name
        )


def _snapshot(body: Any) -> Any:
    """A body that nobody changes any more, as the encoder would read it now."""
    if isinstance(body, _SCALARS):
        return body
    if isinstance(body, bytearray):
        return bytes(body)
    if isinstance(body, Mapping):
        return {key: _snapshot(value) for key, value in body.items()}
    if isinstance(body, (Sequence, set, frozenset)):
        return tuple(map(_snapshot, body))
    return str(body)
