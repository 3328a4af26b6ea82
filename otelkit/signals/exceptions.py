"""Exceptions as records: one log record each, however many spans they pass, and the marks on those spans.

Follows https://opentelemetry.io/docs/specs/semconv/exceptions/ : `exception.*` attributes on a log record and, unless
`OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs`, on a span event too; `error.type` and the status on the span.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping

from opentelemetry._logs import SeverityNumber, get_logger
from opentelemetry.trace import Span, StatusCode

from otelkit.signals import urls, validation
from otelkit.signals.fingerprints import fingerprint as fingerprint
from otelkit.signals.fingerprints import type_name as type_name

FINGERPRINT = "otelkit.error.fingerprint"
_MARK = "__otelkit_fingerprint__"
_LOGGER = "otelkit.exceptions"
_LONGEST_STACK = 32_768
"""In characters: a recursion's trace is longer than any value may be, and what is cut off there is where it failed."""

span_events = True
"""Whether exceptions become span events as well; wiring sets it from the settings."""


def is_expected(error: BaseException) -> bool:
    """Whether an exception is an answer and no error: Starlette's and FastAPI's HTTPException below 500, and that the
    client has gone away.
    """
    if client_left(error):
        return True
    status = getattr(error, "status_code", None)
    return (
        isinstance(status, int)
        and status < 500
        and any(kind.__name__ == "HTTPException" for kind in type(error).__mro__)
    )


def client_left(error: BaseException) -> bool:
    """Whether an exception says that the client has gone away: Starlette's of a request and of a websocket."""
    return any(
        kind.__name__ in ("ClientDisconnect", "WebSocketDisconnect") and kind.__module__.startswith("starlette.")
        for kind in type(error).__mro__
    )


def stack_trace(error: BaseException) -> str:
    """The formatted stack trace, causes and contexts included; a long one without its middle; never raises."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        text = urls.without_values(validation.without_values(text, error))
        if len(text) <= _LONGEST_STACK:
            return text
        quarter = _LONGEST_STACK // 4
        return f"{text[:quarter]}\n  … {len(text) - 4 * quarter} characters …\n{text[-3 * quarter :]}"
    except Exception:  # noqa: BLE001 - an exception whose __str__ raises is still worth its type
        return f"{type_name(error)}: <its text cannot be made>\n"


def message(error: BaseException) -> str:
    """The exception's text, without the values that did not pass a validation and those in URLs; never raises."""
    try:
        return validation.summary(error) or urls.without_values(str(error))
    except Exception:  # noqa: BLE001 - see above
        return "<its text cannot be made>"


def described(error: BaseException) -> dict[str, str]:
    """The `exception.*` attributes of an exception; never raises."""
    return {
        "exception.type": type_name(error),
        "exception.message": message(error),
        "exception.stacktrace": stack_trace(error),
    }


def attributes(error: BaseException) -> dict[str, str]:
    """The `exception.*` attributes and the fingerprint of an exception; the fingerprint also marks it as recorded."""
    return {**described(error), FINGERPRINT: mark(error)}


def mark(error: BaseException) -> str:
    """Marks an exception as recorded and returns its fingerprint; the first mark stays."""
    known = recorded(error)
    if known is not None:
        return known
    value = fingerprint(error)
    vars(error)[_MARK] = value
    return value


def recorded(error: BaseException) -> str | None:
    """The fingerprint of an exception that has its record already."""
    found = vars(error).get(_MARK)
    return found if isinstance(found, str) else None


def mentioned(error: BaseException) -> dict[str, str]:
    """What a further record says of an exception: all of it for the first time, then type and fingerprint, since the
    stack trace stands in the record that was first.
    """
    known = recorded(error)
    return attributes(error) if known is None else {"exception.type": type_name(error), FINGERPRINT: known}


def record(span: Span, error: BaseException) -> None:
    """Marks a span as failed by an exception that leaves it, and emits the exception's log record unless it has one."""
    if is_expected(error):
        return
    if span.is_recording():
        span.set_attribute("error.type", type_name(error))
        span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {message(error)}")
        if span_events and isinstance(error, Exception):
            # Not record_exception: the SDK's raises for an exception without a text.
            span.add_event("exception", described(error))
    emit(error)


def emit(
    error: BaseException, extra: Mapping[str, object] | None = None, *, severity: SeverityNumber = SeverityNumber.ERROR
) -> str:
    """Emits an exception's log record in the current context unless it has one; returns the fingerprint."""
    known = recorded(error)
    if known is not None:
        return known
    found = attributes(error)
    get_logger(_LOGGER).emit(
        severity_number=severity,
        severity_text=severity.name,
        body=f"{found['exception.type']}: {found['exception.message']}",
        event_name="exception",
        attributes={**found, **(extra or {})},  # type: ignore[dict-item]
    )
    return found[FINGERPRINT]


def current() -> BaseException | None:
    """The exception that is being handled."""
    return sys.exc_info()[1]
