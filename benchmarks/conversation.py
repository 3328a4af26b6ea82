"""What a measured process says to the harness over its standard streams: lines of JSON, one answer to each."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

Answer = Callable[[Mapping[str, Any]], Mapping[str, object]]

_said = sys.stdout


def begin() -> None:
    """Keeps standard output for the conversation; to be called before all else. What is printed from then on goes to
    standard error, so that no peer's or server's greeting comes in between.
    """
    global _said
    _said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def say(**words: object) -> None:
    """Writes a line."""
    print(json.dumps(words), file=_said, flush=True)


def answer_in_thread(answer: Answer, ended: Callable[[], object]) -> None:
    """Answers every line in a thread of its own; calls `ended` when standard input has ended."""

    def run() -> None:
        for line in sys.stdin:
            say(**answer(json.loads(line)))
        ended()

    threading.Thread(target=run, name="benchmark", daemon=True).start()
