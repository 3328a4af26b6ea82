"""What runs behind a `Telemetry`: pipeline, providers and instrumentation of one process, from its start over forks to
its end.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation
from opentelemetry.propagators.textmap import TextMapPropagator

from otelkit import coexistence, extras, resource, semconv
from otelkit.config.settings import SIGNALS, Settings
from otelkit.delivery.destination import destination
from otelkit.delivery.ledger import LedgerPage
from otelkit.delivery.pipeline import Pipeline
from otelkit.delivery.plain import PlainLog
from otelkit.delivery.report import FlushReport
from otelkit.engine import unended
from otelkit.engine.group_key import GroupKey, group_key
from otelkit.engine.opening import collection_reader, open_engine
from otelkit.engine.propagation import propagator
from otelkit.engine.providers import Providers
from otelkit.engine.seams import propagate
from otelkit.engine.sharing import SharedMetrics, SharingOptions
from otelkit.given import Given
from otelkit.instrumentation.registry import Registry
from otelkit.pipeline_options import pipeline_options
from otelkit.process_status import accounts_data, status_record, versions
from otelkit.runtime import before, fork, guard
from otelkit.runtime.state import state_directory
from otelkit.signals import exceptions
from otelkit.starting import application_starting
from otelkit.versions import installed_version

if TYPE_CHECKING:
    from otelkit.pull.endpoint import Pull

logger = logging.getLogger("otelkit")

_openings = 0
"""How often this process has started telemetry: a new start begins its sums anew, and so a group of its own."""


class Running:
    """Everything of one opening. Thread-safe."""

    state = "running"

    def __init__(
        self,
        settings: Settings,
        problems: tuple[str, ...],
        providers: Providers,
        observe: Callable[[Settings], None],
        given: Given,
    ) -> None:
        self.settings = settings
        self.given = given
        self._problems = problems
        self._providers = providers
        self._observe = observe
        self.resource: Mapping[str, Any] = _resource(settings)
        self._explicit_instance_id = settings.resource_attributes.get("service.instance.id")
        self._extras = extras.build(settings)
        self._group = self._find_group()
        self._pipeline = self._open_pipeline()
        self._shared = self._share()
        self._registry = Registry(settings)
        self.ended = False

    # -- what the handle and the API hand on

    def flush(self, timeout_s: float) -> FlushReport:
        """As `Telemetry.flush`."""
        fork.check()
        flushed = self._receiving.flush(time.monotonic() + timeout_s)
        report = self._pipeline.flush(timeout_s)
        return replace(report, ok=flushed() and report.ok)

    def shutdown(self, timeout_s: float | None = None) -> FlushReport:
        """As `Telemetry.shutdown`."""
        fork.check()
        budget = self.settings.shutdown_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + budget
        if self.ended:
            return self._pipeline.shutdown(budget)
        self._extras.close()  # first: the tree need not wait for a next hop that does not answer
        closed = self._receiving.close(deadline)
        report = self._pipeline.shutdown(max(0.0, deadline - time.monotonic()))
        self.ended = True
        ok = closed() and report.ok
        self._registry.uninstall()
        return replace(report, ok=ok)

    def withdraw(self) -> None:
        """Ends a start that failed. What the application gave is not ended: a later call may be given it again."""
        self.given = Given()
        self.shutdown(0.0)

    @property
    def _receiving(self) -> Given:
        """What was given and has a part in this opening: while a test captures, the objects are left alone."""
        return Given() if self._extras.captured else self.given

    def recover(self, timeout_s: float) -> LedgerPage:
        """Sends what dead processes of this service have left, on an opening that was not started: what was adopted,
        delivered and dropped until nothing is left, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        self._pipeline.recover()
        report = self._pipeline.flush(timeout_s)
        while (report.spooled or report.in_memory) and (left_s := deadline - time.monotonic()) > 0:
            report = self._pipeline.flush(left_s)
        page = self._pipeline.ledger.read()
        self._pipeline.shutdown(max(0.0, deadline - time.monotonic()))
        return page

    @property
    def is_settled(self) -> bool:
        """Whether `shutdown` has come so far that no record is in memory alone. Takes no lock."""
        return self._pipeline.is_settled

    def end_open_spans(self) -> None:
        """At the end of the process: what is open then is exported as it stands."""
        fork.check()
        unended.end_all(self._providers.tracer)

    def status(self) -> dict[str, Any]:
        """As `Telemetry.status`."""
        fork.check()
        return {
            "state": "ended" if self.ended else self.state,
            "pid": os.getpid(),
            "service": self.service,
            "resource": dict(self.resource),
            "exporters": {
                signal: {
                    "exporters": list(self.settings.exporters(signal)),
                    "destination": destination(self.settings, signal).shown,
                }
                for signal in SIGNALS
            },
            "libraries": {name: asdict(decision) for name, decision in self._registry.decisions.items()},
            "ledger": accounts_data(self._pipeline.ledger.read().accounts),
            "in_memory": self._pipeline.in_memory(),
            "spool": self._pipeline.spool.describe() if self._pipeline.spool is not None else None,
            "recorder": self._pipeline.recorder.describe() if self._pipeline.recorder is not None else None,
            "metrics_group": self._shared.describe() if self._shared is not None else None,
            "foreign_providers": list(self._providers.foreign),
            "beside": coexistence.described(),
            "before_bootstrap": before.calls,
            "failures": dict(guard.failures),
            "problems": list(self._problems),
            "versions": dict(versions()),
        }

    def _status_record(self, ends: bool) -> PlainLog:
        pipeline, shared = self._pipeline, self._shared
        return status_record(
            pipeline.ledger.read().accounts,
            self._registry.shown(),
            metrics_instance=shared.describe().get("service.instance.id") if shared is not None else None,
            spool=(pipeline.spool.failure or "") if pipeline.spool is not None else None,
            ends=ends,
        )

    @property
    def service(self) -> str:
        """The service's name."""
        return str(self.resource["service.name"])

    # -- opening, and opening again in a forked child

    def start(self) -> None:
        """Publishes the providers, instruments, and says so in one line; in a test that captures it says nothing."""
        self._switch_on()
        for problem in self._problems:
            logger.warning("%s", problem)
        if not self._extras.captured:
            self._observe(self.settings)
            logger.info("%s", self.line())
            application_starting(self.resource)
        self._arm()
        if self._shared is not None and self._extras.pulled:
            self._shared.tick()  # who serves /metrics serves it before its first record

    def pause(self) -> None:
        """Lets go of the libraries and of every receiver while a test captures; what is queued is still sent."""
        self._registry.uninstall()
        self._extras.close()
        self._pipeline.source = None

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._extras = extras.build(self.settings)
        self._switch_on()

    def _switch_on(self) -> None:
        exceptions.span_events = self.settings.exception_signal != "logs"
        self._open_engine()
        propagate.set_global_textmap(_propagator(self.settings))
        before.live = True
        self._registry.install()

    def _open_pipeline(self) -> Pipeline:
        extras = self._extras
        return Pipeline(
            pipeline_options(self.settings, self.resource, captured=extras.captured, quiet=extras.by_default)
        )

    def _arm(self) -> None:
        if not self._extras.captured and "otlp" in self.settings.exporters("logs"):
            self._pipeline.telling.tell = self._status_record
        self._pipeline.arm()

    def pull(self) -> None:
        """Has the metrics ready for `otelkit.metrics_app`, where the settings asked for no pull endpoint."""
        if self.ended or self._extras.captured or self._extras.pulled or self.settings.sdk_disabled:
            return
        self._extras = self._extras.with_pull(self.settings)
        if self._shared is None:  # no exporter wanted metrics
            self._group = self._find_group()
            self._shared = self._share()
            assert self._shared is not None
            readers = [collection_reader(self.settings, self._shared)]
        else:
            readers = []
        if "metrics" not in self._providers.foreign:
            for reader in (*readers, *(reader for pull in self._extras.pulled for reader in pull.readers)):
                self._providers.meter.attach(reader)
        self._publish()

    @property
    def pulled(self) -> Pull | None:
        """What `otelkit.metrics_app` hands out; None while there is nothing."""
        return None if self.ended else next(iter(self._extras.pulled), None)

    def _find_group(self) -> GroupKey | None:
        """The processes that metrics are shared with; None for metrics that cannot be."""
        global _openings
        settings = self.settings
        if settings.metrics_temporality != "cumulative" or not _collects(settings):
            return None
        opening, _openings = _openings, _openings + 1
        where = destination(settings, "metrics").shown
        return group_key(self.resource, self._explicit_instance_id, where, opening)

    def _share(self) -> SharedMetrics | None:
        settings = self.settings
        if not _collects(settings):
            return None
        observed = self._providers.meter
        return SharedMetrics(
            SharingOptions(
                key=self._group,
                groups=state_directory(settings.state_dir) / "groups",
                resource=self.resource,
                explicit_id=self._explicit_instance_id,
                interval_s=settings.metric_export_interval_s,
                timeout_s=settings.metric_export_timeout_s,
                deliver=self._pipeline.metrics,
                is_state=lambda name: name in semconv.STATES or observed.is_state(name),
                each_second=self._extras.each_second,
            )
        )

    def _open_engine(self) -> None:
        receivers = self.given.beside(self._extras.receivers, captured=self._extras.captured)
        providers = self._providers
        # A reader belongs to one provider: where the metrics' is someone else's, to that one.
        ours = receivers._replace(metric_readers=()) if "metrics" in providers.foreign else receivers
        shared = None if self._extras.captured else self._shared
        opening = open_engine(self.settings, self.resource, self._pipeline, ours, shared)
        providers.tracer.open(opening.tracing)
        providers.meter.open(opening.metering)
        providers.logger.open(opening.logging)
        self._publish()

    def _publish(self) -> None:
        receivers = self.given.beside(self._extras.receivers, captured=self._extras.captured)
        exported = [signal for signal in SIGNALS if "otlp" in self.settings.exporters(signal)]
        shared = None if self._extras.captured else self._shared
        self._providers.publish(self._pipeline, receivers, exported, shared)
        self._pipeline.source = shared
        if shared is not None:
            shared.changed = self._providers.meter.changed
            self._extras.share(shared)

    def after_fork(self) -> None:
        """In a forked child: its own identity, queue, ledger and providers; the parent's records stay the parent's."""
        self._pipeline.abandon()
        pid = os.getpid()
        instance = resource.new_instance_id(self._explicit_instance_id, pid)
        self.resource = {**self.resource, "process.pid": pid, "service.instance.id": instance}
        self._extras = self._extras.in_child()
        self._pipeline = self._open_pipeline()
        self._shared = self._share()
        if not self.ended:
            self._reopen()

    def _reopen(self) -> None:
        self._providers.meter.after_fork()
        self._open_engine()
        self._arm()

    def ledger_observations(self) -> Iterator[Observation]:
        """The ledger as the metric `otelkit.records`; the outcome `dropped` carries its reason."""
        for signal, account in self._pipeline.ledger.read().accounts.items():
            labels = {"otelkit.signal": signal}
            yield Observation(account.delivered, {**labels, "otelkit.outcome": "delivered"})
            for reason, count in account.dropped.items():
                yield Observation(count, {**labels, "otelkit.outcome": "dropped", "otelkit.reason": reason.value})

    def spool_observations(self) -> Iterator[Observation]:
        """What waits on disk as the metric `otelkit.spool.records`: it falls again, as no counter may."""
        for signal, account in self._pipeline.ledger.read().accounts.items():
            yield Observation(account.spooled, {"otelkit.signal": signal})

    def truncated_observations(self) -> Iterator[Observation]:
        """The values that were cut, as the metric `otelkit.truncated_values`."""
        for signal, account in self._pipeline.ledger.read().accounts.items():
            yield Observation(account.truncated, {"otelkit.signal": signal})

    def line(self) -> str:
        """The line at start: service, exporters, and each library with its choice."""
        exporters = []
        for signal in SIGNALS:
            names = self.settings.exporters(signal)
            target = f"→{destination(self.settings, signal).shown}" if "otlp" in names else ""
            exporters.append(f"{signal}={'+'.join(names)}{target}")
        attached = (
            f" (attached to someone else's provider: {', '.join(self._providers.foreign)})"
            if self._providers.foreign
            else ""
        )
        service = f"{self.service} {self.resource.get('service.version', '')}".strip()
        libraries = " ".join(self._registry.summary())
        beside = coexistence.summary()
        return (
            f"otelkit {installed_version('otelkit')}: {service}; {' '.join(exporters)}{attached}; {libraries}{beside}"
        )


