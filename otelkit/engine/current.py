"""Making a span the current one: a context manager and decorator for sync and async functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from opentelemetry.trace import Span, StatusCode

from otelkit.engine.context import detach, variable, with_span
from otelkit.signals import exceptions

F = TypeVar("F", bound=Callable[..., Any])


class CurrentSpan:
    """Starts a span, makes it current, and ends it; as a decorator, for every call of the function.

    `begin(*arguments)` starts it. Like the API's `use_span`: only Exception marks the span, never GeneratorExit or
    CancelledError. Leaving it in another context than the one it was entered in (a streamed response that was broken
    off, opentelemetry-python#2606) ends the span and raises nothing.
    """

    __slots__ = ("_arguments", "_begin", "_end_on_exit", "_record", "_set_status", "_token", "span")

    def __init__(
        self,
        begin: Callable[..., Span],
        arguments: tuple[Any, ...] = (),
        *,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> None:
        self._begin = begin
        self._arguments = arguments
        self._record = record_exception
        self._set_status = set_status_on_exception
        self._end_on_exit = end_on_exit
        self._token: Any = None
        self.span: Span | None = None

    def __enter__(self) -> Span:
        span = self.span = self._begin(*self._arguments)
        self._token = variable.set(with_span(span))
        return span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        span, token = self.span, self._token
        if span is None or token is None:
            return
        if isinstance(error, Exception):
            self._mark(span, error)
        detach(token)
        if self._end_on_exit:
            span.end()

    def _mark(self, span: Span, error: Exception) -> None:
        if self._record and self._set_status:
            exceptions.record(span, error)
        elif self._record:
            span.add_event("exception", exceptions.described(error))
        elif self._set_status:
            span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {exceptions.message(error)}")

    def __call__(self, function: F) -> F:
        def again() -> CurrentSpan:
            return CurrentSpan(
                self._begin,
                self._arguments,
                record_exception=self._record,
                set_status_on_exception=self._set_status,
                end_on_exit=self._end_on_exit,
            )

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with again():
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with again():
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]
