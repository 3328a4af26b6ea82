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
from otelkit.runtime import before

P = ParamSpec("P")


class _Declared(Generic[P]):
    """A metric that was declared with its labels."""

    def __init__(self, instrument: Any, name: str) -> None:
        self._instrument = instrument
        self._name = name

    def _check(self) -> None:
        if not before.live:
            before.note(f"otelkit metric {self._name!r}")


class BoundCounter:
    """A counter with its labels given: the cheapest way to count in a hot loop."""

    def __init__(self, declared: _Declared[Any], labels: dict[str, Any]) -> None:
        self._declared = declared
        self._labels = labels

    def add(self, amount: float = 1) -> None:
        """Adds `amount`."""
        self._declared._check()
        self._declared._instrument.add(amount, self._labels)


class BoundHistogram:
    """A histogram with its labels given."""

    def __init__(self, declared: _Declared[Any], labels: dict[str, Any]) -> None:
        self._declared = declared
        self._labels = labels

    def record(self, value: float) -> None:
        """Records `value`."""
        self._declared._check()
        self._declared._instrument.record(value, self._labels)


class BoundGauge:
    """A gauge with its labels given."""

    def __init__(self, declared: _Declared[Any], labels: dict[str, Any]) -> None:
        self._declared = declared
        self._labels = labels

    def set(self, value: float) -> None:
        """Sets it to `value`."""
        self._declared._check()
        self._declared._instrument.set(value, self._labels)


class Counter(_Declared[P]):
    """A declared counter (or up-down counter)."""

    def add(self, amount: float = 1, /, *args: P.args, **labels: P.kwargs) -> None:
        """Adds `amount` under these labels."""
        self._check()
        self._instrument.add(amount, labels)

    def labels(self, *args: P.args, **labels: P.kwargs) -> BoundCounter:
        """The counter with these labels given."""
        return BoundCounter(self, dict(labels))


class Histogram(_Declared[P]):
    """A declared histogram."""

    def record(self, value: float, /, *args: P.args, **labels: P.kwargs) -> None:
        """Records `value` under these labels."""
        self._check()
        self._instrument.record(value, labels)

    def labels(self, *args: P.args, **labels: P.kwargs) -> BoundHistogram:
        """The histogram with these labels given."""
        return BoundHistogram(self, dict(labels))


class Gauge(_Declared[P]):
    """A declared gauge."""

    def set(self, value: float, /, *args: P.args, **labels: P.kwargs) -> None:
        """Sets it to `value` under these labels."""
        self._check()
        self._instrument.set(value, labels)

    def labels(self, *args: P.args, **labels: P.kwargs) -> BoundGauge:
        """The gauge with these labels given."""
        return BoundGauge(self, dict(labels))


def counter(name: str, /, *, unit: str = "") -> Callable[[Callable[P, None]], Counter[P]]:
    """Declares a counter. Raises ValueError for a name that is not allowed, TypeError for parameters that are not
    keyword-only (`def orders_placed(*, plan: str) -> None`)."""
    check_metric_name(name)
    return lambda labels: Counter(meter().create_counter(name, unit, _description(labels)), name)


def up_down_counter(name: str, /, *, unit: str = "") -> Callable[[Callable[P, None]], Counter[P]]:
    """Declares an up-down counter; raises as `counter` does."""
    check_metric_name(name)
    return lambda labels: Counter(meter().create_up_down_counter(name, unit, _description(labels)), name)


def histogram(
    name: str, /, *, unit: str = "", buckets: Sequence[float] | None = None
) -> Callable[[Callable[P, None]], Histogram[P]]:
    """Declares a histogram with its bucket boundaries, in the unit; raises as `counter` does."""
    check_metric_name(name)

    def declare(labels: Callable[P, None]) -> Histogram[P]:
        instrument = meter().create_histogram(
            name, unit, _description(labels), explicit_bucket_boundaries_advisory=buckets
        )
        return Histogram(instrument, name)

    return declare


def gauge(name: str, /, *, unit: str = "") -> Callable[[Callable[P, None]], Gauge[P]]:
    """Declares a gauge; raises as `counter` does."""
    check_metric_name(name)
    return lambda labels: Gauge(meter().create_gauge(name, unit, _description(labels)), name)


def _description(labels: Callable[..., None]) -> str:
    for parameter in inspect.signature(labels).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(
                f"the labels of {labels.__qualname__} must be keyword-only: write `def {labels.__name__}(*, …)`"
            )
    return inspect.cleandoc(labels.__doc__ or "").partition("\n")[0]
