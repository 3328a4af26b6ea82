"""Values that belong to a request or a task: on every span and log record of it, and with the tasks that it starts.

A request or task opens a holder; `bind` writes into it. The holder is a mutable object in a context variable, since a
value set in a sync dependency (another thread's context) or below BaseHTTPMiddleware would be lost to the endpoint
otherwise. Its values are replaced and never changed, so that a span keeps what was bound at its start without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry.trace import Span

from otelkit.delivery.records import Shared

Value = str | bool | int | float

REQUEST_ID = "request.id"
_KNOWN_NAMES = {"user_id": "user.id", "session_id": "session.id", "request_id": REQUEST_ID}


class Holder:
    """What is bound in one request or task, and the span that stands for it; `over` once that has ended."""

    __slots__ = ("entry_span", "over", "values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values: Shared | None = Shared(values) if values else None
        self.entry_span: Span | None = None
        self.over = False

    def bind(self, values: Mapping[str, Value]) -> None:
        """Adds values."""
        self.values = Shared({**(self.values or {}), **values})

    def unbind(self, names: Iterable[str]) -> None:
        """Takes values away."""
        gone = frozenset(names)
        left = {name: value for name, value in (self.values or {}).items() if name not in gone}
        self.values = Shared(left) if left else None


class _Outside(Holder):
    """What is bound in a context that belongs to no request or task."""

    __slots__ = ()


_holder: ContextVar[Holder | None] = ContextVar("otelkit_bound", default=None)


def attribute_name(keyword: str) -> str:
    """The attribute that a keyword of `bind` becomes: the conventions' name where there is one."""
    return _KNOWN_NAMES.get(keyword, keyword)


def open_holder(values: Mapping[str, Value]) -> tuple[Token[Holder | None], Holder]:
    """Begins a request or task with these values; give the token to `close_holder`."""
    holder = Holder(values)
    return _holder.set(holder), holder


def to_share() -> Holder | None:
    """The holder for work that is handed to another thread: the request's own, which all of its work shares; outside of
    one a copy, so that what one piece of work binds is not another's.
    """
    found = _holder.get()
    if found is None or type(found) is Holder:
        return found
    return _Outside(bound_values()) if found.values else None


def share(holder: Holder | None) -> Token[Holder | None]:
    """Makes the holder of `to_share` that of this context; give the token to `close_holder`."""
    return _holder.set(holder)


def follows_another(token: Token[Holder | None]) -> bool:
    """Whether the context that a holder was opened in is that of a request or task that is over."""
    earlier = token.old_value
    return type(earlier) is Holder and earlier.over


def close_holder(token: Token[Holder | None]) -> None:
    """Ends the request or task; a token of another context (a stream that was broken off there) is let go."""
    try:
        _holder.reset(token)
    except ValueError:
        _holder.set(None)


def holder() -> Holder:
    """The holder of the current request or task; outside of one, a new one for the current context."""
    found = _holder.get()
    if found is None:
        found = _Outside({})
        _holder.set(found)
    return found


def bind_if_open(values: Mapping[str, Value]) -> None:
    """Adds values to the current request or task; outside of one it does nothing."""
    found = _holder.get()
    if type(found) is Holder and values:
        found.bind(values)


def bound() -> Shared | None:
    """What is bound now."""
    found = _holder.get()
    return found.values if found is not None else None


def bound_values() -> dict[str, Any]:
    """A copy of it."""
    return {**(bound() or {})}
