"""Instruments over the openings: synchronous ones keep their sums in cells of the engine's, observable ones are the
SDK's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opentelemetry import metrics as api
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackT
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import export as data
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN
from opentelemetry.util.types import Attributes

from otelkit.delivery.records import Shared
from otelkit.engine.cells import Begun, Cell, GaugeCell, HistogramCell, SumCell, checked, nothing
from otelkit.engine.context import SPAN_KEY
from otelkit.engine.series import Series
from otelkit.runtime import guard, observing

if TYPE_CHECKING:
    from otelkit.engine.metering import Metering

I = TypeVar("I")  # noqa: E741 - the instrument's type
C = TypeVar("C", bound=Cell)
Number = int | float
Collected = tuple[InstrumentationScope, data.Metric]
_NO_SCOPE = InstrumentationScope("")  # before the first opening


class Instrument(Generic[I]):
    """An instrument over the openings; `_sdk` is the SDK's of the present one, where that one is needed.

    `name`, `unit`, `description` and `instrumentation_scope` are the SDK's, once it is open.
    """

    name: str
    unit: str
    description: str
    instrumentation_scope: InstrumentationScope

    def __init__(self, make: Callable[[api.Meter], I], meter: api.Meter, metering: Metering | None) -> None:
        self._make = make
        self._sdk: I | None = make(
            meter
        )  # also where the engine records: it checks name and unit, and warns of doubles
        self._metering = metering
        self._describe(self._sdk)

    def open(self, meter: api.Meter, metering: Metering) -> None:
        """Works for this opening from now on."""
        self._sdk = self._make(meter)
        self._metering = metering
        self._describe(self._sdk)

    def _describe(self, made: Any) -> None:
        self.name, self.unit, self.description = (getattr(made, each, "") for each in ("name", "unit", "description"))
        self.instrumentation_scope = getattr(made, "instrumentation_scope", _NO_SCOPE)

    def collect(self, now_ns: int, since_ns: int, *, changed: bool = False) -> Collected | None:
        """What the engine's cells say, or those that have `changed`; None where there is nothing, or the SDK has
        it.
        """
        return None


class _Synchronous(Instrument[I], Generic[I, C]):
    """An instrument whose series are cells of the engine's."""

    def __init__(self, make: Callable[[api.Meter], I], meter: api.Meter, metering: Metering | None) -> None:
        super().__init__(make, meter, metering)
        if metering is None or not metering.routes(self._sdk):
            self._sdk = None
        self._series: Series[C] = Series(self.name, self._cell)
        self._by_items = self._series.by_items

    def open(self, meter: api.Meter, metering: Metering) -> None:
        self._metering = metering
        self._sdk = None  # the last opening's
        if self.instrumentation_scope is _NO_SCOPE or not metering.lean or metering.views:
            made = self._make(meter)
            self._describe(made)
            self._sdk = made if metering.routes(made) else None
        self._series.reset(self._reset)

    def _reset(self, cell: C) -> None:
        cell.reset(exemplars=self._exemplars, routed=self._sdk, begun=self._begun)

    @property
    def _exemplars(self) -> bool:
        return self._metering is not None and self._metering.exemplars

    @property
    def _begun(self) -> Begun:
        return self._metering.begun if self._metering is not None else nothing

    def _cell(self, attributes: Shared) -> C:
        raise NotImplementedError

    def _found(self, attributes: Attributes | None) -> C:
        """The cell of these attributes: one look-up where the same items came before (series.py)."""
        if attributes:
            try:
                found = self._by_items.get(tuple(attributes.items()))
            except TypeError:  # a value that has no hash
                return self._series.find(attributes)
            if found is not None:
                cell, kinds = found
                for key, kind in kinds:
                    if type(attributes[key]) is not kind:
                        break
                else:
                    return cell
        return self._series.find(attributes)

    def bind(self, attributes: Mapping[str, Any]) -> C:
        """The series of these attributes: measuring on it looks nothing up. It stays valid over openings and forks."""
        return self._series.find(attributes)

    def collect(self, now_ns: int, since_ns: int, *, changed: bool = False) -> Collected | None:
        points = [cell.point(now_ns, since_ns) for cell in self._series.cells() if not changed or cell.changed()]
        scope = self.instrumentation_scope
        if not points or scope is _NO_SCOPE:
            return None
        return scope, data.Metric(self.name, self.description, self.unit, self._data(points))

    def _data(self, points: Sequence[Any]) -> data.Sum | data.Histogram | data.Gauge:
        raise NotImplementedError


