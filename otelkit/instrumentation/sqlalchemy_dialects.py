"""Where SQLAlchemy hands a statement to the driver: methods of its dialects, wrapped on their classes.

SQLAlchemy's events `before_cursor_execute` and `after_cursor_execute` come around the same calls, but whoever listens
to one event of an engine has all of its events joined anew for each connection, and pays about ten times what its own
listener takes. The methods are the documented ones that dialects override
(https://docs.sqlalchemy.org/en/20/core/internals.html, `Dialect.do_execute`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_WITHOUT_PARAMETERS = "do_execute_no_params"
_INITIALIZE = "initialize"
_METHODS = ("do_execute", "do_executemany", _WITHOUT_PARAMETERS, _INITIALIZE)
_INITIALIZING = "_otelkit_initializing"


def is_initializing(connection: Any) -> bool:
    """Whether a dialect asks a new engine's server with it what it is: that is no work of the application's."""
    return _INITIALIZING in vars(connection)


class Recorder(Protocol):
    """What is asked around each statement; a dialect's method that calls another's is asked for both, and begins none
    for the second.
    """

    def begin(self, dialect: Any, sql: str, parameters: Any, context: Any, /) -> Any:
        """Something to be given back at the end; None where the statement is not recorded."""

    def ended(self, running: Any, context: Any, /) -> None:
        """The driver took it."""

    def failed(self, running: Any, context: Any, error: BaseException, /) -> None:
        """The driver, or whoever broke off the wait for it, raised."""


class Dialects:
    """Wraps the methods of every dialect's class; `comment`, where given, makes the text that is sent of the one that
    is to be.
    """

    def __init__(self, recorder: Recorder, comment: Callable[[Any, str, Any], str] | None) -> None:
        self._recorder = recorder
        self._comment = comment
        self._wrapped: dict[type[Any], list[tuple[str, Any, Any]]] = {}
        self._known: set[type[Any]] = set()

    def watch(self, dialect_class: type[Dialect]) -> None:
        """Sees to a class and all that it inherits from; those that are seen to already cost a look-up."""
        if dialect_class in self._known:
            return
        for cls in dialect_class.__mro__:
            if cls not in self._known:
                self._known.add(cls)
                self._wrap(cls)

    def watch_all(self, dialect_class: type[Dialect]) -> None:
        """Sees to a class and all that is derived from it by now: engines made earlier have one of these."""
        for cls in _derived(dialect_class):
            self.watch(cls)

    def _wrap(self, cls: type[Any]) -> None:
        for name in _METHODS:
            original = vars(cls).get(name)
            if callable(original) and not getattr(original, "__isabstractmethod__", False):
                wrapper = self._wrapper(name, original)
                setattr(cls, name, wrapper)
                self._wrapped.setdefault(cls, []).append((name, wrapper, original))

    def _wrapper(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        if name == _INITIALIZE:
            return _marking(original)
        if name != _WITHOUT_PARAMETERS:
            return functools.wraps(original)(self._around(original))

        def with_none(dialect: Any, cursor: Any, sql: str, parameters: None, context: Any) -> Any:
            return original(dialect, cursor, sql, context)

        around = self._around(with_none)

        @functools.wraps(original)
        def execute_without(dialect: Any, cursor: Any, sql: str, context: Any = None) -> Any:
            return around(dialect, cursor, sql, None, context)

        return execute_without

    def _around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        recorder, comment = self._recorder, self._comment
        begin, ended, failed = recorder.begin, recorder.ended, recorder.failed

        def execute(dialect: Any, cursor: Any, sql: str, parameters: Any, context: Any = None) -> Any:
            running = begin(dialect, sql, parameters, context)
            if running is None:
                return original(dialect, cursor, sql, parameters, context)
            if comment is not None:
                sql = comment(dialect, sql, running)
            try:
                result = original(dialect, cursor, sql, parameters, context)
            except BaseException as error:
                failed(running, context, error)
                raise
            ended(running, context)
            return result

        return execute

    def undo(self) -> None:
        """Gives the classes their own methods back, where nobody has wrapped them since."""
        for cls, methods in self._wrapped.items():
            for name, wrapper, original in methods:
                if vars(cls).get(name) is wrapper:
                    setattr(cls, name, original)


def _marking(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def initialize(dialect: Any, connection: Any) -> Any:
        vars(connection)[_INITIALIZING] = True
        return original(dialect, connection)

    return initialize


def _derived(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for derived in cls.__subclasses__():
        yield from _derived(derived)
