"""`otelkit.event`: events of business code are log records with an event name."""

from __future__ import annotations

from typing import Any

import pytest

import otelkit
from tests.support.started import Started


def test_an_event_is_a_log_record_of_its_trace(exported: Started) -> None:
    """Name, attributes, severity, time and the ids of the span around it arrive."""
    with otelkit.span("register"):
        otelkit.event("user_registered", "A user came", plan="pro", seats=3)
    (log,) = exported.logs()
    span = exported.spans()["register"]
    assert log.record.event_name == "user_registered"
    assert log.body == "A user came"
    assert log.attributes == {"plan": "pro", "seats": 3}
    assert (log.record.trace_id.hex(), log.record.span_id.hex()) == (span.trace_id, span.span_id)
    assert log.record.severity_text == "INFO"
    assert log.record.observed_time_unix_nano > 0


def test_without_a_body_the_name_is_what_a_person_reads(exported: Started) -> None:
    """Outside of a span there is no trace id."""
    otelkit.event("cache_cleared")
    (log,) = exported.logs()
    assert (log.body, log.record.trace_id, log.attributes) == ("cache_cleared", b"", {})


@pytest.mark.parametrize(
    ("word", "number"), [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21)]
)
def test_every_severity_has_its_number(exported: Started, word: Any, number: int) -> None:
    """The numbers are those of OpenTelemetry's log data model."""
    otelkit.event("something", _severity=word)
    (log,) = exported.logs()
    assert log.record.severity_number == number


@pytest.mark.parametrize("value", [None, object(), {1, 2}, {"a": [1, {"b": None}]}, b"\xff", "\ud800", 1 << 70])
def test_odd_values_cost_neither_the_call_nor_the_record(exported: Started, value: Any) -> None:
    """The record arrives whatever its attribute is."""
    otelkit.event("odd", value=value, kept="yes")
    (log,) = exported.logs()
    assert log.attributes["kept"] == "yes"
