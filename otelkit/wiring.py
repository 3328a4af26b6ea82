"""Puts everything together, once a process: from the settings to the Telemetry that `bootstrap` returns.

One `Telemetry` a process at a time. The providers behind OpenTelemetry's globals are made once and re-opened.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from otelkit import coexistence, extras, semconv
from otelkit.config.load import load, refuse
from otelkit.config.settings import TABLE, Settings
from otelkit.delivery.report import FlushReport
from otelkit.engine.opening import Extras as Receivers
from otelkit.engine.opening import missing as missing_packages
from otelkit.engine.propagation import missing as missing_propagators
from otelkit.engine.providers import Providers
from otelkit.errors import AlreadyConfigured, ConfigurationError, OtelkitError
from otelkit.given import Given, checked, refuse_readers
from otelkit.instrumentation import imports, instruments, runtime
from otelkit.running import Disabled, Running
from otelkit.runtime import before, fork, guard, lifecycle, selflog
from otelkit.telemetry import Telemetry

if TYPE_CHECKING:
    from otelkit.pull.endpoint import Pull
    from otelkit.pull.mounted import MetricsApp

logger = logging.getLogger("otelkit")


class _Process:
    """What this process has of telemetry."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.providers: Providers | None = None
        self.running: Running | None = None
        self.handle: Telemetry | None = None
        self.arguments: Mapping[str, object] = {}
        self.explicit = False
        self.called_at: str | None = None
        self.open = False
        self._ledger_observed = False
        self._stop_runtime: Callable[[], None] | None = None
        fork.on_child(self.after_fork)

    def observe(self, settings: Settings) -> None:
        """Registers otelkit's own observables: once a process, since OpenTelemetry takes no callback back."""
        if not self._ledger_observed:
            self._ledger_observed = True
            meter = metrics.get_meter("otelkit")
            instruments.observe(meter, semconv.OTELKIT_RECORDS, [self._read_ledger])
            instruments.observe(meter, semconv.OTELKIT_SPOOL_RECORDS, [self._read_spool])
            instruments.observe(meter, semconv.OTELKIT_TRUNCATED_VALUES, [self._read_truncated])
        if settings.runtime_metrics and self._stop_runtime is None:
            self._stop_runtime = runtime.install(metrics.get_meter("otelkit.runtime"))
        elif not settings.runtime_metrics and self._stop_runtime is not None:
            self._stop_runtime()
            self._stop_runtime = None

    def _read_ledger(self, options: CallbackOptions) -> Iterable[Observation]:
        return self.running.ledger_observations() if self.running is not None else ()

    def _read_spool(self, options: CallbackOptions) -> Iterable[Observation]:
        return self.running.spool_observations() if self.running is not None else ()

    def _read_truncated(self, options: CallbackOptions) -> Iterable[Observation]:
        return self.running.truncated_observations() if self.running is not None else ()

    def opened(self) -> Running | None:
        """What is started and not ended yet, by `otelkit.shutdown` or by the handle's."""
        return self.running if self.open and self.running is not None and not self.running.ended else None

    def after_fork(self) -> None:
        """In a forked child."""
        self.lock = threading.RLock()
        if self.running is not None:
            self.running.after_fork()


_process = _Process()


def bootstrap(
    service_name: str | None = None,
    /,
    *,
    app: object | None = None,
    sampler: Sampler | None = None,
    id_generator: IdGenerator | str | None = None,
    span_limits: SpanLimits | None = None,
    span_processors: Sequence[SpanProcessor] = (),
    log_record_processors: Sequence[LogRecordProcessor] = (),
    metric_readers: Sequence[MetricReader] = (),
    views: Sequence[View] = (),
    **settings: object,
) -> Telemetry:
    """Starts traces, metrics and logs for this process, and returns the handle; the same call again does nothing.

    `service_name` and the keyword arguments (the settings' names, `otelkit env` lists them) win over the environment,
    that over `[tool.otelkit]` in pyproject.toml. `app` is a FastAPI or Starlette application whose title and version
    name the service where nothing else does; it need not be given for its requests to be recorded. Libraries are
    instrumented when the application imports them, or now. No thread and no socket exists before the first record.

    OpenTelemetry objects of the application's own win over the settings: `sampler` decides on every span, excluded URLs
    apart, `id_generator` makes the ids (a text names an entry point), `span_limits` limits spans. `span_processors`,
    `log_record_processors` and `metric_readers` receive all records beside the exporters, and are flushed and ended
    with otelkit; `views` hold for every reader and for what is exported. A test that captures has the ids, the limits
    and the views, and none of the others.

    Raises AlreadyConfigured when an earlier explicit call had other settings or objects, ConfigurationError for an
    unknown or wrong keyword argument, and, under OTELKIT_STRICT=1, ConfigurationError and UnsupportedLibrary for what
    is a WARNING otherwise, and AlreadyConfigured for a provider of someone else's that it would attach to.
    """
    if isinstance(id_generator, str):
        settings["id_generator"], id_generator = id_generator, None
    given = checked(
        {
            "sampler": sampler,
            "id_generator": id_generator,
            "span_limits": span_limits,
            "span_processors": span_processors,
            "log_record_processors": log_record_processors,
            "metric_readers": metric_readers,
            "views": views,
        }
    )
    return _bootstrap(service_name, app, settings, given, explicit=True)


