"""What the application would want to know of its database calls: one statement over and over (N+1), and which line of
its own a statement came from.

Counting costs a look at the parent and an addition a statement; the stack is walked only after a threshold was met.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple

from otelkit.signals.fingerprints import in_application

N_PLUS_ONE_COUNT = "otelkit.db.n_plus_one.count"
N_PLUS_ONE_DURATION = "otelkit.db.n_plus_one.duration"
N_PLUS_ONE_STATEMENT = "otelkit.db.n_plus_one.statement"
N_PLUS_ONE_CALLER = "otelkit.db.n_plus_one.caller"

# Wherever they are installed: a checkout, a folder on PYTHONPATH.
_NOT_THE_APPLICATIONS = ("otelkit", "sqlalchemy", "greenlet")
_MOST_STATEMENTS = 512  # that are counted under one parent


class Tally:
    """How often one statement ran under one parent, how long that took, and where it came from once that is known."""

    __slots__ = ("caller", "count", "total_ns")

    def __init__(self, elapsed_ns: int) -> None:
        self.count = 1
        self.total_ns = elapsed_ns
        self.caller: Caller | None = None


class Tallies(dict[str, Tally]):
    """The tallies of a parent by statement; `worst` is the one that the parent is marked with."""

    worst: Tally | None = None


def ran(parent: Any, statement: str, elapsed_ns: int) -> Tally | None:
    """Counts a run of a statement under a span that is recorded, and returns the tally where it is not the first.

    The tallies are kept on the parent, and end with it.
    """
    try:
        seen = parent.otelkit_tallies
    except AttributeError:  # not the engine's own span
        if not hasattr(parent, "__dict__"):
            return None
        seen = None
    if seen is None:
        # Most spans have one statement: this is all that it costs them.
        parent.otelkit_tallies = (statement, elapsed_ns)
        return None
    if type(seen) is tuple:
        first, first_ns = seen
        parent.otelkit_tallies = seen = Tallies({first: Tally(first_ns)})
    tally: Tally | None = seen.get(statement)
    if tally is None:
        if len(seen) < _MOST_STATEMENTS:
            seen[statement] = Tally(elapsed_ns)
        return None
    tally.count += 1
    tally.total_ns += elapsed_ns
    return tally


def mark(parent: Any, statement: str, tally: Tally) -> None:
    """Marks the parent with a statement that ran too often; of several, with the one that ran most often."""
    worst = parent.otelkit_tallies.worst
    if (worst is not None and worst is not tally and worst.count >= tally.count) or not parent.is_recording():
        return
    found: dict[str, Any] = {N_PLUS_ONE_COUNT: tally.count, N_PLUS_ONE_DURATION: tally.total_ns / 1e9}
    if worst is not tally:
        parent.otelkit_tallies.worst = tally
        found[N_PLUS_ONE_STATEMENT] = statement
        found[N_PLUS_ONE_CALLER] = str(tally.caller) if tally.caller is not None else "unknown"
    parent.set_attributes(found)


class Caller(NamedTuple):
    """A line of the application."""

    file: str
    line: int
    function: str

    def attributes(self) -> dict[str, Any]:
        """As the semantic conventions have it."""
        return {"code.file.path": self.file, "code.line.number": self.line, "code.function.name": self.function}

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


def caller() -> Caller | None:
    """The innermost line of the application that led here, through the greenlets of SQLAlchemy's async engines too.

    None where there is none: a thread of a library's own, code that was typed in. Takes 5 to 20 us.
    """
    frame: FrameType | None = sys._getframe(1)
    greenlet = sys.modules.get("greenlet")
    inner = greenlet.getcurrent() if greenlet is not None else None
    while True:
        while frame is not None:
            code = frame.f_code
            if in_application(code.co_filename):
                module = str(frame.f_globals.get("__name__", "?"))
                if module.partition(".")[0] not in _NOT_THE_APPLICATIONS:
                    name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11
                    return Caller(code.co_filename, frame.f_lineno, f"{module}.{name}")
            frame = frame.f_back
        inner = inner.parent if inner is not None else None
        if inner is None:
            return None
        frame = inner.gr_frame