class _SumInstrument(_Synchronous[I, SumCell]):
    _monotonic = False

    def _cell(self, attributes: Shared) -> SumCell:
        return SumCell(
            attributes, monotonic=self._monotonic, exemplars=self._exemplars, routed=self._sdk, begun=self._begun
        )

    def add(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._found(attributes).add(amount, None if context is None else context.get(SPAN_KEY, INVALID_SPAN))
        except Exception:  # noqa: BLE001 - a measurement must not fail the application
            guard.report("a measurement")

    def _data(self, points: Sequence[Any]) -> data.Sum:
        return data.Sum(points, data.AggregationTemporality.CUMULATIVE, self._monotonic)


class Counter(_SumInstrument[api.Counter], sdk.Counter):
    _monotonic = True


class UpDownCounter(_SumInstrument[api.UpDownCounter], sdk.UpDownCounter):
    pass


class Histogram(_Synchronous[api.Histogram, HistogramCell], sdk.Histogram):
    def __init__(
        self,
        make: Callable[[api.Meter], api.Histogram],
        meter: api.Meter,
        metering: Metering | None,
        bounds: tuple[float, ...],
    ) -> None:
        self.bounds = bounds
        super().__init__(make, meter, metering)

    def _cell(self, attributes: Shared) -> HistogramCell:
        return HistogramCell(
            attributes, bounds=self.bounds, exemplars=self._exemplars, routed=self._sdk, begun=self._begun
        )

    def record(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._found(attributes).record(amount, None if context is None else context.get(SPAN_KEY, INVALID_SPAN))
        except Exception:  # noqa: BLE001 - a measurement must not fail the application
            guard.report("a measurement")

    def _data(self, points: Sequence[Any]) -> data.Histogram:
        return data.Histogram(points, data.AggregationTemporality.CUMULATIVE)


class Gauge(_Synchronous[Any, GaugeCell]):
    """The API's synchronous gauge, which has no public class to inherit from yet."""

    def _cell(self, attributes: Shared) -> GaugeCell:
        return GaugeCell(attributes, exemplars=self._exemplars, routed=self._sdk, begun=self._begun)

    def set(self, amount: Number, attributes: Attributes | None = None, context: Context | None = None) -> None:
        try:
            self._found(attributes).set(amount, None if context is None else context.get(SPAN_KEY, INVALID_SPAN))
        except Exception:  # noqa: BLE001 - a measurement must not fail the application
            guard.report("a measurement")

    def _data(self, points: Sequence[Any]) -> data.Gauge:
        return data.Gauge(points)


class _Observable(Instrument[I]):
    """An observable instrument; callbacks of later registrations under the same name are read as well.

    The SDK would hand back the instrument that it has and drop the new callbacks with a log line.
    """

    def __init__(
        self, make: Callable[[api.Meter, Sequence[CallbackT]], I], meter: api.Meter, metering: Metering | None
    ) -> None:
        self._functions: tuple[CallbackT, ...] = ()
        super().__init__(lambda opened: make(opened, [self._read]), meter, metering)

    def observe(self, callbacks: Sequence[CallbackT]) -> None:
        """Reads these too, from the next collection on."""
        self._functions = (*self._functions, *callbacks)

    def callback(self, callback_options: api.CallbackOptions) -> Iterator[Any]:
        """What the callbacks say now, as measurements of this instrument."""
        made: Any = self._sdk
        for measurement in made.callback(callback_options) if self._metering is not None else ():
            yield replace(measurement, instrument=self)

    def _read(self, options: api.CallbackOptions) -> Iterable[api.Observation]:
        found: list[api.Observation] = []
        for callback in self._functions:
            own = (getattr(callback, "__module__", None) or "").startswith("otelkit.")
            place = "a callback of otelkit's own" if own else "a callback of an observable instrument"

            def read(callback: Any = callback, place: str = place) -> list[api.Observation]:
                taken: list[api.Observation] = []
                with guard.guarded_callback(place):  # what it said before it failed counts
                    taken.extend(_checked(callback(options)))
                return taken

            found += read() if own else observing.ask(place, callback, read) or ()
        return found


def _checked(observations: Iterable[api.Observation]) -> Iterator[api.Observation]:
    """Those that are numbers: the SDK would drop what follows another, other functions' values too."""
    for observation in observations:
        value = checked(observation.value, -math.inf, "observe")
        if value is not None:
            yield api.Observation(value, observation.attributes, observation.context)


class ObservableCounter(_Observable[api.ObservableCounter], sdk.ObservableCounter):
    pass


class ObservableUpDownCounter(_Observable[api.ObservableUpDownCounter], sdk.ObservableUpDownCounter):
    pass


class ObservableGauge(_Observable[api.ObservableGauge], sdk.ObservableGauge):
    pass
