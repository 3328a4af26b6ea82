"""What one record may weigh: texts and records above the caps are cut, lighter ones are left alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from otelkit.delivery.caps import LONG_TEXT, Caps, Scales, cut_text
from otelkit.engine.sdk_records import SdkSpan
from tests.support.records import ALog

CAPS = Caps(value_bytes=6000, record_bytes=20_000)
CONTEXT = SpanContext(1, 2, False, TraceFlags(1))


def a_span(name: str = "work", attributes: Any = None, **more: Any) -> SdkSpan:
    return SdkSpan(ReadableSpan(name, context=CONTEXT, resource=Resource.get_empty(), attributes=attributes, **more))


def size(value: Any) -> int:
    """The bytes of all texts in a value."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(size(key) + size(item) for key, item in value.items())
    if isinstance(value, (tuple, list)):
        return sum(map(size, value))
    return 0


def longest(value: Any) -> int:
    """The bytes of the longest text in a value."""
    if isinstance(value, dict):
        return max((longest(item) for item in value.values()), default=0)
    if isinstance(value, (tuple, list)):
        return max(map(longest, value), default=0)
    return size(value)


letters = st.characters(codec="utf-8")
texts = st.one_of(st.text(letters, max_size=20), st.builds(lambda c, n: c * n, letters, st.integers(0, 30_000)))
simple = st.one_of(texts, st.binary(max_size=8000), st.integers(), st.none())
values = st.recursive(
    simple,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=5)),
    max_leaves=12,
)


keys = st.text(max_size=5)
short = st.one_of(st.text(letters, max_size=20), st.integers(), st.none())
# A plain dict has short simple values alone (engine/attributes.py).
owns = st.one_of(
    st.dictionaries(keys, short, max_size=30), st.dictionaries(keys, values, max_size=8).map(MappingProxyType)
)


@given(body=values, own=owns)
def test_a_log_record_enters_within_its_caps(body: Any, own: Mapping[str, Any]) -> None:
    record = ALog(body=body, own=own, severity_number=9, trace_id=5)
    heavy = Scales(CAPS).log(record)
    if heavy is None:
        assert len(body or "") <= LONG_TEXT
        assert len(own) <= 16
        return
    found = heavy.record
    assert size(found.body) + size(found.own) <= heavy.bytes <= CAPS.record_bytes + CAPS.value_bytes + 1000
    assert longest(found.body) <= CAPS.value_bytes
    assert longest(found.own) <= CAPS.value_bytes
    assert (found.severity_number, found.trace_id) == (9, 5)
    if not heavy.cut:
        assert found is record


@given(text=texts, most=st.integers(0, 100))
def test_a_text_is_cut_between_characters(text: str, most: int) -> None:
    cut = cut_text(text, most)
    assert text.startswith(cut)
    assert len(cut.encode()) <= most
    if cut != text:
        assert len(text[: len(cut) + 1].encode()) > most


def test_everything_that_a_span_holds_is_weighed() -> None:
    """Name, attributes, status, events and links; what has no more room is counted as OpenTelemetry counts it."""
    giant = "x" * 1_000_000
    span = a_span(
        giant,
        {"a": giant, "b": 1},
        events=[Event("e", {"stack": giant}), *(Event("f", {"n": n, "text": giant}) for n in range(5))],
        links=[Link(CONTEXT, {"l": giant})],
        status=Status(StatusCode.ERROR, giant),
    )
    heavy = Scales(CAPS).span(span)
    assert heavy is not None
    found = heavy.record
    assert found.details is not None
    assert heavy.cut >= 5
    assert len(found.name) == CAPS.value_bytes
    assert found.own == {"a": "x" * CAPS.value_bytes, "b": 1}
    assert found.details.status.status_code is StatusCode.ERROR
    assert found.details.status.description is not None
    assert size(found.name) + size(found.own) + size(found.details.status.description) <= CAPS.record_bytes
    assert found.details.dropped_events == 6 - len(found.details.events) > 0
    assert found.details.dropped_links == 1
    assert (found.trace_id, found.span_id, found.instrumentation_scope) == (1, 2, span.instrumentation_scope)


def test_attributes_without_room_are_counted_as_dropped() -> None:
    heavy = Scales(CAPS).span(a_span(attributes={f"k{n}": "x" * 5000 for n in range(10)}))
    assert heavy is not None
    assert heavy.record.own is not None
    assert len(heavy.record.own) == 4
    assert heavy.record.own.dropped == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["é" * 2000, b"x" * 3000, ("y" * 1000,) * 2])
def test_what_is_within_the_caps_is_the_same_record(value: Any) -> None:
    record = ALog(body="text", own={"key": value})
    heavy = Scales(CAPS).log(record)
    assert heavy is None or (heavy.record is record and heavy.cut == 0)
