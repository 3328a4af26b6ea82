"""Events of business code: log records with an event name."""

from __future__ import annotations

from typing import Literal

from opentelemetry._logs import SeverityNumber, get_logger

from otelkit.api.attributes import AttributeValue
from otelkit.runtime import before

Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]

_logger = get_logger("otelkit")


def event(name: str, body: str | None = None, /, *, _severity: Severity = "info", **attrs: AttributeValue) -> None:
    """Emits an event in the current trace: `otelkit.event("user_registered", plan="pro")`.

    A log record with `name` as its event name (https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-eventname),
    `body` as the text that a person reads, and `attrs` as attributes.
    """
    if not before.live:
        before.note("otelkit.event")
    severity = SeverityNumber[_severity.upper()]
    _logger.emit(
        severity_number=severity,
        severity_text=severity.name,
        body=body if body is not None else name,
        event_name=name,
        attributes=attrs,
    )
