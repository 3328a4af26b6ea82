"""Spans of business code: `span` as a block, `traced` as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any, Literal, TypeVar, overload

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, get_tracer

from otelkit.api.attributes import Attributes, AttributeValue, merged
from otelkit.engine.context import detach, variable, with_span
from otelkit.engine.current import CurrentSpan
from otelkit.runtime import before
from otelkit.signals import exceptions

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["internal", "server", "client", "producer", "consumer"]

_tracer = get_tracer("otelkit")
_KINDS = {kind.name.lower(): kind for kind in SpanKind}


def span(
    name: str,
    attributes: Attributes | None = None,
    /,
    *,
    _kind: Kind = "internal",
    _links: Sequence[Link | SpanContext | Span] = (),
    _root: bool = False,
    **attrs: AttributeValue,
) -> CurrentSpan:
    """A span around a block: `with otelkit.span("price.quote", sku=sku) as span:`.

    `attributes` takes keys that are no Python names, `attrs` all others. `_links` are spans or contexts that caused
    this one, `_root` begins a new trace. The block's value is OpenTelemetry's Span. An exception that leaves the
    block marks the span as failed, is recorded once, and passes on.
    """
    if not before.live:
        before.note("otelkit.span")
    return CurrentSpan(_start, (name, _kind, merged(attributes, attrs), _links, _root))


def _start(
    name: str, kind: Kind, attributes: Attributes, links: Sequence[Link | SpanContext | Span], root: bool
) -> Span:
    return _tracer.start_span(
        name,
        context=Context() if root else None,
        kind=_KINDS[kind],
        attributes=attributes,
        links=[_link(target) for target in links],
    )


def _link(target: Link | SpanContext | Span) -> Link:
    if isinstance(target, Link):
        return target
    return Link(target.get_span_context() if isinstance(target, Span) else target)


@overload
def traced(name: F, /) -> F: ...
@overload
def traced(
    name: str | None = None, /, *, _record: Sequence[str] = (), _kind: Kind = "internal"
) -> Callable[[F], F]: ...
def traced(
    name: F | str | None = None, /, *, _record: Sequence[str] = (), _kind: Kind = "internal"
) -> F | Callable[[F], F]:
    """A span around every call of a function: `@otelkit.traced`, or `@otelkit.traced("name", _record=("sku",))`.

    Works for functions, methods, coroutines, generators and async generators (current only while their body runs, ended
    with them). The span is named by the qualified name unless a name is given; of the arguments only those listed in
    `_record` become attributes, as their value where OpenTelemetry has a type for it, else as text.

    Raises TypeError for a name in `_record` that is no parameter of the function.
    """
    if callable(name) or isinstance(name, classmethod):
        return _traced(name, None, (), "internal")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"traced: {name!r} is neither a function nor a name")
    return lambda function: _traced(function, name, tuple(_record), _kind)


def _traced(function: F, name: str | None, record: tuple[str, ...], kind: Kind) -> F:
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_traced(function.__func__, name, record, kind))
    title = name or function.__qualname__
    signature = inspect.signature(function)
    if unknown := [parameter for parameter in record if parameter not in signature.parameters]:
        raise TypeError(f"traced: {unknown[0]!r} in _record is no parameter of {function.__qualname__}{signature}")

    def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span:
        if not before.live:
            before.note("a function under otelkit.traced")
        attributes: dict[str, AttributeValue] = {}
        if record:
            arguments = signature.bind_partial(*args, **kwargs)
            arguments.apply_defaults()
            for parameter in record:
                value = arguments.arguments.get(parameter)
                attributes[parameter] = value if isinstance(value, (str, bool, int, float)) else _text(value)
        return _start(title, kind, attributes, (), False)

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            body = function(*args, **kwargs)
            active = _Active(start(args, kwargs))
            try:
                step: Callable[[], Any] = lambda: body.asend(None)  # noqa: E731 - replaced at each turn
                while True:
                    try:
                        with active:
                            item = await step()
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield item
                        step = functools.partial(body.asend, sent)
                    except GeneratorExit:
                        with active:
                            await body.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - it is the body's to handle
                        step = functools.partial(body.athrow, error)
            finally:
                active.span.end()

        return async_generator  # type: ignore[return-value]

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return (yield from _drive(function(*args, **kwargs), start(args, kwargs)))

        return generator  # type: ignore[return-value]

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with CurrentSpan(start, (args, kwargs)):
                return await function(*args, **kwargs)

        return coroutine  # type: ignore[return-value]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with CurrentSpan(start, (args, kwargs)):
            return function(*args, **kwargs)

    return call  # type: ignore[return-value]


class _Active:
    """Makes a span current for one step of a generator, so that its consumer never sees it."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self._context = with_span(span)

    def __enter__(self) -> None:
        self._token = variable.set(self._context)

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
            exceptions.record(self.span, error)
        # The body may stand within a block of its own: that is current again at its next step.
        self._context = variable.get()
        detach(self._token)


def _drive(body: Generator[Any, Any, Any], span: Span) -> Generator[Any, Any, Any]:
    active = _Active(span)
    try:
        step: Callable[[], Any] = lambda: next(body)  # noqa: E731 - replaced at each turn
        while True:
            try:
                with active:
                    item = step()
            except StopIteration as stop:
                return stop.value
            try:
                sent = yield item
                step = functools.partial(body.send, sent)
            except GeneratorExit:
                with active:
                    body.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the body's to handle
                step = functools.partial(body.throw, error)
    finally:
        span.end()


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - an object's own __repr__ may raise
        return f"<{type(value).__name__} without a repr>"
