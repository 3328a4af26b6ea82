"""What receives records beside the OTLP pipeline: the console's tree, lines and table, the pull endpoint, a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otelkit.config.settings import SIGNALS, Settings
from otelkit.engine.opening import Extras as Receivers
from otelkit.runtime import guard

if TYPE_CHECKING:
    from otelkit.engine.sharing import SharedMetrics
    from otelkit.pull.endpoint import Pull

# Rich, and the exporter for Prometheus, are imported only where a setting or a terminal asks for them.


class Part(Protocol):
    """One receiver of an opening."""

    @property
    def receivers(self) -> Receivers:
        """What the opening's providers hand records to."""

    def close(self) -> None:
        """Ends it."""

    def in_child(self) -> Part | None:
        """In a forked child: lets go of what is the parent's; returns what takes its place there."""


class Extras(NamedTuple):
    """The receivers of one opening.

    `by_default`: nobody named an exporter, a developer looks at a terminal. `captured`: a test looks, and nothing
    else does.
    """

    parts: tuple[Part, ...] = ()
    by_default: bool = False
    captured: bool = False

    @property
    def receivers(self) -> Receivers:
        """Those of all parts."""
        found = [part.receivers for part in self.parts]
        return Receivers(
            tuple(processor for each in found for processor in each.span_processors),
            tuple(processor for each in found for processor in each.log_processors),
            tuple(reader for each in found for reader in each.metric_readers),
        )

    @property
    def pulled(self) -> list[Pull]:
        """The pull endpoint, where there is one."""
        return [part.pull for part in self.parts if isinstance(part, _Pull)]

    def with_pull(self, settings: Settings) -> Extras:
        """The same, and the metrics for whoever pulls.

        Raises ConfigurationError under OTELKIT_STRICT where a package is missing.
        """
        from otelkit.pull.endpoint import Pull

        return self._replace(parts=(*self.parts, _Pull(Pull(settings))))

    def share(self, shared: SharedMetrics) -> None:
        """Has whoever pulls get what all processes of the group say."""
        for pull in self.pulled:
            pull.share(shared)

    def each_second(self, alone: bool) -> None:
        """Called about every second: the group's endpoint may have lost its server. `alone`: the group has no other
        process.
        """
        for pull in self.pulled:
            pull.serve(alone=alone)

    def close(self) -> None:
        """Ends them all, whatever becomes of one."""
        for part in self.parts:
            with guard.guarded("the end of a console or pull exporter"):
                part.close()

    def in_child(self) -> Extras:
        """What a forked child has: a console of its own, and not the parent's listening socket."""
        parts = tuple(part for old in self.parts if (part := old.in_child()) is not None)
        return Extras(parts, self.by_default, self.captured)


def build(settings: Settings) -> Extras:
    """The receivers that the settings ask for, or that a terminal with no setting at all suggests.

    Raises ConfigurationError under OTELKIT_STRICT where a package is missing.
    """
    if _capture is not None:
        return Extras((_Captured(_capture),), captured=True)
    if settings.sdk_disabled:
        return Extras()
    by_default = _nothing_is_named(settings) and sys.stderr.isatty()
    parts: list[Part] = []
    if by_default or "console" in settings.exporters("traces"):
        parts.append(_Tree())
    if "console" in settings.exporters("logs"):
        parts.append(_Lines())
    if "console" in settings.exporters("metrics"):
        parts.append(_Table(settings.metric_export_interval_s))
    extras = Extras(tuple(parts), by_default)
    if pulled_by_application or "prometheus" in settings.exporters("metrics"):
        return extras.with_pull(settings)
    return extras


pulled_by_application = False
"""Whether `otelkit.metrics_app` was called in this process: then each opening has the metrics ready for it."""


def _nothing_is_named(settings: Settings) -> bool:
    names = [f"OTEL_{signal.upper()}_EXPORTER" for signal in SIGNALS]
    names += [f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS]
    return not any(settings.is_set(name) for name in (*names, "OTEL_EXPORTER_OTLP_ENDPOINT"))


class _Tree:
    def __init__(self) -> None:
        from otelkit.console.tree_printer import TreePrinter

        self._printer = TreePrinter()
        self.receivers = Receivers((self._printer,), (self._printer,))

    def close(self) -> None:
        self._printer.close()

    def in_child(self) -> Part:
        self._printer.abandon()
        return _Tree()


class _Lines:
    def __init__(self) -> None:
        from otelkit.console.log_lines import LogLines

        self.receivers = Receivers((), (LogLines(),))

    def close(self) -> None:
        """Each line was written when it came."""

    def in_child(self) -> Part:
        return _Lines()


class _Table:
    def __init__(self, interval_s: float) -> None:
        from otelkit.console.metric_table import MetricTable

        self._interval_s = interval_s
        self._table = MetricTable(interval_s)
        self.receivers = Receivers((self._table,), (self._table,), (self._table.reader,))

    def close(self) -> None:
        self._table.close()

    def in_child(self) -> Part:
        self._table.abandon()
        return _Table(self._interval_s)


class _Pull:
    def __init__(self, pull: Pull) -> None:
        self.pull = pull
        self.receivers = Receivers(metric_readers=pull.readers)

    def close(self) -> None:
        self.pull.close()

    def in_child(self) -> Part:
        return _Pull(self.pull.in_child())


# -- providers of someone else's, to which processors can be added and not taken away


class SpanRelay(SpanProcessor):
    """Hands spans on to whatever its targets are at the time."""

    def __init__(self) -> None:
        self.targets: tuple[SpanProcessor, ...] = ()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for target in self.targets:
            target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for target in self.targets:
            target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed = [target.force_flush(timeout_millis) for target in self.targets]
        return all(flushed)


class LogRelay(LogRecordProcessor):
    """Hands log records on to whatever its targets are at the time."""

    def __init__(self) -> None:
        self.targets: tuple[LogRecordProcessor, ...] = ()

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        for target in self.targets:
            target.on_emit(log_record)

    def shutdown(self) -> None:
        """The opening ends its targets, not someone else's provider."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed = [target.force_flush(timeout_millis) for target in self.targets]
        return all(flushed)


# -- a test that captures

_capture: Callable[[], Receivers] | None = None

CAPTURED_SETTINGS: Mapping[str, object] = {
    "traces_exporter": "none",
    "metrics_exporter": "none",
    "logs_exporter": "none",
    "sdk_disabled": False,
    "traces_sampler": "parentbased_always_on",
}
"""What holds over every other source while a test captures: nothing leaves the process, and everything is recorded."""


def begin_capture(receivers: Callable[[], Receivers]) -> None:
    """From now on every opening hands its records to these receivers alone; they are asked for at each opening.

    Raises RuntimeError where a capture is under way: there is one telemetry a process.
    """
    global _capture
    if _capture is not None:
        raise RuntimeError("telemetry is captured already; only one capture a process at a time")
    _capture = receivers


def end_capture() -> None:
    """Openings from now on follow the settings again."""
    global _capture
    _capture = None


def captured_settings() -> Mapping[str, object]:
    """`CAPTURED_SETTINGS` while a test captures, else nothing."""
    return CAPTURED_SETTINGS if _capture is not None else {}


class _Captured:
    def __init__(self, receivers: Callable[[], Receivers]) -> None:
        self.receivers = receivers()

    def close(self) -> None:
        """What was captured stays readable."""

    def in_child(self) -> None:
        """What a forked child records, no test sees."""
