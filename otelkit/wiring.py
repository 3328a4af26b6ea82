"""The only module that sees every other: settings -> resource -> pipeline -> providers -> instrumentation -> Telemetry.

One `Telemetry` a process at a time. The providers behind OpenTelemetry's globals are made once and re-opened.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opentelemetry import _logs, metrics, propagate, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk import metrics as sdk_metrics
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.metrics.export import MetricReader

from otelkit import extras, resource, semconv
from otelkit.config.load import load
from otelkit.config.settings import SIGNALS, TABLE, Settings, Signal
from otelkit.delivery.destination import destination
from otelkit.delivery.pipeline import Pipeline, PipelineOptions
from otelkit.delivery.queue import QueueLimits
from otelkit.delivery.report import FlushReport
from otelkit.engine.intake import CollectionIntake, LogCorrelation, LogIntake, SpanCorrelation, SpanIntake
from otelkit.engine.logs import LoggerProvider
from otelkit.engine.metering import MeterProvider
from otelkit.engine.opening import Extras as Receivers
from otelkit.engine.opening import missing as missing_packages
from otelkit.engine.opening import open_providers
from otelkit.engine.propagation import missing as missing_propagators
from otelkit.engine.propagation import propagator
from otelkit.engine.tracing import TracerProvider
from otelkit.errors import AlreadyConfigured, ConfigurationError
from otelkit.instrumentation import imports, instruments, runtime
from otelkit.instrumentation.registry import Registry
from otelkit.runtime import before, fork, guard, lifecycle, selflog
from otelkit.runtime.state import state_directory
from otelkit.signals import exceptions

logger = logging.getLogger("otelkit")


def _into_nothing(data: object) -> None:
    """Before the first opening."""


class Providers:
    """The process's three providers behind OpenTelemetry's globals.

    Where an SDK provider of someone else's is there first, otelkit attaches to it instead (`foreign` names the
    signals).
    """

    def __init__(self) -> None:
        self.tracer = TracerProvider()
        self.meter = MeterProvider()
        self.logger = LoggerProvider()
        self.foreign: list[str] = []
        self._published = False
        self._spans = extras.SpanRelay()
        self._records = extras.LogRelay()
        self._metrics: sdk_metrics.MeterProvider | None = None
        self._reader = CollectionIntake(_into_nothing)
        self._readers: tuple[MetricReader, ...] = ()

    def publish(self, pipeline: Pipeline, receivers: Receivers, exported: Collection[Signal]) -> None:
        """Sets the globals, once a process, or attaches to the providers that are there.

        A provider of someone else's outlives the openings: what is attached to it hands on to the present one's
        receivers, and to the pipeline for the signals in `exported`.
        """
        if not self._published:
            self._published = True
            self._attach()
        self._spans.targets = (*receivers.span_processors, *((SpanIntake(pipeline),) * ("traces" in exported)))
        self._records.targets = (*receivers.log_processors, *((LogIntake(pipeline),) * ("logs" in exported)))
        if self._metrics is not None:
            self._reader.redirect(pipeline.metrics)
            pipeline.collect = self._reader.collect_now if "metrics" in exported else None
            for reader in self._readers:
                self._metrics.remove_metric_reader(reader)
            self._readers = receivers.metric_readers
            for reader in self._readers:
                self._metrics.add_metric_reader(reader)

    def _attach(self) -> None:
        tracer, meter, log = (
            trace.get_tracer_provider(),
            metrics.get_meter_provider(),
            _logs.get_logger_provider(),
        )
        if isinstance(tracer, sdk_trace.TracerProvider):
            tracer.add_span_processor(SpanCorrelation())
            tracer.add_span_processor(self._spans)
            self.foreign.append("traces")
        else:
            trace.set_tracer_provider(self.tracer)
        if isinstance(meter, sdk_metrics.MeterProvider):
            self._metrics = meter
            meter.add_metric_reader(self._reader)
            self.foreign.append("metrics")
        else:
            metrics.set_meter_provider(self.meter)
        if isinstance(log, sdk_logs.LoggerProvider):
            log.add_log_record_processor(LogCorrelation())
            log.add_log_record_processor(self._records)
            self.foreign.append("logs")
        else:
            _logs.set_logger_provider(self.logger)


class Telemetry:
    """A started telemetry: what `bootstrap` returns. Thread-safe."""

    def __init__(self, settings: Settings, problems: tuple[str, ...], providers: Providers) -> None:
        self.settings = settings
        self._problems = problems
        self._providers = providers
        self.resource: Mapping[str, Any] = _resource(settings)
        self._explicit_instance_id = settings.resource_attributes.get("service.instance.id")
        self._extras = extras.build(settings)
        self._pipeline = self._open_pipeline()
        self._registry = Registry(settings)
        self._ended = False

    # -- what a holder of the handle may do

    def flush(self, timeout_s: float = 5.0) -> FlushReport:
        """Sends everything accepted before the call and waits for the acknowledgements, for `timeout_s` at most."""
        return self._pipeline.flush(timeout_s)

    def shutdown(self, timeout_s: float | None = None) -> FlushReport:
        """Sends what is there within `timeout_s` (default: OTELKIT_SHUTDOWN_TIMEOUT_S), then ends; records that come
        later are counted and dropped. `bootstrap` may be called again.
        """
        budget = self.settings.shutdown_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + budget
        if not self._ended:
            self._extras.close()  # first: the tree need not wait for a next hop that does not answer
        report = self._pipeline.shutdown(max(0.0, deadline - time.monotonic()))
        if not self._ended:
            self._ended = True
            self._registry.uninstall()
        return report

    def status(self) -> dict[str, Any]:
        """Everything that is known about this process's telemetry, as plain data."""
        ledger = self._pipeline.ledger.read()
        return {
            "state": "ended" if self._ended else "running",
            "pid": os.getpid(),
            "service": self.resource.get("service.name"),
            "resource": dict(self.resource),
            "exporters": {
                signal: {
                    "exporters": list(self.settings.exporters(signal)),
                    "destination": destination(self.settings, signal).shown,
                }
                for signal in SIGNALS
            },
            "libraries": {name: asdict(decision) for name, decision in self._registry.decisions.items()},
            "ledger": {
                signal: {
                    "accepted": account.accepted,
                    "delivered": account.delivered,
                    "spooled": account.spooled,
                    "dropped": {reason.value: count for reason, count in account.dropped.items()},
                }
                for signal, account in ledger.accounts.items()
            },
            "in_memory": self._pipeline.in_memory(),
            "foreign_providers": list(self._providers.foreign),
            "before_bootstrap": before.calls,
            "failures": dict(guard.failures),
            "problems": list(self._problems),
            "versions": {name: _version(name) for name in ("otelkit", "opentelemetry-sdk", "opentelemetry-api")},
        }

    # -- opening, and opening again in a forked child

    def start(self) -> None:
        """Publishes the providers, instruments, and says so in one line; in a test that captures it says nothing."""
        self._switch_on()
        for problem in self._problems:
            logger.warning("%s", problem)
        if not self._extras.captured:
            _process.observe(runtime_metrics=self.settings.runtime_metrics)
            logger.info("%s", self.line())
            _application_starting(self.resource)
        self._pipeline.arm()

    def pause(self) -> None:
        """Lets go of the libraries and of every receiver while a test captures; what is queued is still sent."""
        self._registry.uninstall()
        self._extras.close()
        self._pipeline.collect = None

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._extras = extras.build(self.settings)
        self._switch_on()

    def _switch_on(self) -> None:
        exceptions.span_events = self.settings.exception_signal != "logs"
        self._open_providers()
        propagate.set_global_textmap(propagator(self.settings.propagators))
        before.live = True
        self._registry.install()

    def _open_pipeline(self) -> Pipeline:
        settings = self.settings
        return Pipeline(
            PipelineOptions(
                service=str(self.resource["service.name"]),
                destinations={
                    signal: destination(settings, signal) for signal in SIGNALS if "otlp" in settings.exporters(signal)
                },
                resources=dict.fromkeys(SIGNALS, self.resource),
                spans=QueueLimits(
                    settings.bsp_max_queue_size,
                    settings.bsp_max_export_batch_size,
                    settings.bsp_schedule_delay_s,
                ),
                logs=QueueLimits(
                    settings.blrp_max_queue_size,
                    settings.blrp_max_export_batch_size,
                    settings.blrp_schedule_delay_s,
                ),
                metric_interval_s=settings.metric_export_interval_s,
                metric_timeout_s=settings.metric_export_timeout_s,
                max_pending_bytes=settings.max_pending_bytes,
                state_dir=state_directory(settings.state_dir),
                quiet=self._extras.by_default,
            )
        )

    def _open_providers(self) -> None:
        receivers = self._extras.receivers
        opening = open_providers(self.settings, self.resource, self._pipeline, receivers)
        providers = self._providers
        providers.tracer.open(opening.tracer_provider)
        providers.meter.open(opening.meter_provider)
        providers.logger.open(opening.logger_provider)
        exported = [signal for signal in SIGNALS if "otlp" in self.settings.exporters(signal)]
        providers.publish(self._pipeline, receivers, exported)

    def after_fork(self) -> None:
        """In a forked child: its own identity, queue, ledger and providers; the parent's records stay the parent's."""
        self._pipeline.abandon()
        pid = os.getpid()
        instance = resource.new_instance_id(self._explicit_instance_id, pid)
        self.resource = {**self.resource, "process.pid": pid, "service.instance.id": instance}
        self._extras = self._extras.in_child()
        self._pipeline = self._open_pipeline()
        if not self._ended:
            self._providers.meter.after_fork()
            self._open_providers()
            self._pipeline.arm()

    def ledger_observations(self) -> Iterator[Observation]:
        """The ledger as the metric `otelkit.records`; the outcome `dropped` carries its reason."""
        for signal, account in self._pipeline.ledger.read().accounts.items():
            labels = {"otelkit.signal": signal}
            yield Observation(account.delivered, {**labels, "otelkit.outcome": "delivered"})
            yield Observation(account.spooled, {**labels, "otelkit.outcome": "spooled"})
            for reason, count in account.dropped.items():
                yield Observation(count, {**labels, "otelkit.outcome": "dropped", "otelkit.reason": reason.value})

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
        service = f"{self.resource['service.name']} {self.resource.get('service.version', '')}".strip()
        libraries = " ".join(self._registry.summary())
        return f"otelkit {_version('otelkit')}: {service}; {' '.join(exporters)}{attached}; {libraries}"


