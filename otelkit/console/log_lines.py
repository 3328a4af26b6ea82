"""Prints every log record as one line on standard error: what `OTEL_LOGS_EXPORTER=console` asks for."""

from __future__ import annotations

import time

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from rich.text import Text

from otelkit.console.details import failure, first_line
from otelkit.console.local_traces import log_entry
from otelkit.console.terminal import Look, Terminal, clean
from otelkit.runtime import guard

# Where the call stands and what an exception says: the line has its own form for them, or none.
_NOT_SHOWN = ("code.", "exception.", "otelkit.", "request.id")


class LogLines(LogRecordProcessor):
    """Writes in the thread that logs, as a handler of the logging module does."""

    def __init__(self, terminal: Terminal | None = None) -> None:
        self._terminal = terminal or Terminal()

    @guard.guard("the printing of a log record")
    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        look = self._terminal.look()
        self._terminal.write([log_line(log_record, look)], look)

    def shutdown(self) -> None:
        """Holds nothing."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def log_line(record: ReadWriteLogRecord, look: Look) -> Text:
    """`12:00:00.000 WARNING shop.orders stock is low  sku=A5  trace …`, never cut."""
    entry = log_entry(record)
    style = "red" if entry.severity >= 17 else "yellow" if entry.severity >= 13 else "green"
    milliseconds = entry.time_ns // 1_000_000 % 1000
    line = Text(f"{time.strftime('%H:%M:%S', time.localtime(entry.time_ns / 1e9))}.{milliseconds:03d} ", "dim")
    line.append(f"{clean(entry.level)} ", f"bold {style}")
    line.append(f"{clean(entry.logger)} ", "dim")
    line.append(clean(entry.message))
    found = failure(entry.attributes)
    if found is not None:
        if entry.message != f"{found.type}: {found.message}":
            said = f"{found.type}: {first_line(found.message)}" if found.message else found.type
            line.append(f"  {look.glyphs.cross} {clean(said)}", "red")
        if found.place:
            line.append(f"  {clean(found.place)}", "dim")
    own = {key: value for key, value in entry.attributes.items() if not key.startswith(_NOT_SHOWN)}
    if own:
        line.append("  " + " ".join(f"{clean(key)}={clean(value)}" for key, value in own.items()), "cyan")
    if record.log_record.trace_id:
        line.append(f"  trace {record.log_record.trace_id:032x}", "dim")
    return line
