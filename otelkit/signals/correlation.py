"""Values that belong to a request or a task: on every span and log record of it, and with the tasks that it starts.

A request or task opens a holder; `bind` writes into it. The holder is a mutable object in a context variable, since a
value set in a sync dependency (another thread's context) or below BaseHTTPMiddleware would be lost to the endpoint
otherwise. Its values are replaced and never changed, so that a span keeps what was bound at its start without a copy.

What holds for a block (`with otelkit.bind(…)`) is another matter: two tasks of one request may each have such a block
at the same time. It is a scope of its own above the holder, in the block's context and those that are copied from it.
But the context of a thread that the framework runs a sync dependency in is gone before its block ends: there the block
lends its values to the request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry.trace import Span

from otelkit.delivery.records import Shared

Value = str | bool | int | float

REQUEST_ID = "request.id"
_KNOWN_NAMES = {"user_id": "user.id", "session_id": "session.id", "request_id": REQUEST_ID}


class Holder:
    """What is bound in one request or task, and the span that stands for it; `over` once that has ended."""

    __slots__ = ("_lent", "entry_span", "over", "values")

    def __init__(self, values: Mapping[str, Value]) -> None:
        # Not `_lent`: nearly no request lends anything, and each would pay for saying so.
        self.values: Shared | None = Shared(values) if values else None
        self.entry_span: Span | None = None
        self.over = False

    def bind(self, values: Mapping[str, Value]) -> None:
        """Adds values."""
        lent: _Lent | None = getattr(self, "_lent", None)
        if lent is None:
            self.values = Shared({**(self.values or {}), **values})
        else:
            lent.base.update(values)
            self.values = lent.merged()

    def unbind(self, names: Iterable[str]) -> None:
        """Takes values away."""
        gone = frozenset(names)
        lent: _Lent | None = getattr(self, "_lent", None)
        if lent is None:
            left = {name: value for name, value in (self.values or {}).items() if name not in gone}
            self.values = Shared(left) if left else None
        else:
            for values in (lent.base, *lent.blocks):
                for name in gone:
                    values.pop(name, None)
            self.values = lent.merged()

    def bound(self, name: str) -> Value | None:
        """What a name is bound to, whatever blocks lend."""
        lent: _Lent | None = getattr(self, "_lent", None)
        found: Mapping[str, Any] = (self.values or {}) if lent is None else lent.base
        return found.get(name)

    def restore(self, name: str, value: Value | None) -> None:
        """Binds a name as it was before, None for not at all; what blocks lend stays."""
        lent: _Lent | None = getattr(self, "_lent", None)
        found: dict[str, Any] = {**(self.values or {})} if lent is None else lent.base
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
        self.values = lent.merged() if lent is not None else Shared(found) if found else None

    def lend(self, values: dict[str, Value]) -> None:
        """Adds values until `take_back`; of several blocks that lend one name the latest counts."""
        lent: _Lent | None = getattr(self, "_lent", None)
        if lent is None:
            found: dict[str, Any] = {**(self.values or {})}
            lent = self._lent = _Lent(found)
        lent.blocks.append(values)
        self.values = lent.merged()

    def take_back(self, values: dict[str, Value]) -> None:
        """Ends a loan; others that were lent meanwhile stay, and what was bound before is there again."""
        lent: _Lent | None = getattr(self, "_lent", None)
        if lent is None:
            return
        lent.blocks = [each for each in lent.blocks if each is not values]
        self.values = lent.merged()
        if not lent.blocks:
            del self._lent


class _Lent:
    """What blocks lend to their request, above what it has itself."""

    __slots__ = ("base", "blocks")

    def __init__(self, base: dict[str, Any]) -> None:
        self.base = base
        self.blocks: list[dict[str, Value]] = []

    def merged(self) -> Shared | None:
        """All of it."""
        found = dict(self.base)
        for values in self.blocks:
            found.update(values)
        return Shared(found) if found else None


class Scope:
    """What is bound for a block, above what is bound around it; it shares the rest with all of the request."""

    __slots__ = ("_above", "_merged", "_own", "_parent", "_token")

    def __init__(self, parent: Holder | Scope, own: Mapping[str, Value]) -> None:
        self._parent = parent
        self._own = dict(own)
        self._above: Shared | None = None
        self._merged: Shared | None = None
        self._token: Token[Holder | Scope | None] = _holder.set(self)
        if _in_frameworks_thread():
            self.root.lend(self._own)

    @property
    def root(self) -> Holder:
        """The holder of the request or task."""
        return self._parent if isinstance(self._parent, Holder) else self._parent.root

    @property
    def entry_span(self) -> Span | None:
        return self.root.entry_span

    @property
    def values(self) -> Shared | None:
        """Merged anew when something else is bound around the block or in it."""
        above = self._parent.values
        if not self._own:
            return above
        if self._merged is None or self._above is not above:
            self._above, self._merged = above, Shared({**(above or {}), **self._own})
        return self._merged

    def bound(self, name: str) -> Value | None:
        """What a name is bound to here or around."""
        return self._own[name] if name in self._own else self._parent.bound(name)

    def restore(self, name: str, value: Value | None) -> None:
        """Binds a name as it was before, here or around."""
        if name in self._own and value is not None:
            self._own[name] = value
            self._merged = None
        else:
            self._parent.restore(name, value)

    def bind(self, values: Mapping[str, Value]) -> None:
        """Adds values: until the end of the block those that the block has, to the request all others."""
        own = {name: value for name, value in values.items() if name in self._own}
        if own:
            self._own.update(own)
            self._merged = None
        if len(own) < len(values):
            self._parent.bind({name: value for name, value in values.items() if name not in own})

    def unbind(self, names: Iterable[str]) -> None:
        """Takes values away, the block's and those around it."""
        gone = tuple(names)
        for name in gone:
            self._own.pop(name, None)
        self._merged = None
        self._parent.unbind(gone)

    def close(self) -> None:
        """Ends the block, also for what was started in it; in another context than the one that it began in too."""
        self.root.take_back(self._own)
        self._own.clear()
        self._merged = None
        with suppress(ValueError):
            _holder.reset(self._token)


