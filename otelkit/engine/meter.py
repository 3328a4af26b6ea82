"""A meter: makes instruments that follow the provider's openings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackT
from opentelemetry.sdk.metrics import Meter as SdkMeter
from opentelemetry.sdk.metrics.export import Metric
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.engine.instruments import (
    Counter,
    Gauge,
    Histogram,
    Instrument,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from otelkit.runtime import guard

if TYPE_CHECKING:
    from otelkit.engine.metering import Metering

logger = logging.getLogger("otelkit.engine")

# The specification's default boundaries, which the SDK does not export:
# https://opentelemetry.io/docs/specs/otel/metrics/sdk/#explicit-bucket-histogram-aggregation
_DEFAULT_BOUNDS = (
    0.0,
    5.0,
    10.0,
    25.0,
    50.0,
    75.0,
    100.0,
    250.0,
    500.0,
    750.0,
    1000.0,
    2500.0,
    5000.0,
    7500.0,
    10000.0,
)


class Meter(SdkMeter):
    """A meter whose instruments follow the provider's openings; the same instrument asked for twice is one object."""

    def __init__(self, name: str, version: str | None, schema_url: str | None) -> None:
        # Not the SDK's, which wants what an opening has.
        api.Meter.__init__(self, name, version, schema_url)
        self._real: api.Meter = api.NoOpMeter(name)
        self._metering: Metering | None = None
        self._instruments: dict[tuple[Any, ...], Instrument[Any]] = {}
        self._guard = threading.RLock()
        self.refuses = True
        """Whether an instrument that is not allowed raises at its creation, or measures nothing."""
        self.states: set[str] = set()
        """The names of observable up-down counters: sums that say how the process is."""

    def open(self, real: api.Meter, metering: Metering) -> None:
        """Lets every instrument of this meter work for this opening, whose SDK meter is `real`."""
        with self._guard:
            self._real = real
            self._metering = metering
            for instrument in self._instruments.values():
                instrument.open(real, metering)

    def collect(
        self, now_ns: int, since_ns: int, *, changed: bool = False
    ) -> Iterable[tuple[InstrumentationScope, Metric]]:
        """What the engine's cells say, or those that have `changed`."""
        for instrument in tuple(self._instruments.values()):
            found = instrument.collect(now_ns, since_ns, changed=changed)
            if found is not None:
                yield found

    def after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._guard = threading.RLock()

    def _kept(
        self, kind: type[Any], make: Callable[..., Any], name: str, *key: object, arguments: tuple[Any, ...] = ()
    ) -> Any:
        with self._guard:
            try:
                place = (kind, name.lower(), *key)  # a name in other letters is the same one
                found = self._instruments.get(place)
                if found is None:
                    found = self._instruments[place] = kind(make, self._real, self._metering, *arguments)
            except Exception:
                if self.refuses:
                    raise
                guard.report(f"the metric {name!r}")
                found = kind(lambda *_: None, self._real, None, *arguments)
            return found

    def _observed(
        self,
        kind: type[Any],
        make: Callable[[api.Meter, Sequence[CallbackT]], Any],
        callbacks: Sequence[CallbackT] | None,
        name: str,
        *key: object,
    ) -> Any:
        found = self._kept(kind, make, name, *key)
        if self._metering is not None:
            self._metering.begun()
        found.observe([callback if callable(callback) else _from_generator(callback) for callback in callbacks or ()])
        return found

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        return self._kept(Counter, lambda m: m.create_counter(name, unit, description), name, unit, description)  # type: ignore[no-any-return]

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        def make(meter: api.Meter) -> api.UpDownCounter:
            return meter.create_up_down_counter(name, unit, description)

        return self._kept(UpDownCounter, make, name, unit, description)  # type: ignore[no-any-return]

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        bounds = _advised(explicit_bucket_boundaries_advisory)

        def make(meter: api.Meter) -> api.Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)

        wanted = _DEFAULT_BOUNDS if bounds is None else bounds
        found: Histogram = self._kept(Histogram, make, name, unit, description, arguments=(wanted,))
        if found.bounds != wanted:
            logger.warning("the histogram %s is there already: it keeps its boundaries %s", name, found.bounds)
        return found

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Any:
        return self._kept(Gauge, lambda m: m.create_gauge(name, unit, description), name, unit, description)

    def create_observable_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableCounter:
        def make(meter: api.Meter, reads: Sequence[CallbackT]) -> api.ObservableCounter:
            return meter.create_observable_counter(name, reads, unit, description)

        return self._observed(ObservableCounter, make, callbacks, name, unit, description)  # type: ignore[no-any-return]

    def create_observable_up_down_counter(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableUpDownCounter:
        def make(meter: api.Meter, reads: Sequence[CallbackT]) -> api.ObservableUpDownCounter:
            return meter.create_observable_up_down_counter(name, reads, unit, description)

        self.states.add(name)
        return self._observed(ObservableUpDownCounter, make, callbacks, name, unit, description)  # type: ignore[no-any-return]

    def create_observable_gauge(
        self, name: str, callbacks: Sequence[CallbackT] | None = None, unit: str = "", description: str = ""
    ) -> api.ObservableGauge:
        def make(meter: api.Meter, reads: Sequence[CallbackT]) -> api.ObservableGauge:
            return meter.create_observable_gauge(name, reads, unit, description)

        return self._observed(ObservableGauge, make, callbacks, name, unit, description)  # type: ignore[no-any-return]


def _advised(boundaries: Any) -> tuple[float, ...] | None:
    if boundaries is None:
        return None
    if isinstance(boundaries, Sequence) and all(isinstance(each, (int, float)) for each in boundaries):
        return tuple(boundaries)
    logger.warning("explicit_bucket_boundaries_advisory=%r is no sequence of numbers: it is ignored", boundaries)
    return None


def _from_generator(generator: Any) -> CallbackT:
    """A function over a generator callback, which the API allows too: each SDK instrument would prime it anew."""
    next(generator)
    return generator.send  # type: ignore[no-any-return]
