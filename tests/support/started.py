"""A telemetry that is started in the test's own process and delivers to a real receiver on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import otelkit
from tests.support.sink import ReceivedLog, ReceivedSpan, Sink


class Started:
    """What `exported` gives a test: everything that it emitted, decoded, after a flush."""

    def __init__(self, sink: Sink, telemetry: otelkit.Telemetry, state_dir: Path) -> None:
        self.sink = sink
        self.telemetry = telemetry
        self.state_dir = state_dir

    def flush(self) -> Sink:
        """The receiver with everything that was emitted up to now."""
        report = self.telemetry.flush(10.0)
        assert report.ok, f"the flush failed: {report}"
        return self.sink

    def spans(self) -> dict[str, ReceivedSpan]:
        """The spans by name; fails where a name came twice."""
        found = self.flush().spans
        by_name = {span.name: span for span in found}
        assert len(by_name) == len(found), f"a span name came twice: {[span.name for span in found]}"
        return by_name

    def logs(self) -> list[ReceivedLog]:
        """The log records but otelkit's own `application starting`."""
        return [log for log in self.flush().logs if log.record.event_name != "otelkit.application.starting"]


@contextmanager
def started(state_dir: Path, **settings: Any) -> Iterator[Started]:
    """Starts telemetry with no instrumentation but the settings', and ends it with the block."""
    arguments: dict[str, Any] = {
        "disabled_instrumentations": "*",
        "runtime_metrics": False,
        "otel_log_level": "critical",
        "state_dir": str(state_dir),
        "bsp_schedule_delay_s": 60,
        "blrp_schedule_delay_s": 60,
        "metric_export_interval_s": 600,
        **settings,
    }
    with Sink() as sink:
        telemetry = otelkit.bootstrap("test", otlp_endpoint=sink.url, **arguments)
        try:
            yield Started(sink, telemetry, state_dir)
        finally:
            otelkit.unbind()
            otelkit.shutdown(5.0)
