"""Row 44: an attribute of 50 MB, and a value whose `__str__` raises. What is too long is cut before it waits anywhere
and counted as truncated; nothing raises, and the process stays small.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.spooled import balanced, run_service
from tests.support.sink import Sink
from tests.support.slow import slow

GIANTS = 10
EMIT = f"""
import logging, resource
logging.getLogger().addHandler(logging.NullHandler())  # else they are printed
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range({GIANTS}):
    giant = chr(97 + number) * 50_000_000
    with otelkit.span("work", n=number, text=giant, texts=[giant, giant]) as span:
        span.add_event("happened", {{"text": giant}})
        span.set_attribute("later", giant)
        logging.getLogger("shop").warning("%s", giant, extra={{"n": number, "text": giant}})
        otelkit.event("giant", {{"nested": {{"text": giant}}}})
    del giant
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
report = otelkit.flush(PATIENCE_S)
print(json.dumps({{"grown": grown, "ok": report.ok, "ledger": otelkit.status()["ledger"]}}))
"""


@pytest.mark.parametrize("engine", ["otelkit", *slow("sdk")])
def test_giants_are_cut_and_counted(tmp_path: Path, engine: str) -> None:
    with Sink() as sink:
        finished = run_service(EMIT, sink.port, tmp_path, environ={"OTELKIT_ENGINE": engine}, deadline_s=60)
        found = json.loads(finished.out.splitlines()[-1])
        assert found["ok"], finished.err
        assert all(map(balanced, found["ledger"].values()))
        # Some copies of one text live at a time (a log line is formatted from it); all that were recorded are 4 GB.
        assert found["grown"] < 600
        giants = [span for span in sink.spans if span.name == "work"]
        assert sorted(span.attributes["n"] for span in giants) == list(range(GIANTS))
        for span in giants:
            cut = chr(97 + span.attributes["n"]) * 65_536
            assert span.attributes["text"] == span.attributes["later"] == cut
            assert span.attributes["texts"] == [cut] * 2
            assert span.span.events[0].attributes[0].value.string_value == cut
        lines = [log for log in sink.logs if "n" in log.attributes]
        assert {(len(log.body), len(log.attributes["text"])) for log in lines} == {(65_536, 65_536)}
        events = [log for log in sink.logs if log.record.event_name == "giant"]
        assert {len(log.body["nested"]["text"]) for log in events} == {65_536}
        assert len(lines) == len(events) == GIANTS
        assert found["ledger"]["traces"]["truncated"] == 5 * GIANTS
        assert found["ledger"]["logs"]["truncated"] == 3 * GIANTS


ODD = """
import logging
class Unprintable:
    def __str__(self): raise RuntimeError("no text")
    __repr__ = __str__
class Unreadable(dict):
    def __getitem__(self, key): raise RuntimeError("no item")
    def items(self): raise RuntimeError("no items")
with otelkit.span("work", value=Unprintable(), values=[Unprintable()]) as span:
    span.set_attribute("later", Unprintable())
    span.set_attributes({"latest": Unprintable()})
    span.add_event("happened", {"value": Unprintable()})
    logging.getLogger("shop").warning("line", extra={"value": Unprintable()})
    otelkit.event("event", {"value": Unprintable()})
    otelkit.event("event", Unreadable(key=1))
    otelkit.count("orders", 1, value=Unprintable())
with otelkit.span("work", Unreadable(key=1)): pass
report = otelkit.flush(PATIENCE_S)
print(json.dumps({"ok": report.ok, "ledger": otelkit.status()["ledger"]}))
"""


def test_values_that_cannot_be_read_fail_nothing(tmp_path: Path) -> None:
    """Every record arrives, without what could not be read. The SDK's own spans raise what such a value raises."""
    with Sink() as sink:
        finished = run_service(ODD, sink.port, tmp_path, environ={"OTELKIT_ENGINE": "otelkit"})
        found = json.loads(finished.out.splitlines()[-1])
        assert found["ok"], found
        assert all(map(balanced, found["ledger"].values()))
        assert [span.name for span in sink.spans] == ["work", "work"]
        assert [log.body for log in sink.logs if log.attributes.get("code.file.path") == "<string>"] == ["line"]
        assert [log.body for log in sink.logs if log.record.event_name == "event"] == [None, None]
