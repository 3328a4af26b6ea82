"""The printing of trees beside the application: in one write, from a thread of its own, bounded, per process."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer
from rich.text import Text

from otelkit.console import tree_printer
from otelkit.console.local_traces import Limits
from otelkit.console.terminal import PLAIN, Terminal
from otelkit.console.tree_printer import TreePrinter
from otelkit.runtime import guard


class Console:
    """A tree printer over real providers, and what it printed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.stream = io.StringIO()
        self.printer = TreePrinter(Terminal(self.stream), limits)
        spans, logs = TracerProvider(), LoggerProvider()
        spans.add_span_processor(self.printer)
        logs.add_log_record_processor(self.printer)
        self.tracer: Tracer = spans.get_tracer("test")
        self._logs = logs

    def log(self, message: str, logger: str = "shop") -> None:
        """A log record in the current span."""
        self._logs.get_logger(logger).emit(LogRecord(body=message))

    @property
    def printed(self) -> str:
        """Everything so far, whatever is complete included."""
        assert self.printer.force_flush()
        return self.stream.getvalue()

    def wait_for(self, condition: Callable[[str], bool]) -> str:
        """What was printed once the condition holds, without asking for it."""
        end = time.monotonic() + 15
        while not condition(self.stream.getvalue()):
            assert time.monotonic() < end, self.stream.getvalue()
            threading.Event().wait(0.005)
        return self.stream.getvalue()


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """With the usual limits."""
    monkeypatch.setenv("COLUMNS", "200")
    found = Console()
    yield found
    found.printer.close()


def console_threads() -> list[threading.Thread]:
    """The threads that print, of all consoles."""
    return [thread for thread in threading.enumerate() if thread.name == "otelkit-console"]


def test_a_tree_is_printed_by_itself_when_its_root_has_ended(console: Console) -> None:
    """With the log records in it; the access log, which the root's line repeats, is left away."""
    with console.tracer.start_as_current_span("root"), console.tracer.start_as_current_span("child"):
        console.log("hello")
        console.log('127.0.0.1 - "GET / HTTP/1.1" 200', logger="uvicorn.access")
    text = console.wait_for(lambda text: "child" in text)
    assert re.fullmatch(
        r".* root  \S+  trace [0-9a-f]{32}\n.* └─ child\n.*hello  shop\n",
        text,
    ), text


def test_no_thread_before_the_first_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log record outside of any trace starts none either; the printer ends its thread."""
    others = set(console_threads())
    console = Console()
    console.log("application starting")
    assert set(console_threads()) == others
    with console.tracer.start_as_current_span("root"):
        (thread,) = set(console_threads()) - others
    console.printer.close()
    thread.join(5)
    assert not thread.is_alive()


def test_closing_prints_what_has_not_ended(console: Console) -> None:
    """A span that is open at the end of the process is seen; later ones are nobody's."""
    console.tracer.start_span("unfinished")
    console.printer.close()
    assert "unfinished" in console.stream.getvalue()
    assert "still running" in console.stream.getvalue()
    console.tracer.start_span("too late").end()
    console.printer.close()
    assert "too late" not in console.stream.getvalue()


def test_threads_print_whole_trees(console: Console) -> None:
    """Eight threads with fifty traces each: every tree is there, and none has another's line in it."""

    def work(number: int) -> None:
        for trace in range(50):
            with console.tracer.start_as_current_span(f"root {number} {trace}"):
                console.tracer.start_span(f"child {number} {trace}").end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = console.printed.splitlines()
    pairs = [re.search(r"root (\d+ \d+)", line) for line in lines[::2]]
    children = [re.search(r"child (\d+ \d+)", line) for line in lines[1::2]]
    assert len(pairs) == 400
    assert [found and found[1] for found in pairs] == [found and found[1] for found in children]
    assert len({found and found[1] for found in pairs}) == 400


