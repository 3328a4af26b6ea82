"""What the drawn tree of a trace says, line by line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.util.types import AnyValue, AttributeValue
from rich.cells import cell_len

from otelkit.console.local_traces import LocalTraces, gather
from otelkit.console.terminal import ASCII, Glyphs, Look, rendered
from otelkit.console.tree import draw
from otelkit.signals import exceptions

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
SQL = "SELECT items.id FROM items WHERE items.id = ?"


class _Keep(LogRecordProcessor):
    def __init__(self) -> None:
        self.records: list[ReadWriteLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.records.append(log_record)

    def shutdown(self) -> None:
        """Nothing to end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class Trace:
    """One trace with given times, in milliseconds from its start."""

    def __init__(self) -> None:
        self._tracer = TracerProvider().get_tracer("test")
        self._keep = _Keep()
        self._logs = LoggerProvider()
        self._logs.add_log_record_processor(self._keep)
        self.spans: list[Span] = []

    def span(
        self,
        name: str,
        begin_ms: float,
        end_ms: float | None,
        under: Span | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        """A span; without an end it is still running."""
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(under) if under is not None else None,
            kind=kind,
            attributes=attributes,
            start_time=START_NS + int(begin_ms * MS),
        )
        assert isinstance(span, Span)
        if end_ms is not None:
            span.end(START_NS + int(end_ms * MS))
        self.spans.append(span)
        return span

    def log(
        self,
        message: str,
        at_ms: float,
        span: Span,
        *,
        severity: SeverityNumber = SeverityNumber.INFO,
        event: str | None = None,
        attributes: Mapping[str, AnyValue] | None = None,
        logger: str = "shop",
    ) -> None:
        """A log record in a span."""
        self._logs.get_logger(logger).emit(
            LogRecord(
                timestamp=START_NS + int(at_ms * MS),
                context=set_span_in_context(span),
                severity_number=severity,
                severity_text=severity.name,
                body=message,
                event_name=event,
                attributes=attributes,
            )
        )

    def lines(self, look: Look | None = None) -> list[str]:
        """The drawn tree, times of day and trace ids replaced by `<time>` and `<trace>`."""
        look = look or Look(90, False, Glyphs())
        (trace,) = gather(self.spans, self._keep.records)
        text = rendered(draw(trace, look), look)
        text = re.sub(r"\d\d:\d\d:\d\d\.\d\d\d", "<time>", text)
        return re.sub(r"[0-9a-f]{32}", "<trace>", text).splitlines()


def test_a_request_with_its_statements_logs_and_failure() -> None:
    """Durations, statuses, what tells, and log records in the order of time, each under its span."""
    trace = Trace()
    root = trace.span(
        "POST /orders",
        0,
        48.3,
        attributes={"http.response.status_code": 500, "url.path": "/orders", "user.id": 7, "request.id": "r"},
        kind=SpanKind.SERVER,
    )
    trace.span(
        "SELECT items",
        1,
        2.25,
        root,
        {"db.system.name": "sqlite", "db.query.text": f"{SQL}\n  LIMIT ?", "user.id": 7, "request.id": "r"},
        SpanKind.CLIENT,
    )
    trace.log("stock is low\nvery low", 3, root, severity=SeverityNumber.WARN)
    trace.span("GET", 4, 4.0421, root, {"db.system.name": "redis", "user.id": 7}, SpanKind.CLIENT)
    quote = trace.span("price.quote", 5, None, root, {"sku": "A5", "user.id": 7, "tags": ["x", "y"]})
    quote.set_status(StatusCode.ERROR, "ValueError: bad sku")
    quote.end(START_NS + 6 * MS)
    trace.span("GET https://tax.example/rates", 7, 1207, root, {"url.full": "https://tax.example/rates?of=AT"})
    assert trace.lines(Look(99, False, Glyphs())) == [
        " 48.3 ms POST /orders  500  <time>  trace <trace>  user.id=7",
        "  1.2 ms ├─ SELECT items  SELECT items.id FROM items WHERE items.id = ? LIMIT ?",
        " +3.0 ms │  WARN stock is low (+1 line)  shop",
        " 0.04 ms ├─ GET  redis",
        "  1.0 ms ├─ ✗ price.quote  ValueError: bad sku  sku=A5 tags=[x, y]",
        "  1.20 s └─ GET https://tax.example/rates  https://tax.example/rates?of=AT",
    ]


