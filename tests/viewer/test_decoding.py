"""The decoder against protobuf's own classes, and against any bytes."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelkit.delivery.wire import sized
from otelkit.viewer.decode_logs import decode_logs
from otelkit.viewer.decode_metrics import decode_metrics
from otelkit.viewer.decode_spans import decode_spans
from otelkit.viewer.envelope import Batch
from otelkit.viewer.exceptions import fingerprint_of
from otelkit.viewer.span_facts import PROMOTED
from otelkit.viewer.transcode import to_protobuf
from otelkit.viewer.values import Attributes, Malformed
from tests.viewer.backend import fill

DECODERS = {"traces": decode_spans, "logs": decode_logs, "metrics": decode_metrics}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    TEXT, st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
ATTRIBUTES = st.dictionaries(TEXT, VALUES, max_size=6)
NS = st.integers(0, (1 << 62) - 1)


SPANS = st.fixed_dictionaries(
    {
        "name": TEXT,
        "kind": st.integers(0, 5),
        "start": NS,
        "duration": st.integers(0, 1 << 40),
        "status": st.integers(0, 2),
        "attributes": ATTRIBUTES,
        "events": st.lists(st.tuples(TEXT, NS, ATTRIBUTES), max_size=2),
        "trace": st.integers(1, (1 << 128) - 1),
        "span": st.integers(1, (1 << 64) - 1),
        "parent": st.integers(0, (1 << 64) - 1),
    }
)


@given(st.lists(SPANS, max_size=5), TEXT)
def test_spans_are_what_protobuf_has_written(spans: list[dict[str, Any]], service: str) -> None:
    """Every field, any text, numbers to their limits; attributes twice, from the cache the second time."""
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add()
    one.resource.attributes.add(key="service.name").value.string_value = service
    scope = one.scope_spans.add()
    scope.scope.name = "s"
    for each in spans:
        made = scope.spans.add(name=each["name"], kind=each["kind"], start_time_unix_nano=each["start"])
        made.end_time_unix_nano = each["start"] + each["duration"]
        made.trace_id, made.span_id = each["trace"].to_bytes(16, "big"), each["span"].to_bytes(8, "big")
        if each["parent"]:
            made.parent_span_id = each["parent"].to_bytes(8, "big")
        made.status.code = each["status"]
        made.flags = 0x301
        for key, value in each["attributes"].items():
            fill(made.attributes.add(key=key).value, value)
        for name, at, attributes in each["events"]:
            event = made.events.add(name=name, time_unix_nano=at)
            for key, value in attributes.items():
                fill(event.attributes.add(key=key).value, value)
    attributes = Attributes(PROMOTED)
    for _ in range(2):
        batch = Batch()
        decode_spans(request.SerializeToString(), attributes, batch)
        assert len(batch.spans) == len(spans)
        for row, each in zip(batch.spans, spans, strict=True):
            assert row[0] == each["trace"].to_bytes(16, "big")
            assert row[2] == (each["parent"].to_bytes(8, "big") if each["parent"] else None)
            assert row[3:6] == (each["name"], service or "unknown_service", each["kind"])
            assert row[6:9] == (each["start"], each["duration"], each["status"])
            assert same(json.loads(row[12]), each["attributes"])
            events = [(e["name"], e["time_ns"]) for e in json.loads(row[13] or "[]")]
            assert events == [(name, at) for name, at, _ in each["events"]]
        batch.settle()  # Arrow takes every row


def same(found: Any, wanted: Any) -> bool:
    """Equal, and floats to what JSON keeps of them."""
    if isinstance(wanted, float) and not isinstance(found, bool):
        return isinstance(found, (int, float)) and math.isclose(found, wanted, rel_tol=1e-15)
    if isinstance(wanted, list):
        return isinstance(found, list) and all(map(same, found, wanted)) and len(found) == len(wanted)
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict) and found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
        )
    return type(found) is type(wanted) and bool(found == wanted)


@pytest.mark.parametrize("signal", DECODERS)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_rows_or_malformed(signal: str, noise: bytes, at: int, byte: int) -> None:
    """Noise, and a real request with one byte changed or cut: never another exception."""
    real = REAL[signal]
    for body in (noise, real[: at % len(real)], real[: at % len(real)] + bytes((byte,)) + real[at % len(real) + 1 :]):
        batch = Batch()
        try:
            DECODERS[signal](body, Attributes(PROMOTED), batch)
            batch.settle()
        except Malformed:
            continue


def _real() -> dict[str, bytes]:
    traces = ExportTraceServiceRequest()
    one = traces.resource_spans.add()
    one.resource.attributes.add(key="service.name").value.string_value = "shop"
    span = one.scope_spans.add().spans.add(name="x", trace_id=b"1" * 16, span_id=b"2" * 8, start_time_unix_nano=1)
    fill(span.attributes.add(key="http.route").value, "/x")
    fill(span.attributes.add(key="deep").value, {"a": [1, {"b": 2.5}]})
    fill(span.events.add(name="exception").attributes.add(key="exception.type").value, "E")
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(severity_number=9)
    fill(record.body, {"a": 1})
    fill(record.attributes.add(key="exception.type").value, "E")
    metrics = ExportMetricsServiceRequest()
    made = metrics.resource_metrics.add().scope_metrics.add().metrics
    point = made.add(name="h").histogram.data_points.add(count=3, sum=1.5, bucket_counts=[1, 2], explicit_bounds=[1.0])
    fill(point.attributes.add(key="k").value, "v")
    point.exemplars.add(as_double=1.0, trace_id=b"1" * 16)
    exponential = made.add(name="e").exponential_histogram.data_points.add(count=3, scale=3, zero_count=1)
    exponential.positive.offset = -2
    exponential.positive.bucket_counts.extend([1, 1])
    made.add(name="g").gauge.data_points.add(as_int=-5)
    made.add(name="s").summary.data_points.add(count=2, sum=3.0)
    return {
        "traces": traces.SerializeToString(),
        "logs": logs.SerializeToString(),
        "metrics": metrics.SerializeToString(),
    }


REAL = _real()


def test_a_large_request_is_read_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every span is there once, in order, wherever the parts end; one that is larger than a part is one by itself."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    names = [f"s{n}" * (1 + n % 7 * 40) for n in range(200)]
    for number, name in enumerate(names):
        scope.spans.add(name=name, trace_id=b"1" * 16, span_id=(number + 1).to_bytes(8, "big"))
    scope.scope.name = "last"
    for most in (1, 100, 1000, 1 << 20):
        monkeypatch.setattr("otelkit.viewer.span_messages._MOST_AT_ONCE", most)
        batch = Batch()
        decode_spans(request.SerializeToString(), Attributes(PROMOTED), batch)
        assert [row[3] for row in batch.spans] == names
        assert {row[10] for row in batch.spans} == {"last"}


@pytest.mark.slow
def test_a_span_of_millions_of_attributes_is_rejected() -> None:
    """The others of the request are taken, one of a million distinct keys too."""
    head = sized(b"\x0a", b"1" * 16) + sized(b"\x12", b"2" * 8)
    keys = b"".join(sized(b"\x4a", sized(b"\x0a", str(n).encode())) for n in range(1_000_000))
    spans = (head, head + b"\x4a\x00" * 2_000_000, head + keys)
    batch = Batch()
    body = sized(b"\x0a", sized(b"\x12", b"".join(sized(b"\x12", each) for each in spans)))
    decode_spans(body, Attributes(PROMOTED), batch)
    assert batch.rejected == {"a span with more than a million attributes": 1}
    assert [len(json.loads(row[12])) for row in batch.spans] == [0, 1_000_000]


def test_the_points_of_each_kind_are_told_apart() -> None:
    """With their values."""
    batch = Batch()
    decode_metrics(REAL["metrics"], Attributes(), batch)
    kinds = {row[0]: row for row in batch.points}
    assert (kinds["h"][7:11]) == (3, 1.5, [1.0], [1, 2])
    assert (kinds["g"][1], kinds["g"][6]) == ("gauge", -5.0)
    assert kinds["s"][6] == 1.5
    bounds, counts = kinds["e"][9:11]
    assert bounds == pytest.approx([0, 2 ** (-2 / 8), 2 ** (-1 / 8), 1])
    assert counts == [1, 0, 1, 1, 0]


FIELDS = st.sampled_from(("resourceSpans", "scopeSpans", "spans", "traceId", "attributes", "value", "key"))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=10,
)


@given(ANY_JSON)
def test_any_json_is_a_request_or_malformed(value: Any) -> None:
    """Never another exception."""
    with contextlib.suppress(Malformed):
        decode_spans(to_protobuf("traces", json.dumps(value).encode()), Attributes(), Batch())


def test_ever_new_keys_do_not_fill_the_memory() -> None:
    """What is kept of attributes is bounded."""
    attributes = Attributes()
    for n in range(100_000):
        key = f"key.{n}".encode()
        assert attributes[b"\x0a" + bytes((len(key),)) + key + b"\x12\x02\x18\x05"] == f'"key.{n}":5'
    assert len(attributes) <= 40_000


def test_a_stack_traces_lines_texts_and_libraries_do_not_count() -> None:
    """Another place or type does."""
    stack = 'Traceback (most recent call last):\n  File "/a/app.py", line 3, in run\n    x\n{more}ValueError: {text}\n'
    library = '  File "/v/lib/python3.11/site-packages/x/y.py", line 9, in inner\n    y\n'
    one = fingerprint_of("ValueError", stack.format(more="", text="1"))
    assert one == fingerprint_of("ValueError", stack.format(more=library, text="2").replace("line 3", "line 44"))
    assert one != fingerprint_of("KeyError", stack.format(more="", text="1"))
    assert one != fingerprint_of("ValueError", stack.format(more="", text="1").replace("in run", "in walk"))
    java = "java.lang.Error: no\n\tat shop.Pay.run(Pay.java:{line})\n"
    assert fingerprint_of("E", java.format(line=3)) == fingerprint_of("E", java.format(line=9))


@pytest.mark.parametrize("decode", [decode_spans, decode_logs])
def test_a_request_of_too_many_records_is_none(monkeypatch: pytest.MonkeyPatch, decode: Any) -> None:
    """Taken or rejected: empty ones take two bytes each, and a request of 32 MB of them a gigabyte."""
    monkeypatch.setattr("otelkit.viewer.envelope.MOST_RECORDS", 50)
    for count in (50, 51):
        batch = Batch()
        body = sized(b"\x0a", sized(b"\x12", b"\x12\x00" * count))
        with pytest.raises(Malformed, match="more than 50 records") if count > 50 else contextlib.nullcontext():
            decode(body, Attributes(PROMOTED), batch)
            batch.settle()
