"""What a line of the tree says beside a span's name: the few attributes that tell, an exception in one line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from otelkit.signals.fingerprints import in_application

Part = tuple[str, str]
"""A piece of text and its style."""

_MOST_ATTRIBUTES = 6
# What instrumentations record by convention; all other attributes are the application's, and are shown.
_CONVENTIONS = (
    "asgi.",
    "celery.",
    "client.",
    "code.",
    "db.",
    "error.",
    "exception.",
    "http.",
    "messaging.",
    "net.",
    "network.",
    "otel.",
    "otelkit.",
    "peer.",
    "request.id",
    "rpc.",
    "server.",
    "service.",
    "thread.",
    "url.",
    "user_agent.",
)
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)


def outcome(span: ReadableSpan) -> list[Part]:
    """How it went, in the words of its protocol: an HTTP status, a task's state unless it succeeded."""
    attributes = span.attributes or {}
    found: list[Part] = []
    status = attributes.get("http.response.status_code", attributes.get("http.status_code"))
    if status is not None:
        found.append((str(status), _status_style(status)))
    state = attributes.get("celery.task.state")
    if state is not None and state != "SUCCESS":
        found.append((str(state), "bold red" if state == "FAILURE" else "yellow"))
    return found


def telling(span: ReadableSpan, above: Mapping[str, object]) -> list[Part]:
    """What is worth knowing of a span, the longest last; `above` are the parent's attributes, not to be repeated."""
    attributes = dict(span.attributes or {})
    found: list[Part] = []
    if span.kind is SpanKind.SERVER:
        path = attributes.get("url.path")
        if path is not None and str(path) not in span.name:
            found.append((str(path), "dim"))
    elif "url.full" in attributes:
        found.append((str(attributes["url.full"]), "dim"))
    found += _messaging(attributes)
    found += own(attributes, above)
    found += _database(attributes, span.name)
    return found


def _status_style(status: object) -> str:
    code = status if isinstance(status, int) else 0
    return "bold red" if code >= 500 else "yellow" if code >= 400 else "green"


def _messaging(attributes: Mapping[str, object]) -> list[Part]:
    found: list[Part] = []
    retries = attributes.get("celery.task.retries")
    if retries:
        found.append((f"retry {retries}", "yellow"))
    destination = attributes.get("messaging.destination.name")
    wait_s = attributes.get("celery.task.queue.duration")
    if isinstance(wait_s, (int, float)):
        found.append((f"waited {duration(wait_s * 1e9)} in queue {destination}", "dim"))
    elif destination:
        found.append((f"queue {destination}", "dim"))
    return found


def _database(attributes: Mapping[str, object], name: str) -> list[Part]:
    found: list[Part] = []
    if size := attributes.get("db.operation.batch.size"):
        found.append((f"batch of {size}", ""))
    text = attributes.get("db.query.text", attributes.get("db.statement"))
    if text and str(text) != name:
        found.append((" ".join(str(text).split()), "dim"))
    elif system := attributes.get("db.system.name", attributes.get("db.system")):
        found.append((str(system), "dim"))
    return found


def own(attributes: Mapping[str, object], above: Mapping[str, object]) -> list[Part]:
    """The application's attributes that `above` does not have alike, the first few."""
    found = [
        f"{key}={_value(value)}"
        for key, value in attributes.items()
        if not key.startswith(_CONVENTIONS) and above.get(key) != value
    ]
    shown = found[:_MOST_ATTRIBUTES]
    if len(found) > len(shown):
        shown.append(f"+{len(found) - len(shown)} more")
    return [(" ".join(shown), "cyan")] if shown else []


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception in short: what, and where in the application (empty where that is not known)."""

    type: str
    message: str
    place: str

    @property
    def key(self) -> tuple[str, str]:
        """Equal for the same exception on its way through several spans."""
        return self.type, self.message

    def parts(self) -> list[Part]:
        """The pieces of its line."""
        said = f"{self.type}: {first_line(self.message)}" if self.message else self.type
        return [(said, "red"), *([(self.place, "dim")] if self.place else [])]


def failure(attributes: Mapping[str, object] | None) -> Failure | None:
    """The exception that the `exception.*` attributes of a log record or span event tell of."""
    if not attributes or "exception.type" not in attributes:
        return None
    return Failure(
        str(attributes["exception.type"]),
        str(attributes.get("exception.message", "")),
        innermost_place(str(attributes.get("exception.stacktrace", ""))),
    )


def failures(span: ReadableSpan) -> list[Failure]:
    """The exceptions that are events of a span."""
    return [found for event in span.events if (found := failure(event.attributes)) is not None]


def first_line(text: str) -> str:
    """The first line, and how many follow."""
    first, *rest = text.strip().splitlines() or [""]
    return f"{first} (+{len(rest)} line{'s' * (len(rest) > 1)})" if rest else first


def failed(span: ReadableSpan) -> bool:
    """Whether the span's status is an error."""
    return span.status.status_code is StatusCode.ERROR


def innermost_place(stack_trace: str) -> str:
    """`file:line in function` of the application's last frame in a formatted stack trace, else of the last frame."""
    frames = list(_FRAME.finditer(stack_trace))
    own = [frame for frame in frames if in_application(frame["file"])]
    for frame in (own or frames)[-1:]:
        return f"{_short(frame['file'])}:{frame['line']} in {frame['function']}"
    return ""


def _short(file: str) -> str:
    with contextlib.suppress(OSError):  # the folder may have been removed
        here = os.getcwd() + os.sep
        if file.startswith(here):
            return file[len(here) :]
    return os.sep.join(file.split(os.sep)[-2:])


def duration(nanoseconds: float) -> str:
    """A duration for people: three digits that count, and the unit."""
    ms = nanoseconds / 1e6
    if ms < 1:
        return f"{ms:.2f} ms"
    if ms < 100:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes}m {seconds:02d}s"