def test_a_task_says_its_state_its_retries_and_its_wait() -> None:
    """What went well is not said."""
    attributes: dict[str, AttributeValue] = {
        "messaging.destination.name": "celery",
        "celery.task.state": "RETRY",
        "celery.task.retries": 2,
        "celery.task.queue.duration": 1.5,
    }
    failed, well = Trace(), Trace()
    failed.span("process send_mail", 0, 1, attributes=attributes, kind=SpanKind.CONSUMER)
    attributes |= {"celery.task.state": "SUCCESS", "celery.task.retries": 0}
    well.span("process send_mail", 0, 1, attributes=attributes, kind=SpanKind.CONSUMER)
    wide = Look(160, False, Glyphs())
    bar = "━" * 16
    assert failed.lines(wide) == [
        f"  1.0 ms {bar} process send_mail  RETRY  <time>  trace <trace>  retry 2  waited 1.50 s in queue celery"
    ]
    assert well.lines(wide) == [
        f"  1.0 ms {bar} process send_mail  <time>  trace <trace>  waited 1.50 s in queue celery"
    ]


def test_an_exception_is_one_line_where_it_was_raised() -> None:
    """Type, message and the application's innermost frame at the deepest span, not again at those that it passed."""
    trace = Trace()
    root = trace.span("root", 0, None)
    middle = trace.span("middle", 1, None, root)
    inner = trace.span("inner", 2, None, middle)
    try:
        int("x")
    except ValueError as error:
        line = error.__traceback__.tb_lineno if error.__traceback__ is not None else 0
        for span in (inner, middle, root):
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, f"ValueError: {error}")
        attributes = exceptions.attributes(error)
    for span, end_ms in ((inner, 3), (middle, 4), (root, 5)):
        span.end(START_NS + end_ms * MS)
    here = f"{os.path.relpath(__file__)}:{line} in test_an_exception_is_one_line_where_it_was_raised"
    said = f"✗ ValueError: invalid literal for int() with base 10: 'x'  {here}"
    wide = Look(300, False, Glyphs())
    without_bar = [text[:8] + text[25:] for text in trace.lines(wide)]
    assert without_bar == [
        "  5.0 ms ✗ root  <time>  trace <trace>",
        "  3.0 ms └─ ✗ middle",
        "  1.0 ms    └─ ✗ inner",
        f"                  {said}",
    ]
    # As otelkit records it, the record comes too: still one line, in the place of the event's.
    trace.log(
        f"ValueError: {attributes['exception.message']}",
        2.5,
        inner,
        severity=SeverityNumber.ERROR,
        event="exception",
        attributes=attributes,
        logger="otelkit.exceptions",
    )
    without_bar = [text[:8] + text[25:] for text in trace.lines(wide)]
    assert without_bar[3:] == [f" +2.5 ms          {said}"]


def test_a_logged_exception_stands_under_its_message() -> None:
    """`logger.exception` says something of its own, and the exception follows."""
    trace = Trace()
    root = trace.span("root", 0, 5)
    attributes = {
        "exception.type": "KeyError",
        "exception.message": "'sku'",
        "exception.stacktrace": 'Traceback\n  File "/srv/app/shop/pricing.py", line 12, in quote\n    x\nKeyError',
    }
    trace.log("no price", 1, root, severity=SeverityNumber.ERROR, attributes=attributes)
    assert trace.lines()[1:] == [
        " +1.0 ms    ✗ ERROR no price  shop",
        "              ✗ KeyError: 'sku'  shop/pricing.py:12 in quote",
    ]