def test_what_comes_too_fast_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the stream does not take the text, the queue fills up to its bound and the rest is a number."""
    monkeypatch.setattr(tree_printer, "_MOST_QUEUED", 100)
    monkeypatch.setattr(tree_printer, "_CLOSE_S", 15.0)  # all that was queued is printed, on a busy machine too
    console = Console()
    gate, stuck = threading.Event(), threading.Event()
    write = console.stream.write

    def slow(text: str) -> int:
        stuck.set()
        assert gate.wait(15)
        return write(text)

    monkeypatch.setattr(console.stream, "write", slow)
    console.tracer.start_span("first").end()
    assert stuck.wait(15)
    for number in range(300):
        console.tracer.start_span(f"span {number}").end()
    gate.set()
    console.tracer.start_span("last").end()
    console.printer.close()
    said = re.search(r"(\d+) spans and log records are not shown: they came too fast", console.stream.getvalue())
    assert said is not None
    assert 500 <= int(said[1]) <= 502
    assert console.stream.getvalue().count("span ") == 50


def test_evicted_traces_are_counted() -> None:
    """Those that were given up because more were in progress than are kept."""
    console = Console(Limits(max_traces=5))
    spans = [console.tracer.start_span(f"span {number}") for number in range(8)]
    for span in spans:
        span.end()
    assert "3 traces are not shown: more than 5 were in progress at once" in console.printed
    console.printer.close()


def test_a_stream_that_fails_is_reported_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application does not notice, and the next tree is printed."""
    console = Console()
    write = console.stream.write
    fail = [True]

    def failing(text: str) -> int:
        if fail.pop() if fail else False:
            raise OSError("broken")
        return write(text)

    monkeypatch.setattr(console.stream, "write", failing)
    before = guard.failures["the printing of a console tree"]
    console.tracer.start_span("lost").end()
    console.tracer.start_span("shown").end()
    assert "shown" in console.printed
    assert guard.failures["the printing of a console tree"] == before + 1
    console.printer.close()


def test_a_name_that_cannot_be_shown_costs_one_tree(console: Console) -> None:
    """What is wrong with one span does not end the printing."""
    span = console.tracer.start_span("x")
    span.update_name(None)  # type: ignore[arg-type]
    span.end()
    console.tracer.start_span("shown").end()
    assert "shown" in console.printed


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_prints_its_own_alone() -> None:
    """The parent's spans are the parent's; the child's printer begins with nothing and has a thread of its own."""
    read, write = os.pipe()
    parent = Console()
    open_in_parent = parent.tracer.start_span("the parent's")
    assert parent.printer.force_flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            parent.printer.abandon()
            open_in_parent.end()
            parent.tracer.start_span("into nothing").end()
            child = Console()
            child.tracer.start_span("the child's").end()
            child.printer.close()
            os.write(write, (child.stream.getvalue() + parent.stream.getvalue()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert "the child's" in text
    assert "the parent's" not in text
    assert "into nothing" not in text
    open_in_parent.end()
    assert "the parent's" in parent.printed
    parent.printer.close()


def read_all(descriptor: int, until: str) -> str:
    """What a pseudo terminal shows, up to a text."""
    shown = b""
    end = time.monotonic() + 15
    while until.encode() not in shown:
        assert time.monotonic() < end, shown
        if select.select([descriptor], [], [], 0.1)[0]:
            shown += os.read(descriptor, 65536)
    return shown.decode()


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_are_for_terminals_that_want_them(no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets them unless NO_COLOR is set; the text is the same."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        terminal = Terminal(stream)
        look = terminal.look()
        terminal.write([Text("failed", "red"), Text("end")], look)
        shown = read_all(ours, "end")
    os.close(ours)
    assert look.colour is not no_color
    assert ("\x1b[" in shown) is not no_color
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown).split() == ["failed", "end"]


def test_a_file_gets_no_colours_and_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines of a tree go out together, however long: those of other processes come before or after."""
    writes: list[bytes] = []
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        writes.append(data)
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.delenv("COLUMNS", raising=False)
    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        terminal = Terminal(stream)
        look = terminal.look()
        terminal.write([Text(f"{number} {'x' * 100}", "red") for number in range(500)], look)
    assert (look.colour, look.width) == (False, 140)
    assert len(writes) == 1
    assert (tmp_path / "out").read_bytes() == writes[0]
    assert b"\x1b" not in writes[0]


def test_a_stream_in_a_narrow_encoding_gets_letters(tmp_path: Path) -> None:
    """Branches in ASCII, and what it has no letter for as an escape."""
    with (tmp_path / "out").open("w", encoding="latin-1") as stream:
        terminal = Terminal(stream)
        look = terminal.look()
        terminal.write([Text(look.glyphs.tee + "寿司")], look)
    assert (tmp_path / "out").read_text("latin-1") == "|- \\u5bff\\u53f8\n"


def test_what_is_no_stream_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Celery worker makes sys.stderr an object that logs what is written to it: the real stream gets the tree."""

    class Proxy:
        def write(self, text: str) -> None:
            raise AssertionError("the tree went into the log")

    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)
        monkeypatch.setattr(sys, "stderr", Proxy())
        Terminal().write([Text("tree")], PLAIN)
    assert (tmp_path / "out").read_text() == "tree\n"
