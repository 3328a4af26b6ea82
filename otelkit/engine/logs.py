"""The logger provider: one object for the life of the process, over an SDK provider that is opened and closed (see
tracing.py).
"""

from __future__ import annotations

from typing import Any

from opentelemetry import _logs as api
from opentelemetry.context import Context
from opentelemetry.sdk import _logs as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import Attributes

from otelkit.engine.seams import ForklessLoggerProvider


class LoggerProvider(ForklessLoggerProvider):
    """Re-openable; processors that users add stay over every opening."""

    def __init__(self) -> None:
        self._inner: sdk.LoggerProvider | None = None
        self._added: list[sdk.LogRecordProcessor] = []
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())
        self.generation = 0

    def open(self, inner: sdk.LoggerProvider) -> None:
        """Makes every logger of this provider one of `inner`'s."""
        for processor in self._added:
            inner.add_log_record_processor(processor)
        self._inner = inner
        self.generation += 1

    @property
    def inner(self) -> sdk.LoggerProvider:
        """The SDK provider of the present opening."""
        assert self._inner is not None
        return self._inner

    @property
    def resource(self) -> Resource:
        return self._inner.resource if self._inner is not None else Resource.get_empty()

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Logger:
        return Logger(self, name, version, schema_url, attributes)

    def add_log_record_processor(self, log_record_processor: sdk.LogRecordProcessor) -> None:
        self._added.append(log_record_processor)
        self.inner.add_log_record_processor(log_record_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self.inner.shutdown()


class Logger(api.Logger):
    """A logger of the provider's present opening."""

    def __init__(
        self,
        provider: LoggerProvider,
        name: str,
        version: str | None,
        schema_url: str | None,
        attributes: Attributes,
    ) -> None:
        super().__init__(name, version, schema_url, attributes)
        self._provider = provider
        self._arguments = (name, version, schema_url, attributes)
        self._generation = -1
        self._real: api.Logger = api.NoOpLogger(name)

    def _current(self) -> api.Logger:
        if self._generation != self._provider.generation:
            generation = self._provider.generation
            self._real = self._provider.inner.get_logger(*self._arguments)
            self._generation = generation
        return self._real

    def emit(self, record: api.LogRecord | None = None, **fields: Any) -> None:
        if record is not None:
            self._current().emit(record)
        else:
            self._current().emit(**fields)

    def enabled(
        self,
        *,
        context: Context | None = None,
        severity_number: api.SeverityNumber | None = None,
        event_name: str | None = None,
    ) -> bool:
        return self._current().enabled(context=context, severity_number=severity_number, event_name=event_name)
