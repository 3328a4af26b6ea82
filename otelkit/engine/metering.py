"""The meter provider: one object for the life of the process, over openings that come and go (see tracing.py).

A hybrid: synchronous instruments keep their sums in cells of the engine's own (cells.py). What the SDK is needed for
is the SDK's: observable instruments, which cost nothing between collections, and every instrument of an opening with
views, with a reader that wants another temporality or aggregation than the default, or with OTELKIT_ENGINE=sdk. A
collection puts both parts together.

A new opening begins its sums at zero with a new start time, which is what cumulative temporality asks of a new process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, time_ns
from typing import Any

from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricReader,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.util.types import Attributes

from otelkit.engine.cells import nothing
from otelkit.engine.meter import Meter
from otelkit.engine.seams import (
    ForklessMeterProvider,
    collects_from,
    is_default_reader,
    on_collect,
    view_matches,
    wish_as,
)

logger = logging.getLogger("otelkit.engine")


class Metering:
    """What the meters of one opening work with.

    `provider` is the SDK's provider of the opening, without readers. `lean` says whether synchronous instruments keep
    their sums in the engine's cells; those that one of `views` matches do not. `exemplars`: whether cells keep them.
    `begun` is called at the first measurement of each series.
    """

    def __init__(
        self,
        *,
        resource: Resource,
        provider: SdkMeterProvider,
        readers: Sequence[MetricReader],
        views: Sequence[View],
        lean: bool,
        exemplars: bool,
        begun: Callable[[], bool] = nothing,
    ) -> None:
        self.begun = begun
        self.resource = resource
        self.provider = provider
        self.readers = tuple(readers)
        self.views = tuple(views)
        self.lean = lean and all(is_default_reader(reader) for reader in readers)
        self.exemplars = exemplars

    def routes(self, instrument: object) -> bool:
        """Whether the SDK's instrument records, and not the engine's cells."""
        return not self.lean or any(view_matches(view, instrument) for view in self.views)


class _SdkPart(MetricReader):
    """Reads what the SDK's provider of one opening has, for one reader: the SDK would have a reader belong to one
    provider for ever, and this one is to outlive its opening.
    """

    def __init__(self, reader: MetricReader) -> None:
        super().__init__()
        wish_as(self, reader)
        self.last_ns = 0
        self._data: MetricsData | None = None

    def read(self, timeout_millis: float) -> MetricsData | None:
        """Collects, observable callbacks included."""
        self._data = None
        self.collect(timeout_millis)
        return self._data

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        self._data = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Holds nothing."""


