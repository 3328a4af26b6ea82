"""The current context, without the detours of the API's functions.

`opentelemetry.context` keeps the context in a context variable and the span in the context under a key; both are
learnt from the API itself here, once. Where another runtime context is installed (OTEL_PYTHON_CONTEXT), its functions
are used instead.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, Protocol

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context


class Variable(Protocol):
    """What a context variable can do."""

    def get(self) -> Context: ...
    def set(self, value: Context, /) -> Any: ...
    def reset(self, token: Any, /) -> None: ...


class _ApiVariable:
    """The API's functions in a context variable's shape."""

    @staticmethod
    def get() -> Context:
        return context_api.get_current()

    @staticmethod
    def set(value: Context) -> Any:
        return context_api.attach(value)

    @staticmethod
    def reset(token: Any) -> None:
        context_api.detach(token)


def _variable() -> Variable:
    token = context_api.attach(Context())
    variable = getattr(token, "var", None)
    context_api.detach(token)
    return variable if isinstance(variable, ContextVar) else _ApiVariable()


variable: Variable = _variable()
"""Holds the current context of this thread or task."""

SPAN_KEY: str = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""The key of a context's span."""


def with_span(span: Span, context: Context | None = None) -> Context:
    """A context (default: the current one) with another span."""
    base = variable.get() if context is None else context
    return Context({**base, SPAN_KEY: span}) if base else Context({SPAN_KEY: span})


def current_span() -> Any:
    """The span of the current context; None outside of any."""
    return variable.get().get(SPAN_KEY)


def detach(token: Token[Context]) -> None:
    """Restores the context before `token`; in another context than the token's, there is nothing to restore."""
    # The API's detach would log a traceback for what is no fault: an async generator closed by the event loop.
    try:  # noqa: SIM105 - contextlib.suppress costs three times the call
        variable.reset(token)
    except ValueError:
        pass
