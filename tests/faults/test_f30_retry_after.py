"""429 and 503 with Retry-After as seconds, as a date, and as 1e9: honoured, and capped."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest

from otelkit.delivery import retry
from tests.support.records import a_pipeline, a_span, balance
from tests.support.sink import Answer, Sink

SHORTEST_S = 1.9
"""Longer than any first pause of otelkit's own (0.5 to 1 s): an attempt after it was told to wait so long."""

# Each returns the header and the moment (as time.time() has it) before which nobody may come back.
WISHES: dict[str, Callable[[], tuple[str, float]]] = {
    "seconds": lambda: ("2", time.time() + 2),
    "date": lambda: (formatdate(int(time.time()) + 3, usegmt=True), int(time.time()) + 3),
    "1e9": lambda: ("1000000000", time.time() + retry.LONGEST_RETRY_AFTER_S),
}


@dataclass
class Throttling:
    """A server that sends the first request away and takes the next one."""

    status: int
    wish: Callable[[], tuple[str, float]]
    asked: list[float] = field(default_factory=list)
    not_before: float = 0.0

    def __call__(self, path: str) -> Answer:
        self.asked.append(time.time())
        if len(self.asked) > 1:
            return Answer()
        header, self.not_before = self.wish()
        return Answer(self.status, {"retry-after": header})


def test_the_next_attempt_comes_when_the_server_wished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All six at once, each with a service of its own; no one comes early, and every record arrives once."""
    assert retry.LONGEST_RETRY_AFTER_S == 300.0  # what 1e9 is capped to; below, for a test's patience, 3.5 s
    monkeypatch.setattr(retry, "LONGEST_RETRY_AFTER_S", 3.5)
    with ExitStack() as stack:
        cases = {}
        for status in (429, 503):
            for form, wish in WISHES.items():
                sink = stack.enter_context(Sink())
                sink.answer = throttling = Throttling(status, wish)
                pipeline = a_pipeline(sink.url, tmp_path / f"{status}-{form}")
                stack.callback(pipeline.shutdown, 0.0)
                for number in range(pipeline.spans.limits.max_batch):  # a full batch goes at once; a flush would hurry
                    pipeline.spans.put(a_span(number))
                cases[f"{status} with {form}"] = (sink, pipeline, throttling)
        for name, (sink, pipeline, throttling) in cases.items():
            sink.wait_for(lambda sink=sink: len(sink.spans) > 0, f"the second attempt after {name}", 30)  # type: ignore[misc]
            first, second = throttling.asked
            assert second >= throttling.not_before, name
            assert second - first >= SHORTEST_S, name
            assert len({span.span_id for span in sink.spans}) == len(sink.spans) == pipeline.spans.limits.max_batch
            assert pipeline.flush(10).ok, name
            assert balance(pipeline) == (len(sink.spans), len(sink.spans)), name


def test_a_pause_that_was_wished_for_is_kept_under_load(tmp_path: Path) -> None:
    """What is recorded meanwhile does not break it: one request, however many batches are full."""
    with Sink() as sink:
        sink.answer = lambda path: Answer(429, {"retry-after": "60"})
        pipeline = a_pipeline(sink.url, tmp_path)
        try:
            deadline = time.monotonic() + 2.5  # two pauses of otelkit's own would have passed
            number = 0
            while time.monotonic() < deadline:
                pipeline.spans.put(a_span(number))
                number += 1
                time.sleep(0.0005)
            assert number > 2 * pipeline.spans.limits.max_batch
            assert len(sink.asked) == 1
        finally:
            pipeline.shutdown(0.0)