def test_the_place_of_an_exception_is_the_applications() -> None:
    """The innermost frame that is no library's; where there is none, the innermost."""
    trace = Trace()
    root = trace.span("root", 0, 5)
    stack = (
        'Traceback (most recent call last):\n  File "/srv/app/shop/web.py", line 3, in place\n    run()\n'
        '  File "/x/lib/python3.11/site-packages/sqlalchemy/engine.py", line 900, in execute\n    raise\nError'
    )
    for at_ms, text in ((1, stack), (2, stack.replace("/srv/app/shop/web.py", "/x/site-packages/b/c.py"))):
        attributes = {"exception.type": "Error", "exception.message": "m", "exception.stacktrace": text}
        trace.log(f"Error: m{at_ms}", at_ms, root, severity=SeverityNumber.ERROR, attributes=attributes)
    lines = trace.lines()
    assert lines[2].endswith("Error: m  shop/web.py:3 in place")
    assert lines[4].endswith("Error: m  sqlalchemy/engine.py:900 in execute")


def test_an_event_shows_its_attributes() -> None:
    """Which are what it is about."""
    trace = Trace()
    root = trace.span("root", 0, 5)
    trace.log("user_registered", 1, root, event="user_registered", attributes={"plan": "pro"}, logger="otelkit")
    assert trace.lines()[1] == " +1.0 ms    INFO user_registered  plan=pro"


def test_equal_siblings_are_folded_from_six_on() -> None:
    """With their number, their sum and their mean; five stay as they are, and so does what differs."""
    trace = Trace()
    root = trace.span("root", 0, 100)
    for number in range(5):
        trace.span("five", number, number + 0.5, root)
    for number in range(37):
        at_ms = 10 + number
        trace.span("SELECT items", at_ms, at_ms + 0.5, root, {"db.query.text": SQL}, SpanKind.CLIENT)
    trace.span("SELECT items", 60, 62, root, {"db.query.text": f"{SQL} LIMIT ?"}, SpanKind.CLIENT)
    lines = trace.lines()
    assert lines[1:6] == [" 0.50 ms ├─ five"] * 5
    assert lines[6:] == [
        f" 18.5 ms ├─ SELECT items × 37  0.50 ms each  {SQL}",
        f"  2.0 ms └─ SELECT items  {SQL} LIMIT ?",
    ]


def test_alternating_siblings_are_folded_too() -> None:
    """A loop that reads the database and then the cache is two lines, not eighty."""
    trace = Trace()
    root = trace.span("root", 0, 100)
    for number in range(40):
        trace.span("SELECT items", number, number + 0.5, root)
        trace.span("GET", number + 0.6, number + 0.7, root)
    trace.span("after", 90, 91, root)
    assert [re.sub(r"  .*", "", line[9:]) for line in trace.lines()[1:]] == [
        "├─ SELECT items × 40",
        "├─ GET × 40",
        "└─ after",
    ]


def test_equal_subtrees_are_folded_and_shown_once() -> None:
    """What lies under the slowest of them stands for all; a sibling that failed or logged stays by itself."""
    trace = Trace()
    root = trace.span("root", 0, 100)
    for number in range(9):
        each = trace.span("each", number, number + 0.5, root)
        trace.span("inner", number + 0.1, number + 0.2, each)
    alone = trace.span("each", 50, 51, root)
    trace.span("inner", 50.1, 50.2, alone)
    trace.log("look", 50.5, alone)
    assert [line[9:] for line in trace.lines()[1:]] == [
        "├─ each × 9  0.50 ms each",
        "│  └─ inner",
        "└─ each",
        "   └─ inner",
        "      INFO look  shop",
    ]


def test_equal_log_lines_are_folded() -> None:
    """Ten times the same text is one line."""
    trace = Trace()
    root = trace.span("root", 0, 100)
    for number in range(10):
        trace.log("again", number + 1, root)
    assert trace.lines()[1:] == [" +1.0 ms    INFO again × 10  shop"]