class Disabled(Running):
    """OTEL_SDK_DISABLED: propagators work, nothing else does."""

    state = "disabled"

    def start(self) -> None:
        self._switch_on()
        logger.info("otelkit %s: disabled by OTEL_SDK_DISABLED", installed_version("otelkit"))

    def pause(self) -> None:
        """Nothing is on."""

    def resume(self) -> None:
        self._switch_on()

    def _switch_on(self) -> None:
        self._providers.close()  # an earlier start has left them open
        propagate.set_global_textmap(_propagator(self.settings))
        before.live = True

    def _reopen(self) -> None:
        """In a forked child nothing is on either."""

    def line(self) -> str:
        return "disabled by OTEL_SDK_DISABLED"


def _propagator(settings: Settings) -> TextMapPropagator:
    return propagator(settings.propagators, baggage_in=settings.baggage_in, baggage_out=settings.baggage_out)


def _collects(settings: Settings) -> bool:
    asked = extras.pulled_by_application or {"otlp", "prometheus"} & set(settings.exporters("metrics"))
    return bool(asked) and not settings.sdk_disabled


def _resource(settings: Settings) -> Mapping[str, Any]:
    return resource.detect(
        service_name=settings.service_name,
        service_version=settings.service_version,
        revision=settings.service_revision,
        environment=settings.environment,
        attributes=settings.resource_attributes,
        environ=os.environ,
    )
