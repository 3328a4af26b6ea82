"""The meter provider: one object for the life of the process, over an SDK provider that is opened and closed (see
tracing.py).

A new opening begins its sums at zero with a new start time, which is what cumulative temporality asks of a new process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry import metrics as api
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackT
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import Attributes

from otelkit.engine.seams import ForklessMeterProvider
from otelkit.runtime import guard

I = TypeVar("I")  # noqa: E741 - the instrument's type
Number = int | float


class MeterProvider(ForklessMeterProvider):
    """Re-openable; instruments and readers that users made stay over every opening."""

    def __init__(self) -> None:
        self._inner: SdkMeterProvider | None = None
        self._mine: dict[tuple[str, str | None, str | None, tuple[tuple[str, Any], ...]], Meter] = {}
        self._guard = threading.Lock()
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())

    def open(self, inner: SdkMeterProvider) -> None:
        """Makes every instrument of this provider one of `inner`'s."""
        self._inner = inner
        for (name, version, schema_url, attributes), meter in list(self._mine.items()):
            meter.open(inner.get_meter(name, version, schema_url, dict(attributes) or None))

    def after_fork(self) -> None:
        """In a forked child: the parent's lock may be held by a thread that is not here."""
        self._guard = threading.Lock()
        for meter in self._mine.values():
            meter.after_fork()

    @property
    def inner(self) -> SdkMeterProvider:
        """The SDK provider of the present opening."""
        assert self._inner is not None
        return self._inner

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Meter:
        key = (name, version, schema_url, tuple(sorted((attributes or {}).items())))
        with self._guard:
            meter = self._mine.get(key)
            if meter is None:
                meter = self._mine[key] = Meter(name, version, schema_url)
                meter.open(self.inner.get_meter(name, version, schema_url, attributes))
            return meter

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        self.inner.add_metric_reader(metric_reader)

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        self.inner.remove_metric_reader(metric_reader)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self.inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        self.inner.shutdown(timeout_millis)


class _Instrument(Generic[I]):
    """An instrument that is made anew at each opening."""

    def __init__(self, make: Callable[[api.Meter], I], meter: api.Meter) -> None:
        self._make = make
        self._real: I = make(meter)

    def open(self, meter: api.Meter) -> None:
        self._real = self._make(meter)


class _Counter(_Instrument[api.Counter], api.Counter):
    def add(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._real.add(amount, attributes, context)
        except Exception:  # noqa: BLE001 - the SDK raises for an amount that is no number
            guard.report("a measurement")


class _UpDownCounter(_Instrument[api.UpDownCounter], api.UpDownCounter):
    def add(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._real.add(amount, attributes, context)
        except Exception:  # noqa: BLE001 - the SDK raises for an amount that is no number
            guard.report("a measurement")


class _Histogram(_Instrument[api.Histogram], api.Histogram):
    def record(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._real.record(amount, attributes, context)
        except Exception:  # noqa: BLE001 - the SDK raises for an amount that is no number
            guard.report("a measurement")


class _Gauge(_Instrument[Any]):
    """The API's synchronous gauge, which has no public class to inherit from yet."""

    def set(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._real.set(amount, attributes, context)
        except Exception:  # noqa: BLE001 - the SDK raises for an amount that is no number
            guard.report("a measurement")


class _Observable(_Instrument[I]):
    """An observable instrument; callbacks of later registrations under the same name are read as well.

    The SDK would hand back the instrument that it has and drop the new callbacks with a log line.
    """

    def __init__(self, make: Callable[[api.Meter, Sequence[CallbackT]], I], meter: api.Meter) -> None:
        self._callbacks: tuple[CallbackT, ...] = ()
        super().__init__(lambda opened: make(opened, [self._read]), meter)

    def add(self, callbacks: Sequence[CallbackT]) -> None:
        """Reads these too, from the next collection on."""
        self._callbacks = (*self._callbacks, *callbacks)

    def _read(self, options: api.CallbackOptions) -> Iterable[api.Observation]:
        found: list[api.Observation] = []
        for callback in self._callbacks:
            with guard.guarded("a callback of an observable instrument"):
                found += callback(options)  # type: ignore[operator]
        return found


class _ObservableCounter(_Observable[api.ObservableCounter], api.ObservableCounter):
    pass


class _ObservableUpDownCounter(_Observable[api.ObservableUpDownCounter], api.ObservableUpDownCounter):
    pass


class _ObservableGauge(_Observable[api.ObservableGauge], api.ObservableGauge):
    pass


class Meter(api.Meter):
    """A meter whose instruments follow the provider's openings; the same instrument asked for twice is one object."""

    def __init__(self, name: str, version: str | None, schema_url: str | None) -> None:
        super().__init__(name, version, schema_url)
        self._real: api.Meter = api.NoOpMeter(name)
        self._instruments: dict[tuple[Any, ...], _Instrument[Any]] = {}
        self._guard = threading.Lock()

    def open(self, real: api.Meter) -> None:
        """Makes every instrument of this meter one of `real`'s."""
        with self._guard:
            self._real = real
            for instrument in self._instruments.values():
                instrument.open(real)

    def after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._guard = threading.Lock()

    def _kept(self, kind: type[Any], make: Callable[..., Any], *key: object) -> Any:
        with self._guard:
            place = (kind, *key)
            found = self._instruments.get(place)
            if found is None:
                found = self._instruments[place] = kind(make, self._real)
            return found

    def _observed(
        self,
        kind: type[Any],
        make: Callable[[api.Meter, Sequence[CallbackT]], Any],
        callbacks: Sequence[CallbackT] | None,
        *key: object,
    ) -> Any:
        found = self._kept(kind, make, *key)
        found.add([callback if callable(callback) else _from_generator(callback) for callback in callbacks or ()])
        return found

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        return self._kept(_Counter, lambda m: m.create_counter(name, unit, description), name, unit, description)  # type: ignore[no-any-return]

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        def make(meter: api.Meter) -> api.UpDownCounter:
            return meter.create_up_down_counter(name, unit, description)

        return self._kept(_UpDownCounter, make, name, unit, description)  # type: ignore[no-any-return]

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        bounds = tuple(explicit_bucket_boundaries_advisory) if explicit_bucket_boundaries_advisory else None

        def make(meter: api.Meter) -> api.Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

        return self._kept(_Histogram, make, name, unit, description, bounds)  # type: ignore[no-any-return]

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Any:
        return self._kept(_Gauge, lambda m: m.create_gauge(name, unit, description), name, unit, description)

    def create_observable_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableCounter:
        def make(meter: api.Meter, reads: Sequence[CallbackT]) -> api.ObservableCounter:
            return meter.create_observable_counter(name, reads, unit, description)

        return self._observed(_ObservableCounter, make, callbacks, name, unit, description)  # type: ignore[no-any-return]

    def create_observable_up_down_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableUpDownCounter:
        def make(meter: api.Meter, reads: Sequence[CallbackT]) -> api.ObservableUpDownCounter:
            return meter.create_observable_up_down_counter(name, reads, unit, description)

        return self._observed(_ObservableUpDownCounter, make, callbacks, name, unit, description)  # type: ignore[no-any-return]

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableGauge:
        def make(meter: api.Meter, reads: Sequence[CallbackT]) -> api.ObservableGauge:
            return meter.create_observable_gauge(name, reads, unit, description)

        return self._observed(_ObservableGauge, make, callbacks, name, unit, description)  # type: ignore[no-any-return]


def _from_generator(generator: Any) -> CallbackT:
    """A function over a generator callback, which the API allows too: each SDK instrument would prime it anew."""
    next(generator)
    return lambda options: generator.send(options)