def test_a_narrow_terminal_keeps_the_trace_id_whole() -> None:
    """It gets a line of its own where it does not fit; no line is wider than the terminal, wide characters too."""
    trace = Trace()
    root = trace.span("POST /orders/{order_id}/items/{item_id}", 0, 1)
    trace.span("寿司を注文する" * 8, 0.1, 0.2, root)
    lines = trace.lines(Look(70, False, Glyphs()))
    assert lines[1].strip() == "│  <time>  trace <trace>"
    assert lines[2].endswith("…")
    assert max(map(cell_len, lines)) <= 70


def test_a_stream_without_unicode_gets_letters() -> None:
    """Branches, the mark of a failure and the mark of a cut."""
    trace = Trace()
    root = trace.span("root", 0, 100)
    for number in range(6):
        trace.span("each", number, number + 0.5, root)
    failed = trace.span("failed", 20, None, root, {"db.query.text": "x" * 200}, SpanKind.CLIENT)
    failed.set_status(StatusCode.ERROR)
    failed.end(START_NS + 21 * MS)
    lines = trace.lines(Look(80, False, ASCII))
    assert "".join(lines).isascii()
    assert lines[1] == "  3.0 ms |- each x 6  0.50 ms each"
    assert lines[2] == f"  1.0 ms `- ! failed  {'x' * 55}..."


def test_what_a_client_sent_does_not_steer_the_terminal() -> None:
    """Control characters, colours and text that runs backwards are shown, not obeyed."""
    trace = Trace()
    root = trace.span("a\x1b[2Jb", 0, 1, attributes={"name": "x\x07\u202ey"})
    trace.log("line\x9b31m\rover", 0.5, root)
    text = "\n".join(trace.lines(Look(200, False, Glyphs())))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "a\\x1b[2Jb" in text
    assert "x\\x07\\u202ey" in text


def test_a_span_that_is_still_running_says_so() -> None:
    """It has no duration yet."""
    trace = Trace()
    root = trace.span("root", 0, 1)
    trace.span("background", 0.5, None, root)
    assert trace.lines()[1] == "       … └─ background  still running"


def test_a_continuation_names_what_it_continues() -> None:
    """Whether it is one span or many."""
    for count, first in (
        (1, "  1.0 ms ↳ later in root: late 0  <time>  trace <trace>"),
        (2, "         ↳ later in root  <time>  trace <trace>"),
    ):
        trace = Trace()
        root = trace.span("root", 0, 1)
        traces = LocalTraces()
        traces.started(root, 0)
        traces.ended(root, 0)
        assert len(list(traces.take_due(1))) == 1
        for number in range(count):
            late = trace.span(f"late {number}", 5 + number, 6 + number, root)
            traces.started(late, 2)
            traces.ended(late, 2)
        (later,) = list(traces.take_due(3))
        look = Look(90, False, Glyphs())
        text = rendered(draw(later, look), look)
        text = re.sub(r"\d\d:\d\d:\d\d\.\d\d\d", "<time>", re.sub(r"[0-9a-f]{32}", "<trace>", text))
        assert text.splitlines()[0] == first
        assert len(text.splitlines()) == (1 if count == 1 else 3)


def test_long_and_deep_trees_end() -> None:
    """At about two hundred lines, and at forty levels, with a word about the rest."""
    long, deep = Trace(), Trace()
    root = long.span("root", 0, 1000)
    for number in range(400):
        long.span(f"child {number}", number, number + 0.5, root)
    lines = long.lines()
    assert len(lines) == 201
    assert lines[-1].strip() == "… 201 more lines"
    above = deep.span("root", 0, 1000)
    for number in range(900):
        above = deep.span(f"level {number}", number, 1000, above)
    lines = deep.lines(Look(400, False, Glyphs()))
    assert len(lines) == 42
    assert lines[-1].strip() == "└─ … deeper spans"


def test_bars_show_when_a_span_ran() -> None:
    """On a wide terminal: the second of two equal halves stands in the second half of the column."""
    trace = Trace()
    root = trace.span("root", 0, 100)
    trace.span("first", 0, 50, root)
    trace.span("second", 50, 100, root)
    assert [line[9:25] for line in trace.lines(Look(120, False, Glyphs()))] == [
        "━" * 16,
        "━" * 8 + " " * 8,
        " " * 8 + "━" * 8,
    ]
