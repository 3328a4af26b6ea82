"""Standard error as it is at each print: its width, its colours, its characters; one write a print."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_WIDTH_OF_A_FILE = 140
# Control characters, and those that turn the direction of writing: what a client sent must not steer a terminal.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that trees are drawn with; the defaults need Unicode."""

    tee: str = "├─ "
    corner: str = "└─ "
    pipe: str = "│  "
    cross: str = "✗"
    bar: str = "━"
    times: str = "×"
    ellipsis: str = "…"
    later: str = "↳"


ASCII = Glyphs("|- ", "`- ", "|  ", "!", "-", "x", "...", "->")


@dataclass(frozen=True, slots=True)
class Look:
    """How a stream is to be written to."""

    width: int
    colour: bool
    glyphs: Glyphs


PLAIN = Look(width=140, colour=False, glyphs=Glyphs())
"""For texts that are no terminal's: the messages of failed tests."""


class Terminal:
    """A stream, by default whatever `sys.stderr` is at the time."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._given = stream

    @property
    def _stream(self) -> TextIO:
        stream = self._given if self._given is not None else sys.stderr
        # A Celery worker puts an object there that logs what is written: the tree would become log records.
        if not isinstance(stream, io.TextIOBase) and sys.__stderr__ is not None:
            return sys.__stderr__
        return stream

    def look(self) -> Look:
        """Its width (`COLUMNS`, else the terminal's, else 140), colours unless `NO_COLOR` is set or it is no terminal,
        and the characters that its encoding has.
        """
        stream = self._stream
        terminal = stream.isatty()
        columns = os.environ.get("COLUMNS", "")
        if columns.isdigit() and int(columns) >= 40:
            width = int(columns)
        else:
            width = Console(file=stream).width if terminal else _WIDTH_OF_A_FILE
        unicode = (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
        return Look(width, terminal and not os.environ.get("NO_COLOR"), Glyphs() if unicode else ASCII)

    def write(self, lines: Iterable[Text], look: Look) -> None:
        """Writes lines at once, so that those of other processes stand before or after them, not between."""
        stream = self._stream
        text = rendered(lines, look)
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            stream.write(text)
            stream.flush()
            return
        stream.flush()
        data = text.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]


def rendered(lines: Iterable[Text], look: Look) -> str:
    """The text of lines, each ended, with the colours if the look has them."""
    if not look.colour:
        return "".join(f"{line.plain}\n" for line in lines)
    into = io.StringIO()
    console = Console(file=into, force_terminal=True, width=look.width, highlight=False, legacy_windows=False)
    for line in lines:
        console.print(line, soft_wrap=True)
    return into.getvalue()


def fitted(line: Text, look: Look) -> Text:
    """The line, cut to the width of the look."""
    if line.cell_len <= look.width:
        return line
    line.truncate(look.width - cell_len(look.glyphs.ellipsis))
    return line.append(look.glyphs.ellipsis, "dim")


def clean(value: object, longest: int = 1000) -> str:
    """A value as one line of text that cannot steer a terminal."""
    return _STEERING.sub(_shown, str(value)[:longest])


def _shown(match: re.Match[str]) -> str:
    character = match.group()
    return " " if character in "\n\t\r" else character.encode("unicode_escape").decode("ascii")