class _Disabled(Telemetry):
    """OTEL_SDK_DISABLED: propagators work, nothing else does."""

    def start(self) -> None:
        propagate.set_global_textmap(propagator(self.settings.propagators))
        before.live = True
        logger.info("otelkit %s: disabled by OTEL_SDK_DISABLED", _version("otelkit"))

    def pause(self) -> None:
        """Nothing is on."""

    def resume(self) -> None:
        propagate.set_global_textmap(propagator(self.settings.propagators))

    def line(self) -> str:
        return "disabled by OTEL_SDK_DISABLED"


class _Process:
    """What this process has of telemetry."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.providers: Providers | None = None
        self.telemetry: Telemetry | None = None
        self.arguments: Mapping[str, object] = {}
        self.explicit = False
        self.open = False
        self._ledger_observed = False
        self._stop_runtime: Callable[[], None] | None = None
        fork.on_child(self.after_fork)

    def observe(self, *, runtime_metrics: bool) -> None:
        """Registers otelkit's own observables: once a process, since OpenTelemetry takes no callback back."""
        if not self._ledger_observed:
            self._ledger_observed = True
            instruments.observe(metrics.get_meter("otelkit"), semconv.OTELKIT_RECORDS, [self._read_ledger])
        if runtime_metrics and self._stop_runtime is None:
            self._stop_runtime = runtime.install(metrics.get_meter("otelkit.runtime"))
        elif not runtime_metrics and self._stop_runtime is not None:
            self._stop_runtime()
            self._stop_runtime = None

    def _read_ledger(self, options: CallbackOptions) -> Iterable[Observation]:
        return self.telemetry.ledger_observations() if self.telemetry is not None else ()

    def after_fork(self) -> None:
        """In a forked child."""
        self.lock = threading.RLock()
        if self.telemetry is not None:
            self.telemetry.after_fork()