def start_automatically() -> Telemetry:
    """Starts from the environment alone; after any other start it does nothing."""
    return _bootstrap(None, None, {}, Given(), explicit=False)


def _bootstrap(
    service_name: str | None, app: object | None, settings: Mapping[str, object], given: Given, *, explicit: bool
) -> Telemetry:
    # Above `bootstrap` stands who called it: where two do, the second wants to know who the first was.
    caller = sys._getframe(1).f_back if explicit else None
    called_at = f"{caller.f_code.co_filename}:{caller.f_lineno}" if caller is not None else None
    arguments = dict(settings)
    if service_name is not None:
        arguments["service_name"] = service_name
    if app is not None:
        arguments = {**_from_application(app), **arguments}
    with _process.lock:
        current, handle = _process.opened(), _process.handle
        if current is not None and handle is not None and not explicit:
            return handle
        loaded = load({**arguments, **extras.captured_settings()})
        problems = (*loaded.problems, *loaded.hints, *_missing(loaded.settings))
        if current is not None and handle is not None:
            changed = [*_changed(current.settings, loaded.settings), *current.given.differences(given)]
            if loaded.settings == current.settings and not changed:
                _process.called_at = _process.called_at or called_at
                _process.explicit = True
                return handle
            if _process.explicit:
                raise AlreadyConfigured(_difference(changed, _process.called_at))
        providers = _process.providers or Providers()
        if loaded.settings.strict and providers.foreign and not loaded.settings.sdk_disabled:
            raise AlreadyConfigured(_someone_elses(providers.foreign))
        refuse_readers(given.metric_readers, providers.belongs_elsewhere)
        if current is not None:
            current.shutdown()
        selflog.configure(loaded.settings.otel_log_level, _formatter(loaded.settings))
        _process.providers = providers
        kind = Disabled if loaded.settings.sdk_disabled else Running
        problems = (*problems, *coexistence.taken(), *given.without_effect(providers.foreign))
        running = kind(loaded.settings, problems, providers, _process.observe, given)
        try:
            running.start()
        except OtelkitError:
            running.withdraw()
            raise
        _process.running = running
        _process.handle = handle = Telemetry(running)
        _process.arguments = arguments
        _process.explicit = explicit
        _process.called_at = called_at
        _process.open = True
        lifecycle.install(_end, _flush_before_the_end, _is_settled, loaded.settings.shutdown_timeout_s)
        imports.when_imported("multiprocessing.util", lifecycle.watch_multiprocessing)
        return handle


@contextmanager
def captured(receivers: Callable[[], Receivers]) -> Iterator[None]:
    """Within the block every record goes to these receivers and nowhere else, whoever bootstraps meanwhile.

    Telemetry that was started before gives the block its settings, is set aside for it, and goes on after it. Raises
    RuntimeError within another such block.
    """
    extras.begin_capture(receivers)
    with _process.lock:
        aside = (_process.running, _process.handle, _process.arguments, _process.explicit, _process.open)
        earlier = _process.opened()
    try:
        if earlier is not None:
            earlier.pause()
        with _process.lock:
            _process.open = _process.explicit = False
            arguments, given = (_process.arguments, earlier.given) if earlier is not None else ({}, Given())
            _bootstrap(None, None, arguments, given, explicit=False)
        yield
    finally:
        if _process.open:
            shutdown(0.0)
        extras.end_capture()
        with _process.lock:
            _process.running, _process.handle, _process.arguments, _process.explicit, _process.open = aside
        if earlier is not None:
            earlier.resume()


