"""OpenTelemetry objects of the application's own, as `otelkit.bootstrap` takes them beside the settings."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from otelkit.config.settings import Signal
from otelkit.engine.opening import Extras as Receivers
from otelkit.errors import ConfigurationError
from otelkit.runtime import guard

logger = logging.getLogger("otelkit")

_OWN_WORK_S = 0.1
"""What an object may take for its own work, whatever the network has left of a deadline."""

_ONE: Mapping[str, tuple[type, str]] = {
    "sampler": (Sampler, "; by its name it is traces_sampler='always_on'"),
    "id_generator": (IdGenerator, ", or the name of an entry point"),
    "span_limits": (SpanLimits, ""),
}
_MANY: Mapping[str, type] = {
    "span_processors": SpanProcessor,
    "log_record_processors": LogRecordProcessor,
    "metric_readers": MetricReader,
    "views": View,
}
_DECIDES: Mapping[str, Signal] = {
    "sampler": "traces",
    "id_generator": "traces",
    "span_limits": "traces",
    "views": "metrics",
}


class Given(NamedTuple):
    """What one call of `bootstrap` was given; the fields are its keyword arguments."""

    sampler: Sampler | None = None
    id_generator: IdGenerator | None = None
    span_limits: SpanLimits | None = None
    span_processors: tuple[SpanProcessor, ...] = ()
    log_record_processors: tuple[LogRecordProcessor, ...] = ()
    metric_readers: tuple[MetricReader, ...] = ()
    views: tuple[View, ...] = ()

    def beside(self, receivers: Receivers, *, captured: bool) -> Receivers:
        """These objects and the receivers of otelkit's own, the application's first: what they change, all others see.

        While a test captures, only what shapes a record is there: nothing may leave the process, and every span is
        recorded.
        """
        shaping = receivers._replace(ids=self.id_generator, limits=self.span_limits, views=self.views)
        if captured:
            return shaping
        return shaping._replace(
            span_processors=(*self.span_processors, *receivers.span_processors),
            log_processors=(*self.log_record_processors, *receivers.log_processors),
            metric_readers=(*self.metric_readers, *receivers.metric_readers),
            sampler=self.sampler,
        )

    def differences(self, now: Given) -> list[str]:
        """What a later call was given otherwise. An object is the same where it is the very same."""
        changed = []
        for field, *both in zip(self._fields, self, now, strict=True):
            before, after = map(_listed, both)
            if list(map(id, before)) != list(map(id, after)):
                changed.append(f"{field}: other objects ({_kinds(before)} before, {_kinds(after)} now)")
        return changed

    def without_effect(self, foreign: Sequence[Signal]) -> list[str]:
        """A sentence for everything that decides nothing, since the provider of these signals is someone else's."""
        return [
            f"bootstrap: {name} has no effect, since the provider of {signal} is someone else's"
            for name, signal in _DECIDES.items()
            if signal in foreign and getattr(self, name)
        ]

    def flush(self, deadline: float) -> Callable[[], bool]:
        """Begins to flush every processor and reader; what is returned waits until the deadline for them all, and says
        whether none failed or was late.
        """
        return self._begin("flush", _flush, deadline)

    def close(self, deadline: float) -> Callable[[], bool]:
        """The same, and ends them."""
        return self._begin("shutdown", _close, deadline)

    def _begin(self, what: str, call: Callable[[Any, float], bool], deadline: float) -> Callable[[], bool]:
        """Each in a thread of its own: an exporter that hangs holds up neither the others nor the application."""
        works = [
            _Work(what, each, call, deadline)
            for each in (*self.span_processors, *self.log_record_processors, *self.metric_readers)
        ]
        return lambda: False not in [work.wait() for work in works]


class _Work:
    def __init__(self, what: str, target: object, call: Callable[[Any, float], bool], deadline: float) -> None:
        self._name = f"the {what} of bootstrap's {type(target).__name__}"
        self._target = target
        self._call = call
        self._deadline = deadline
        self._done = threading.Event()
        self._ok = False
        try:
            threading.Thread(target=self._do, name="otelkit-objects", daemon=True).start()
        except RuntimeError:  # no thread can start while the interpreter ends
            self._do()

    def _do(self) -> None:
        with guard.guarded_callback(self._name):
            self._ok = self._call(self._target, self._deadline)
        self._done.set()

    def wait(self) -> bool:
        if not self._done.wait(max(_OWN_WORK_S, self._deadline - time.monotonic())):
            logger.warning("%s was not done in time", self._name)
            return False
        return self._ok


def _flush(target: Any, deadline: float) -> bool:
    left_ms = int(1000 * max(_OWN_WORK_S, deadline - time.monotonic()))
    return target.force_flush(left_ms) is not False


def _close(target: Any, deadline: float) -> bool:
    # A reader collects at its shutdown, if at all; to flush it as well would export everything twice.
    if isinstance(target, MetricReader):
        target.shutdown(1000 * max(_OWN_WORK_S, deadline - time.monotonic()))
        return True
    flushed = False
    with guard.guarded(f"the flush of bootstrap's {type(target).__name__}"):
        flushed = _flush(target, deadline)
    target.shutdown()
    return flushed


def checked(arguments: Mapping[str, object]) -> Given:
    """The keyword arguments as what they are to be; None is none.

    Raises ConfigurationError with the argument, the type of what it is, and what is allowed.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if value is None:
            continue
        if name in _ONE:
            kind, otherwise = _ONE[name]
            if not isinstance(value, kind):
                raise ConfigurationError(f"{_is(name, value)}: allowed is {_an(kind)}{otherwise}")
            found[name] = value
        else:
            kind = _MANY[name]
            if not isinstance(value, (list, tuple)):
                raise ConfigurationError(f"{_is(name, value)}: allowed is a list or tuple, each of it {_an(kind)}")
            for number, each in enumerate(value):
                if not isinstance(each, kind):
                    raise ConfigurationError(f"{_is(f'{name}[{number}]', each)}: allowed is {_an(kind)}")
            found[name] = tuple(value)
    _refuse_a_reader_twice(found.get("metric_readers", ()))
    return Given(**found)


def refuse_readers(readers: Sequence[MetricReader], belongs_elsewhere: Callable[[MetricReader], bool]) -> None:
    """Raises ConfigurationError for a reader that collects from another provider: it can have but one."""
    for number, reader in enumerate(readers):
        if belongs_elsewhere(reader):
            raise ConfigurationError(
                f"{_is(f'metric_readers[{number}]', reader)}: it belongs to another MeterProvider; give bootstrap one"
                " that has none"
            )


def _refuse_a_reader_twice(readers: Sequence[MetricReader]) -> None:
    for number, reader in enumerate(readers):
        if any(reader is other for other in readers[:number]):
            raise ConfigurationError(f"{_is(f'metric_readers[{number}]', reader)}: it is in the list twice")


def _is(name: str, value: object) -> str:
    if isinstance(value, type):
        return f"bootstrap: {name} is the class {value.__name__}"
    return f"bootstrap: {name} is of type {type(value).__name__}"


def _an(kind: type) -> str:
    return f"an instance of {kind.__module__.replace('._internal', '')}.{kind.__name__}"


def _listed(value: object) -> Sequence[object]:
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)


def _kinds(objects: Sequence[object]) -> str:
    return " and ".join(type(each).__name__ for each in objects) or "none"
