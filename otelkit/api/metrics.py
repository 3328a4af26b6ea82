"""Metrics declared once, their labels checked by the type checker: `@otelkit.metrics.counter("orders.placed",
unit="{order}")`.

The decorated function is never called: its keyword parameters are the labels, its docstring is the description.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic

from typing_extensions import ParamSpec

from otelkit.api.measures import meter
from otelkit.api.names import check_metric_name
from otelkit.engine import door
from otelkit.runtime import before, guard

P = ParamSpec("P")


class _Declared(Generic[P]):
    """A metric that was declared with its labels; its instrument is made at its first use after bootstrap."""

    def __init__(self, make: Callable[[], Any], name: str) -> None:
        self._make = make
        self._name = name
        self._instrument: Any = None

    def _made(self) -> Any:
        """The instrument; None before bootstrap, which is counted."""
        found = self._instrument
        if found is None:
            if not before.live:
                before.note(f"otelkit metric {self._name!r}")
                return None
            found = self._instrument = self._make()
        return found


class _Bound:
    """A metric with its labels given."""

    def __init__(self, declared: _Declared[Any], labels: dict[str, Any]) -> None:
        self._declared = declared
        self._labels = labels
        self._series: Any = None

    def _found(self) -> Any:
        """The series, looked up at its first use after bootstrap; None before."""
        instrument = self._declared._made()
        if instrument is not None:
            self._series = door.series(instrument, self._labels)
        return self._series


class BoundCounter(_Bound):
    """A counter with its labels given: the cheapest way to count in a hot loop."""

    def add(self, amount: float = 1) -> None:
        """Adds `amount`."""
        try:
            series = self._series or self._found()
            if series is not None:
                series.add(amount)
        except Exception:  # noqa: BLE001 - a measurement must not fail the application
            guard.report("a measurement")


class BoundHistogram(_Bound):
    """A histogram with its labels given."""

    def record(self, value: float) -> None:
        """Records `value`."""
        try:
            series = self._series or self._found()
            if series is not None:
                series.record(value)
        except Exception:  # noqa: BLE001 - a measurement must not fail the application
            guard.report("a measurement")


class BoundGauge(_Bound):
    """A gauge with its labels given."""

    def set(self, value: float) -> None:
        """Sets it to `value`."""
        try:
            series = self._series or self._found()
            if series is not None:
                series.set(value)
        except Exception:  # noqa: BLE001 - a measurement must not fail the application
            guard.report("a measurement")


class Counter(_Declared[P]):
    """A declared counter (or up-down counter)."""

    def add(self, amount: float = 1, /, *args: P.args, **labels: P.kwargs) -> None:
        """Adds `amount` under these labels."""
        instrument = self._instrument or self._made()
        if instrument is not None:
            instrument.add(amount, labels)

    def labels(self, *args: P.args, **labels: P.kwargs) -> BoundCounter:
        """The counter with these labels given."""
        return BoundCounter(self, dict(labels))


class Histogram(_Declared[P]):
    """A declared histogram."""

    def record(self, value: float, /, *args: P.args, **labels: P.kwargs) -> None:
        """Records `value` under these labels."""
        instrument = self._instrument or self._made()
        if instrument is not None:
            instrument.record(value, labels)

    def labels(self, *args: P.args, **labels: P.kwargs) -> BoundHistogram:
        """The histogram with these labels given."""
        return BoundHistogram(self, dict(labels))


class Gauge(_Declared[P]):
    """A declared gauge."""

    def set(self, value: float, /, *args: P.args, **labels: P.kwargs) -> None:
        """Sets it to `value` under these labels."""
        instrument = self._instrument or self._made()
        if instrument is not None:
            instrument.set(value, labels)

    def labels(self, *args: P.args, **labels: P.kwargs) -> BoundGauge:
        """The gauge with these labels given."""
        return BoundGauge(self, dict(labels))


def counter(name: str, /, *, unit: str = "") -> Callable[[Callable[P, None]], Counter[P]]:
    """Declares a counter. Raises ValueError for a name that is not allowed, TypeError for parameters that are not
    keyword-only (`def orders_placed(*, plan: str) -> None`)."""
    check_metric_name(name)

    def declare(labels: Callable[P, None]) -> Counter[P]:
        description = _description(labels)
        return Counter(lambda: meter().create_counter(name, unit, description), name)

    return declare


def up_down_counter(name: str, /, *, unit: str = "") -> Callable[[Callable[P, None]], Counter[P]]:
    """Declares an up-down counter; raises as `counter` does."""
    check_metric_name(name)

    def declare(labels: Callable[P, None]) -> Counter[P]:
        description = _description(labels)
        return Counter(lambda: meter().create_up_down_counter(name, unit, description), name)

    return declare


def histogram(
    name: str, /, *, unit: str = "", buckets: Sequence[float] | None = None
) -> Callable[[Callable[P, None]], Histogram[P]]:
    """Declares a histogram with its bucket boundaries, in the unit; raises as `counter` does."""
    check_metric_name(name)

    def declare(labels: Callable[P, None]) -> Histogram[P]:
        description = _description(labels)
        return Histogram(
            lambda: meter().create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets), name
        )

    return declare


def gauge(name: str, /, *, unit: str = "") -> Callable[[Callable[P, None]], Gauge[P]]:
    """Declares a gauge; raises as `counter` does."""
    check_metric_name(name)

    def declare(labels: Callable[P, None]) -> Gauge[P]:
        description = _description(labels)
        return Gauge(lambda: meter().create_gauge(name, unit, description), name)

    return declare


def _description(labels: Callable[..., None]) -> str:
    for parameter in inspect.signature(labels).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(
                f"the labels of {labels.__qualname__} must be keyword-only: write `def {labels.__name__}(*, …)`"
            )
    return inspect.cleandoc(labels.__doc__ or "").partition("\n")[0]