_process = _Process()


def bootstrap(service_name: str | None = None, /, *, app: object | None = None, **settings: object) -> Telemetry:
    """Starts traces, metrics and logs for this process, and returns the handle; the same call again does nothing.

    `service_name` and the keyword arguments (the settings' names, `otelkit env` lists them) win over the environment,
    that over `[tool.otelkit]` in pyproject.toml. `app` is a FastAPI or Starlette application whose title and version
    name the service where nothing else does; it need not be given for its requests to be recorded. Libraries are
    instrumented when the application imports them, or now. No thread and no socket exists before the first record.

    Raises AlreadyConfigured when an earlier explicit call had other settings, ConfigurationError for an unknown or
    wrong keyword argument, and, under OTELKIT_STRICT=1, ConfigurationError and UnsupportedLibrary for what is a
    WARNING otherwise.
    """
    return _bootstrap(service_name, app, settings, explicit=True)


def start_automatically() -> Telemetry:
    """Starts from the environment alone; after any other start it does nothing."""
    return _bootstrap(None, None, {}, explicit=False)


def _bootstrap(
    service_name: str | None, app: object | None, given: Mapping[str, object], *, explicit: bool
) -> Telemetry:
    arguments = dict(given)
    if service_name is not None:
        arguments["service_name"] = service_name
    if app is not None:
        arguments = {**_from_application(app), **arguments}
    with _process.lock:
        current = _process.telemetry
        if _process.open and current is not None and not explicit:
            return current
        loaded = load({**arguments, **extras.captured_settings()})
        problems = (*loaded.problems, *_missing(loaded.settings))
        selflog.configure(loaded.settings.otel_log_level)
        if _process.open and current is not None:
            if loaded.settings == current.settings:
                _process.explicit = True
                return current
            if _process.explicit:
                raise AlreadyConfigured(_difference(current.settings, loaded.settings))
            current.shutdown()
        if _process.providers is None:
            _process.providers = Providers()
        kind = _Disabled if loaded.settings.sdk_disabled else Telemetry
        telemetry = kind(loaded.settings, problems, _process.providers)
        telemetry.start()
        _process.telemetry = telemetry
        _process.arguments = arguments
        _process.explicit = explicit
        _process.open = True
        lifecycle.install(shutdown, flush)
        imports.when_imported("multiprocessing.util", lifecycle.watch_multiprocessing)
        return telemetry