def flush(timeout_s: float = 5.0) -> FlushReport:
    """Sends everything accepted before the call and waits for the acknowledgements, for `timeout_s` at most.

    Before bootstrap there is nothing to send: the report is ok and empty.
    """
    running = _process.running
    return running.flush(timeout_s) if running is not None else FlushReport(ok=True)


def shutdown(timeout_s: float | None = None) -> FlushReport:
    """Ends telemetry: sends what is there within `timeout_s` (default: OTELKIT_SHUTDOWN_TIMEOUT_S) and counts what is
    left.

    A second call reports and does nothing. `bootstrap` starts again.
    """
    running = _process.running
    if running is None:
        return FlushReport(ok=True)
    _process.open = False
    return running.shutdown(timeout_s)


def _end(timeout_s: float | None) -> None:
    running = _process.running
    # Looking through a million objects takes 0.2 s: whose slot somebody waits for has not the time.
    if timeout_s is None and running is not None and not running.ended:
        with guard.guarded("the ending of open spans"):
            running.end_open_spans()
    shutdown(timeout_s)


def _is_settled() -> bool:
    return _process.running is None or _process.running.is_settled


def _flush_before_the_end() -> None:
    if _process.running is not None:
        _process.running.flush(_process.running.settings.shutdown_timeout_s)


def status() -> dict[str, Any]:
    """Everything that is known about this process's telemetry, as plain data; `state` is `not started`, `running`,
    `disabled` (by OTEL_SDK_DISABLED) or `ended`.
    """
    running = _process.running
    if running is None:
        return {"state": "not started", "pid": os.getpid(), "before_bootstrap": before.calls}
    return {**running.status(), "called_at": _process.called_at}


def metrics_app() -> MetricsApp:
    """An ASGI application that answers a Prometheus server: `app.mount("/metrics", otelkit.metrics_app())`.

    It hands out what otelkit and the application record, for all processes of the service, and what the application's
    own prometheus_client registry holds. Nobody beyond this machine is answered without the token of
    OTELKIT_METRICS_TOKEN. No setting is needed for it, and no port is opened; `pip install 'otelkit[prometheus]'` is.
    Before `bootstrap` or after it, once or often.

    Raises ConfigurationError under OTELKIT_STRICT where a package is missing; a WARNING otherwise.
    """
    extras.pulled_by_application = True
    with _process.lock:
        running = _process.opened()
        if running is not None:
            running.pull()
    from otelkit.pull.mounted import MetricsApp

    return MetricsApp(_pulled)


def _pulled() -> tuple[Pull | None, str | None]:
    running = _process.running
    return (running.pulled, running.settings.metrics_token) if running is not None else (None, None)


def _missing(settings: Settings) -> list[str]:
    problems = [*missing_propagators(settings.propagators), *missing_packages(settings)]
    refuse(problems, settings)
    return problems


def _formatter(settings: Settings) -> logging.Formatter | None:
    if settings.log_format != "json":
        return None
    from otelkit.instrumentation.json_logs import Formatter

    return Formatter(settings.log_fields)


def _someone_elses(signals: Iterable[str]) -> str:
    return (
        f"OpenTelemetry has someone else's provider already, for {', '.join(signals)}. Nothing is started while"
        " OTELKIT_STRICT is on: call otelkit.bootstrap before the other provider is set, do not set that one, or switch"
        " OTELKIT_STRICT off to have otelkit attach to it"
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


def _changed(old: Settings, new: Settings) -> Iterator[str]:
    for env, setting in TABLE.items():
        if old[env] != new[env]:
            values = (setting.masked(str(old[env])), setting.masked(str(new[env])))
            yield f"{setting.key}: {values[0]!r} before, {values[1]!r} now"
    if old.chosen_instrumentations() != new.chosen_instrumentations():
        yield "instrument"


def _difference(changed: Sequence[str], called_at: str | None) -> str:
    where = f", at {called_at}," if called_at is not None else ""
    return (
        f"otelkit.bootstrap was called before{where} with other settings ({'; '.join(changed)}). Call it once, or call"
        " otelkit.shutdown() in between"
    )