class MeterProvider(ForklessMeterProvider):
    """Re-openable; instruments and readers that users made stay over every opening."""

    def __init__(self) -> None:
        self.metering: Metering | None = None
        self._mine: dict[InstrumentationScope, Meter] = {}
        self._guard = threading.RLock()
        self._added: tuple[MetricReader, ...] = ()
        self._parts: dict[MetricReader, _SdkPart] = {}
        self._shut_down: Metering | None = None
        self._refuses = True
        super().__init__(shutdown_on_exit=False, resource=Resource.get_empty())

    def open(self, metering: Metering) -> None:
        """Lets every instrument of this provider work for this opening."""
        metering.lean = metering.lean and all(is_default_reader(reader) for reader in self._added)
        self.metering = metering
        self._parts = {}
        for reader in (*metering.readers, *self._added):
            self._attach(reader)
        self._route(metering)

    def publish(self) -> None:
        """Stands behind OpenTelemetry's global from now on.

        The API makes all instruments now that were asked for before: one whose name is not allowed must not keep the
        application from starting.
        """
        self._refuses = False
        api.set_meter_provider(self)
        self._refuses = True
        for meter in list(self._mine.values()):
            meter.refuses = True

    def _route(self, metering: Metering) -> None:
        for scope, meter in list(self._mine.items()):
            _open(meter, scope, metering)

    def attach(self, reader: MetricReader) -> None:
        """Adds a reader to the present opening, and not to later ones.

        It has the sums of the engine's cells from the start of the opening, those of the SDK's instruments from now on.
        """
        assert self.metering is not None
        self.metering.readers = (*self.metering.readers, reader)
        self._attach(reader)

    def _attach(self, reader: MetricReader) -> None:
        metering = self.metering
        assert metering is not None
        part = self._parts[reader] = _SdkPart(reader)
        metering.provider.add_metric_reader(part)
        on_collect(reader, self._collect)

    def _collect(self, reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData | None:
        metering, part = self.metering, self._parts.get(reader)
        if metering is None or part is None:  # a reader of an opening that has ended
            return None
        observed = part.read(timeout_millis)
        since_ns, part.last_ns = part.last_ns, time_ns()
        scopes: dict[InstrumentationScope, list[Metric]] = {}
        for meter in list(self._mine.values()):
            for scope, metric in meter.collect(part.last_ns, since_ns):
                scopes.setdefault(scope, []).append(metric)
        for resource in observed.resource_metrics if observed is not None else ():
            for found in resource.scope_metrics:
                scopes.setdefault(found.scope, []).extend(found.metrics)
        if not scopes:
            return None
        of_scopes = [ScopeMetrics(scope, metrics, scope.schema_url or "") for scope, metrics in scopes.items()]
        return MetricsData([ResourceMetrics(metering.resource, of_scopes, metering.resource.schema_url)])

    def changed(self) -> Iterator[tuple[InstrumentationScope, Metric]]:
        """What the engine's cells say that have changed since this was called last."""
        now_ns = time_ns()
        for meter in list(self._mine.values()):
            yield from meter.collect(now_ns, 0, changed=True)

    def is_state(self, name: str) -> bool:
        """Whether a metric of this name is an observable sum that says how the process is."""
        return any(name in meter.states for meter in list(self._mine.values()))

    def after_fork(self) -> None:
        """In a forked child: the parent's lock may be held by a thread that is not here."""
        self._guard = threading.RLock()
        for meter in self._mine.values():
            meter.after_fork()

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Meter:
        if not name:
            logger.warning("get_meter was called without a name: what this meter measures goes nowhere")
            return api.NoOpMeter(name, version, schema_url)
        scope = InstrumentationScope(name, version, schema_url, attributes)
        with self._guard:
            meter = self._mine.get(scope)
            if meter is None:
                meter = self._mine[scope] = Meter(name, version, schema_url)
                meter.refuses = self._refuses
                if self.metering is not None:
                    _open(meter, scope, self.metering)
            return meter

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        if collects_from(metric_reader) not in (None, self) or metric_reader in self._readers():
            logger.warning("the metric reader %r is registered already", metric_reader)
            return
        self._added = (*self._added, metric_reader)
        metering = self.metering
        if metering is None:
            return
        if metering.lean and not is_default_reader(metric_reader):
            # This reader needs the SDK's aggregations: from here on they record for all, and sums begin anew.
            metering.lean = False
            self._route(metering)
        self._attach(metric_reader)

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        if metric_reader not in self._readers():
            logger.warning("the metric reader %r is not registered", metric_reader)
            return
        self._added = tuple(reader for reader in self._added if reader is not metric_reader)
        metering = self.metering
        part = self._parts.pop(metric_reader, None)
        if metering is not None and part is not None:
            metering.readers = tuple(reader for reader in metering.readers if reader is not metric_reader)
            metering.provider.remove_metric_reader(part)
            on_collect(metric_reader, None)
            metric_reader.shutdown()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        flushed = self._all("force_flush", "collect", timeout_millis)
        return all(found is not False for found in flushed)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        with self._guard:
            again = self.metering is not None and self.metering is self._shut_down
            self._shut_down = self.metering
        if again:
            logger.warning("the meter provider is shut down already")
            return
        self._all("shutdown", "shutdown", timeout_millis)

    def _all(self, what: str, while_: str, timeout_millis: float) -> list[Any]:
        """What every reader's method of this name returns, within one deadline.

        Raises RuntimeError with what failed, in the words of the SDK's provider, after all were called.
        """
        deadline = monotonic() + timeout_millis / 1000
        found, failed = [], []
        for reader in self._readers():
            try:
                found.append(getattr(reader, what)(timeout_millis=max(0.0, 1000 * (deadline - monotonic()))))
            except Exception as error:  # noqa: BLE001 - told below; the other readers have their turn
                failed.append(f"{type(reader).__name__}: {error!r}")
        if failed:
            because = f"MeterProvider.{what} failed because the following metric readers failed during {while_}:"
            raise RuntimeError("\n".join((because, *failed)))
        return found

    def _readers(self) -> tuple[MetricReader, ...]:
        return (*self.metering.readers, *self._added) if self.metering is not None else self._added


def _open(meter: Meter, scope: InstrumentationScope, metering: Metering) -> None:
    real = metering.provider.get_meter(scope.name, scope.version, scope.schema_url, scope.attributes)
    meter.open(real, metering)
