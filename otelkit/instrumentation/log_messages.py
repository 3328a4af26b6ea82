"""A record's message as it leaves the process: without what servers, clients, Celery and the event loop write into
theirs and nobody may export, the values of query parameters and what tasks and callbacks were given and returned.

The record itself stays as it is, since the application's own handlers print it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from logging import LogRecord

from otelkit.signals import urls

REDACTED = "REDACTED"

_ARGUMENTS = re.compile(r"((?:Handle|callback) [\w.<>]+)\(.*\)")
_RESULT = re.compile(r"\bresult=.*>")
_SECRET_FIELDS = ("args", "kwargs", "return_value")


def message(record: LogRecord) -> str:
    """The message to export; beside an exception, whose text it may repeat, without the values in URLs.

    Raises what formatting raises.
    """
    text = MESSAGES.get(record.name, LogRecord.getMessage)(record)
    return urls.without_values(text) if record.exc_info else text


def _without_query_values(record: LogRecord) -> str:
    return urls.without_values(record.getMessage())


def _without_task_values(record: LogRecord) -> str:
    """Celery fills its formats, which an application may have replaced, from one mapping with everything."""
    fields = record.args
    if not isinstance(fields, Mapping):
        return record.getMessage()
    return urls.without_values(str(record.msg) % {**fields, **dict.fromkeys(_SECRET_FIELDS, REDACTED)})


def _without_message_body(record: LogRecord) -> str:
    """The consumer's complaints about messages hold body and headers; what is wrong is said by an exception."""
    if not isinstance(record.args, tuple) or "body" not in str(record.msg):
        return record.getMessage()
    return str(record.msg) % tuple(arg if isinstance(arg, LookupError) else REDACTED for arg in record.args)


def _without_call(record: LogRecord) -> str:
    """The pool's `TaskPool: Apply <function> (args:… kwargs:…)`, at DEBUG."""
    if not isinstance(record.args, tuple) or "args" not in str(record.msg):
        return record.getMessage()
    return str(record.msg) % (*record.args[:1], *(REDACTED for _ in record.args[1:]))


def _without_arguments(record: LogRecord) -> str:
    """The event loop shows a callback that failed or was slow with its arguments, and a task with its result."""
    text = _RESULT.sub("result=REDACTED>", record.getMessage())
    return _ARGUMENTS.sub(rf"\1({REDACTED})", text)


MESSAGES: Mapping[str, Callable[[LogRecord], str]] = {
    "uvicorn.access": _without_query_values,
    "uvicorn.error": _without_query_values,  # the opening of a WebSocket
    "gunicorn.access": _without_query_values,
    "hypercorn.access": _without_query_values,
    "aiohttp.access": _without_query_values,
    "httpx": _without_query_values,
    "urllib3.connectionpool": _without_query_values,
    "urllib3.poolmanager": _without_query_values,  # a redirect
    "urllib3.util.retry": _without_query_values,
    "asyncio": _without_arguments,
    "celery.app.trace": _without_task_values,
    "celery.worker.strategy": _without_task_values,
    "celery.worker.consumer.consumer": _without_message_body,
    "celery.pool": _without_call,
}
"""By the logger's name; every other logger's message is exported as it is."""
