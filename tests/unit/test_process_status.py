"""What a process tells of its telemetry: the event `otelkit.status`."""

from __future__ import annotations

from pathlib import Path

import otelkit
from tests.support.process import run_python
from tests.support.sink import Sink
from tests.support.started import started


def test_it_is_told_with_the_first_and_the_last_records(tmp_path: Path) -> None:
    """Two in a short life; the last one closes the ledger but for itself and its companions."""
    with started(tmp_path) as telemetry:
        with otelkit.span("work"):
            pass
        sink = telemetry.flush()
        (first,) = sink.statuses
        assert (first.scope, first.record.severity_text, first.body["ends"]) == ("otelkit", "DEBUG", False)
        assert first.body["libraries"]["celery"]["choice"] == "off"
        assert first.body["libraries"]["celery"]["reason"] == "by setting"
        assert otelkit.shutdown(10.0).ok
    _, last = sink.statuses
    assert last.body["ends"] is True
    account = last.body["ledger"]["traces"]
    assert (account["accepted"], account["delivered"], account["in_memory"], account["dropped"]) == (1, 1, 0, {})
    assert last.resource["service.instance.id"] == first.resource["service.instance.id"]


def test_nothing_of_it_comes_after_the_end(sink: Sink, tmp_path: Path) -> None:
    """A process whose first record is its last: one, and none is left over to be dropped."""
    source = """
    import otelkit
    otelkit.bootstrap("short")
    assert otelkit.shutdown(10.0).ok
    assert otelkit.status()["ledger"]["logs"]["dropped"] == {}
    """
    run_python(source, cwd=tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    assert [told.body["ends"] for told in sink.statuses][-1] is True


def test_it_goes_the_way_of_exported_logs_alone(sink: Sink, tmp_path: Path) -> None:
    """Not where logs are not exported, and never into the console or a processor."""
    source = """
    import otelkit
    otelkit.bootstrap("quiet")
    with otelkit.span("work"): pass
    assert otelkit.shutdown(10.0).ok
    """
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_LOGS_EXPORTER": "console"}
    finished = run_python(source, cwd=tmp_path, environ=environ)
    assert [span.name for span in sink.spans] == ["work"]
    assert sink.statuses == []
    assert "otelkit.status" not in finished.out + finished.err
