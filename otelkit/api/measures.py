"""Metrics by name: `count`, `distribution`, `gauge`, `observe`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from otelkit.api.attributes import Attributes, AttributeValue, merged
from otelkit.api.names import check_metric_name
from otelkit.runtime import before, fork, observing

logger = logging.getLogger("otelkit")


def meter() -> Meter:
    """otelkit's meter for the application's metrics.

    Asked for at each creation: one from before bootstrap is the API's proxy, whose lock a fork may leave locked in the
    child for ever.
    """
    return get_meter("otelkit")


_instruments: dict[tuple[str, str, str], Any] = {}
_refused: set[str] = set()


def count(
    name: str,
    amount: float = 1,
    attributes: Attributes | None = None,
    /,
    *,
    _unit: str = "",
    **attrs: AttributeValue,
) -> None:
    """Adds to a counter: `otelkit.count("coupons.used", plan="pro")`.

    `amount` must not be negative, `_unit` is UCUM (`{order}`, `By`). A name that is not allowed (otelkit.api.names)
    is logged once and its calls do nothing: a metric must not fail a request.
    """
    instrument = _instrument("counter", name, _unit)
    if instrument is not None:
        instrument.add(amount, merged(attributes, attrs))


def distribution(
    name: str,
    value: float,
    attributes: Attributes | None = None,
    /,
    *,
    _unit: str = "",
    **attrs: AttributeValue,
) -> None:
    """Records a value into a histogram: `otelkit.distribution("cart.value", 12.5, _unit="{EUR}")`; else as `count`."""
    instrument = _instrument("histogram", name, _unit)
    if instrument is not None:
        instrument.record(value, merged(attributes, attrs))


def gauge(
    name: str,
    value: float,
    attributes: Attributes | None = None,
    /,
    *,
    _unit: str = "",
    **attrs: AttributeValue,
) -> None:
    """Sets a gauge to its present value: `otelkit.gauge("cache.entries", 3)`; else as `count`."""
    instrument = _instrument("gauge", name, _unit)
    if instrument is not None:
        instrument.set(value, merged(attributes, attrs))


class Registration:
    """A function that is read at each collection, until `close`."""

    def __init__(self, observed: _Observed, read: Callable[[], float], attributes: Attributes) -> None:
        self._observed = observed
        self._read = read
        self._attributes = attributes

    def value(self) -> Observation | None:
        """Reads now; None where reading failed, which is logged at most once a minute."""
        return observing.ask(
            "a function under otelkit.observe", self._read, lambda: Observation(self._read(), self._attributes)
        )

    def close(self) -> None:
        """Ends the reading; a second call does nothing."""
        _observables.remove(self._observed, self)

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Observed:
    """One observable gauge with all its registrations: OpenTelemetry's API cannot take a callback back."""

    def __init__(self, name: str, unit: str) -> None:
        self.registrations: tuple[Registration, ...] = ()
        meter().create_observable_gauge(name, [self._collect], unit)

    def _collect(self, options: CallbackOptions) -> Iterable[Observation]:
        return [found for registration in self.registrations if (found := registration.value()) is not None]


class _Observables:
    """The observable gauges by name and unit."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], _Observed] = {}
        self._lock = threading.RLock()
        fork.on_child(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._lock = threading.RLock()

    def add(self, name: str, unit: str, read: Callable[[], float], attributes: Attributes) -> Registration:
        """Registers a function under a name, whose gauge is made with its first one."""
        with self._lock:
            observed = self._by_name.get((name, unit))
            if observed is None:
                observed = self._by_name[(name, unit)] = _Observed(name, unit)
            registration = Registration(observed, read, attributes)
            observed.registrations = (*observed.registrations, registration)
            return registration

    def remove(self, observed: _Observed, registration: Registration) -> None:
        """Takes a registration back."""
        with self._lock:
            observed.registrations = tuple(found for found in observed.registrations if found is not registration)


_observables = _Observables()


def observe(
    name: str,
    read: Callable[[], float],
    attributes: Attributes | None = None,
    /,
    *,
    _unit: str = "",
    **attrs: AttributeValue,
) -> Registration:
    """Reads a gauge from a function at each collection: `otelkit.observe("queue.depth", queue.qsize)`.

    `read` runs in a thread of otelkit and must return a number quickly. Keep the Registration and `close` it when
    what it reads goes away. Raises ValueError for a name that is not allowed.
    """
    check_metric_name(name)
    return _observables.add(name, _unit, read, merged(attributes, attrs))


def _instrument(kind: str, name: str, unit: str) -> Any | None:
    if not before.live:
        before.note(f"otelkit metric {name!r}")
    found = _instruments.get((kind, name, unit))
    if found is None and name not in _refused:
        try:
            check_metric_name(name)
        except ValueError as error:
            _refused.add(name)
            logger.warning("%s; its calls do nothing", error)
            return None
        found = _instruments[(kind, name, unit)] = getattr(meter(), f"create_{kind}")(name, unit)
    return found
