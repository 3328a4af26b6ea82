"""Log records as lines and metrics as a table: what `console` as the exporter of logs and of metrics prints."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.metrics import Meter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.types import AnyValue

from otelkit.console.log_lines import LogLines
from otelkit.console.metric_table import MetricTable
from otelkit.console.terminal import Terminal


def line_of(
    body: str,
    *,
    severity: SeverityNumber = SeverityNumber.INFO,
    attributes: dict[str, AnyValue] | None = None,
    in_span: bool = False,
) -> str:
    """What is printed for one record, its time and trace id replaced."""
    stream = io.StringIO()
    provider = LoggerProvider()
    provider.add_log_record_processor(LogLines(Terminal(stream)))
    record = LogRecord(
        timestamp=1_700_000_000_123_000_000,
        severity_number=severity,
        severity_text=severity.name,
        body=body,
        attributes=attributes,
    )
    if in_span:
        with TracerProvider().get_tracer("test").start_as_current_span("span") as span:
            ids = span.get_span_context()
        record.trace_id, record.span_id = ids.trace_id, ids.span_id
    provider.get_logger("shop.orders").emit(record)
    text = re.sub(r"\d\d:\d\d:\d\d\.123", "<time>", stream.getvalue())
    return re.sub(r"[0-9a-f]{32}", "<trace>", text)


def test_a_record_is_one_line() -> None:
    """Time, level, logger, message, its own attributes and its trace; where it was made stays out."""
    line = line_of("stock is low", attributes={"sku": "A5", "code.line.number": 7}, in_span=True)
    assert line == "<time> INFO shop.orders stock is low  sku=A5  trace <trace>\n"


def test_what_has_several_lines_is_one_too() -> None:
    """And steers no terminal."""
    assert line_of("one\ntwo\x1b[31m") == "<time> INFO shop.orders one two\\x1b[31m\n"


def test_an_exception_is_said_in_short() -> None:
    """Its type, its message and the application's innermost frame; not again where the message is just that."""
    attributes: dict[str, AnyValue] = {
        "exception.type": "ValueError",
        "exception.message": "bad sku",
        "exception.stacktrace": 'Traceback\n  File "/srv/app/shop/pricing.py", line 12, in quote\n    x\nValueError: x',
        "otelkit.error.fingerprint": "f00",
    }
    where = "shop/pricing.py:12 in quote"
    logged = line_of("no price", severity=SeverityNumber.ERROR, attributes=attributes)
    assert logged == f"<time> ERROR shop.orders no price  ✗ ValueError: bad sku  {where}\n"
    recorded = line_of("ValueError: bad sku", severity=SeverityNumber.ERROR, attributes=attributes)
    assert recorded == f"<time> ERROR shop.orders ValueError: bad sku  {where}\n"


class Table:
    """A metric table over a real provider."""

    def __init__(self, interval_s: float = 3600.0) -> None:
        self.stream = io.StringIO()
        self.table = MetricTable(interval_s, Terminal(self.stream))
        self.meter: Meter = MeterProvider([self.table.reader]).get_meter("test")

    def wait_for(self, condition: Callable[[str], bool]) -> None:
        """Until what was printed fulfils the condition."""
        end = time.monotonic() + 15
        while not condition(self.stream.getvalue()):
            assert time.monotonic() < end, self.stream.getvalue()
            threading.Event().wait(0.005)


def metric_threads() -> set[threading.Thread]:
    """The threads that print metrics, of all tables."""
    return {thread for thread in threading.enumerate() if thread.name == "otelkit-metrics"}


def test_the_table_has_a_line_a_series() -> None:
    """Name, labels and value, and what a histogram has seen; at the end it is printed once more."""
    table = Table()
    table.meter.create_counter("orders.placed", "{order}").add(3, {"plan": "pro", "country": "AT"})
    seconds = table.meter.create_histogram("http.server.request.duration", "s")
    seconds.record(0.25)
    seconds.record(0.75)
    table.meter.create_observable_gauge("cache.size", [lambda options: []])
    table.meter.create_up_down_counter("memory", "By").add(2048.5)
    table.table.close()
    heading, *lines = table.stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d metrics", heading)
    assert [" ".join(line.split()) for line in lines] == [
        "http.server.request.duration count 2 mean 0.5 s min 0.25 max 0.75",
        "memory 2048.5 By",
        "orders.placed{country=AT, plan=pro} 3",
    ]
    assert len({line.index(value) for line, value in zip(lines, ("count", "2048.5", "3"), strict=True)}) == 1
    table.table.close()
    assert table.stream.getvalue().count("metrics") == 1


@pytest.mark.parametrize("record", ["span", "log"])
def test_the_table_begins_with_the_first_record(record: str) -> None:
    """No thread before it; from then on it comes at each interval."""
    others = metric_threads()
    table = Table(interval_s=0.02)
    counter = table.meter.create_counter("orders.placed")
    counter.add(1)
    logs = LoggerProvider()
    processor: LogRecordProcessor = table.table
    logs.add_log_record_processor(processor)
    logs.get_logger("otelkit").emit(LogRecord(body="starting", event_name="otelkit.application.starting"))
    assert metric_threads() == others
    if record == "span":
        spans = TracerProvider()
        spans.add_span_processor(table.table)
        spans.get_tracer("test").start_span("first")
    else:
        logs.get_logger("shop").emit(LogRecord(body="first"))
    table.wait_for(lambda text: text.count("metrics") >= 2)
    counter.add(41)
    table.wait_for(lambda text: re.search(r"orders.placed +42$", text, re.MULTILINE) is not None)
    table.table.close()
    assert metric_threads() == others