def _in_frameworks_thread() -> bool:
    kind = type(threading.current_thread())
    return kind.__name__ == "WorkerThread" and kind.__module__.startswith("anyio.")


class _Outside(Holder):
    """What is bound in a context that belongs to no request or task."""

    __slots__ = ()


_holder: ContextVar[Holder | Scope | None] = ContextVar("otelkit_bound", default=None)


def attribute_name(keyword: str) -> str:
    """The attribute that a keyword of `bind` becomes: the conventions' name where there is one."""
    return _KNOWN_NAMES.get(keyword, keyword)


def open_holder(values: Mapping[str, Value]) -> tuple[Token[Holder | Scope | None], Holder]:
    """Begins a request or task with these values; give the token to `close_holder`."""
    holder = Holder(values)
    return _holder.set(holder), holder


def to_share() -> Holder | Scope | None:
    """The holder for work that is handed to another thread: the request's own, which all of its work shares; outside of
    one a copy, so that what one piece of work binds is not another's.
    """
    found = _holder.get()
    if found is None or type(found) is Holder or _within_request(found):
        return found
    return _Outside(bound_values()) if found.values else None


def share(holder: Holder | Scope | None) -> Token[Holder | Scope | None]:
    """Makes the holder of `to_share` that of this context; give the token to `close_holder`."""
    return _holder.set(holder)


def _within_request(found: Holder | Scope) -> bool:
    return type(found.root if type(found) is Scope else found) is Holder


def follows_another(token: Token[Holder | Scope | None]) -> bool:
    """Whether the context that a holder was opened in is that of a request or task that is over."""
    earlier = token.old_value
    root = earlier.root if type(earlier) is Scope else earlier
    return type(root) is Holder and root.over


def close_holder(token: Token[Holder | Scope | None]) -> None:
    """Ends the request or task; a token of another context (a stream that was broken off there) is let go."""
    try:
        _holder.reset(token)
    except ValueError:
        _holder.set(None)


def holder() -> Holder | Scope:
    """What the current request or task, or a block of it, binds to; outside of one, a new holder for the context."""
    found = _holder.get()
    if found is None:
        found = _Outside({})
        _holder.set(found)
    return found


def bind_if_open(values: Mapping[str, Value]) -> None:
    """Adds values to the current request or task; outside of one it does nothing."""
    found = _holder.get()
    if values and found is not None and _within_request(found):
        found.bind(values)


def bound() -> Shared | None:
    """What is bound now."""
    found = _holder.get()
    return found.values if found is not None else None


def bound_values() -> dict[str, Any]:
    """A copy of it."""
    return {**(bound() or {})}
