"""Fault 22: the collector is not there when the application boots: it boots as fast, and hears one warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.spooled import nobody, run_service
from tests.support.process import kill_session, start_python
from tests.support.sink import Sink

# Two flushes, so that more than one attempt fails; in a second all three signals have been tried.
SOURCE = """
began = time.monotonic()
for number in range(100):
    with otelkit.span("work"): otelkit.count("made")
    otelkit.event("done", n=number)
print(time.monotonic() - began < 2, flush=True)
assert not otelkit.flush(1).ok
assert not otelkit.flush(0.5).ok
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_one_warning_and_no_delay(tmp_path: Path, protocol: str) -> None:
    """The application neither waits nor hears more of it, whatever the number of attempts and signals."""
    with nobody() as port:
        finished = run_service(SOURCE, port, tmp_path, environ={"OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert finished.out == "True\n"
    warnings = [line for line in finished.err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1, finished.err
    assert warnings[0].startswith(f"WARNING otelkit.delivery: http://127.0.0.1:{port} does not take")


def test_it_comes_later(tmp_path: Path) -> None:
    """What was recorded before it was there arrives: one warning, and one line that says it is back."""
    source = (
        SOURCE
        + """
print("waiting", flush=True)
deadline = time.monotonic() + 20
while not otelkit.flush(1).ok:
    assert time.monotonic() < deadline
"""
    )
    with nobody() as port:
        process = start_python(
            "import time, otelkit\notelkit.bootstrap('shop')\n" + source,
            cwd=tmp_path,
            environ={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"},
        )
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["True\n", "waiting\n"]
            with Sink(port=port) as sink:
                _, err = process.communicate(timeout=40)
                assert process.returncode == 0, err
                assert len({span.span_id for span in sink.named("work")}) == 100
                assert len({log.attributes["n"] for log in sink.logs if log.record.event_name == "done"}) == 100
                assert sink.total("made") == 100
        finally:
            kill_session(process)
    assert err.count("WARNING") == 1
    assert err.count("takes everything again") == 1
