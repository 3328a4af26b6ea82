"""Handled exceptions that somebody should see."""

from __future__ import annotations

from opentelemetry._logs import SeverityNumber

from otelkit.api.attributes import AttributeValue
from otelkit.runtime import before
from otelkit.signals import exceptions


def exception(error: BaseException | None = None, /, *, _handled: bool = True, **attrs: AttributeValue) -> str:
    """Records an exception as one log record and returns its fingerprint, equal for the same error at the same place.

    Without an argument it records the one that is being handled. `_handled` makes it a WARN, else an ERROR; the
    current span's status stays as it is. An exception that was recorded already is not recorded again.

    Raises ValueError when no exception is given and none is being handled.
    """
    if not before.live:
        before.note("otelkit.exception")
    error = error if error is not None else exceptions.current()
    if error is None:
        raise ValueError("otelkit.exception(): no exception is being handled; call it in an except block or pass one")
    severity = SeverityNumber.WARN if _handled else SeverityNumber.ERROR
    return exceptions.emit(error, attrs, severity=severity)