@contextmanager
def captured(receivers: Callable[[], Receivers]) -> Iterator[None]:
    """Within the block every record goes to these receivers and nowhere else, whoever bootstraps meanwhile.

    Telemetry that was started before gives the block its settings, is set aside for it, and goes on after it. Raises
    RuntimeError within another such block.
    """
    extras.begin_capture(receivers)
    with _process.lock:
        aside = (_process.telemetry, _process.arguments, _process.explicit, _process.open)
        earlier = _process.telemetry if _process.open else None
    try:
        if earlier is not None:
            earlier.pause()
        with _process.lock:
            _process.open = _process.explicit = False
            _bootstrap(None, None, _process.arguments if earlier is not None else {}, explicit=False)
        yield
    finally:
        if _process.open:
            shutdown(0.0)
        extras.end_capture()
        with _process.lock:
            _process.telemetry, _process.arguments, _process.explicit, _process.open = aside
        if earlier is not None:
            earlier.resume()


def flush(timeout_s: float = 5.0) -> FlushReport:
    """Sends everything accepted before the call and waits for the acknowledgements, for `timeout_s` at most.

    Before bootstrap there is nothing to send: the report is ok and empty.
    """
    telemetry = _process.telemetry
    return telemetry.flush(timeout_s) if telemetry is not None else FlushReport(ok=True)


def shutdown(timeout_s: float | None = None) -> FlushReport:
    """Ends telemetry: sends what is there within `timeout_s` (default: OTELKIT_SHUTDOWN_TIMEOUT_S) and counts what is
    left.

    A second call reports and does nothing. `bootstrap` starts again.
    """
    telemetry = _process.telemetry
    if telemetry is None:
        return FlushReport(ok=True)
    _process.open = False
    return telemetry.shutdown(timeout_s)


def status() -> dict[str, Any]:
    """Everything that is known about this process's telemetry, as plain data; `state` is `not started`, `running` or
    `ended`.
    """
    telemetry = _process.telemetry
    if telemetry is None:
        return {"state": "not started", "pid": os.getpid(), "before_bootstrap": before.calls}
    return telemetry.status()


def _missing(settings: Settings) -> list[str]:
    problems = [*missing_propagators(settings.propagators), *missing_packages(settings)]
    if problems and settings.strict:
        raise ConfigurationError("; ".join(problems) + " (OTELKIT_STRICT is on)")
    return problems


def _resource(settings: Settings) -> Mapping[str, Any]:
    return resource.detect(
        service_name=settings.service_name,
        service_version=settings.service_version,
        revision=settings.service_revision,
        environment=settings.environment,
        attributes=settings.resource_attributes,
        environ=os.environ,
    )


def _from_application(app: object) -> dict[str, object]:
    names = {cls.__name__ for cls in type(app).__mro__ if cls.__module__.partition(".")[0] in ("fastapi", "starlette")}
    if not names & {"FastAPI", "Starlette"}:
        raise ConfigurationError(
            f"bootstrap: app={type(app).__name__!r} is neither a FastAPI nor a Starlette application; leave `app` away"
        )
    found: dict[str, object] = {}
    title, number = getattr(app, "title", "FastAPI"), getattr(app, "version", "0.1.0")
    if title != "FastAPI" and not os.environ.get("OTEL_SERVICE_NAME"):
        found["service_name"] = title
    if number != "0.1.0" and not os.environ.get("OTELKIT_SERVICE_VERSION"):
        found["service_version"] = number
    return found


def _difference(old: Settings, new: Settings) -> str:
    changed = []
    for env, setting in TABLE.items():
        if old[env] != new[env]:
            values = (setting.masked(str(old[env])), setting.masked(str(new[env])))
            changed.append(f"{setting.key}: {values[0]!r} before, {values[1]!r} now")
    if old.chosen_instrumentations() != new.chosen_instrumentations():
        changed.append("instrument")
    return (
        "otelkit.bootstrap was called before with other settings ("
        + "; ".join(changed)
        + "). Call it once, or call otelkit.shutdown() in between"
    )


def _application_starting(attributes: Mapping[str, Any]) -> None:
    """The application's first record: it only queues."""
    _logs.get_logger("otelkit").emit(
        severity_number=_logs.SeverityNumber.INFO,
        severity_text="INFO",
        body="application starting",
        event_name="otelkit.application.starting",
        attributes={
            key: attributes[key]
            for key in (
                "service.name",
                "service.version",
                "deployment.environment.name",
                "process.runtime.version",
            )
            if key in attributes
        },
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"
