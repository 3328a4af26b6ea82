"""The file of a process's series: what is read is what was written, and many files add up to one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.engine import publishing
from otelkit.engine.merging import Merger, Source, fold
from otelkit.engine.publishing import SeriesFile
from otelkit.engine.shared import Entry, read, write_ended
from otelkit.semconv import PROCESS_SLOT
from tests.support.examples import examples

CUMULATIVE = AggregationTemporality.CUMULATIVE
SCOPE = InstrumentationScope("test", "1", "https://example.org/schema", {"team": "blue"})
BOUNDS = (1.0, 5.0)

plain = st.text(max_size=5) | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
values = st.recursive(
    plain | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(st.text(max_size=4), values, max_size=4)
amounts = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def exemplar(value: float, time_ns: int = 50) -> Exemplar:
    """Of a sampled span."""
    return Exemplar({}, value, time_ns, 0xDEF, 0xABC)


def histogram(*recorded: float, exemplars: Sequence[Exemplar] = ()) -> Metric:
    """One series of these values."""
    counts = [0, 0, 0]
    for value in recorded:
        counts[sum(value > bound for bound in BOUNDS)] += 1
    lowest, highest = min(recorded, default=math.inf), max(recorded, default=-math.inf)
    point = HistogramDataPoint(
        {}, 10, 99, len(recorded), sum(recorded), counts, BOUNDS, lowest, highest, list(exemplars)
    )
    return Metric("h", "how long", "s", Histogram([point], CUMULATIVE))


def number(value: float, labels: Any = None, **data: Any) -> Metric:
    """One series of a counter, or of what `data` says."""
    point = NumberDataPoint(labels or {}, data.pop("start_ns", 10), 99, value, data.pop("exemplars", []))
    return Metric(data.pop("name", "c"), "", "1", Sum([point], CUMULATIVE, data.pop("monotonic", True)))


def gauge(value: float) -> Metric:
    """One series of a last value."""
    point = NumberDataPoint({}, None, 99, value, [])  # type: ignore[arg-type]  # a last value has no start
    return Metric("g", "", "1", Gauge([point]))


def shape(value: Any) -> object:
    """A value with its types, whatever the order of its keys."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, tuple) else (type(value), value)


@contextmanager
def a_file(slot: int = 0) -> Iterator[tuple[SeriesFile, Path]]:
    """A process's file, and where it is."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "0-1-1.series"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield SeriesFile(fd, slot), path
        finally:
            os.close(fd)


def said(*metrics: Metric, state: bool = False) -> list[Entry]:
    """What a file says after these were written."""
    with a_file() as (file, path):
        assert file.write((SCOPE, metric, state) for metric in metrics) == []
        return read(path)


def merged(*sources: Source, **options: Any) -> dict[str, list[Any]]:
    """The points of a merger, by metric."""
    return {
        metric.name: list(metric.data.data_points)
        for scope in Merger().merge(sources, 99, **options)
        for metric in scope.metrics
    }


@settings(max_examples=examples(200), deadline=None)
@given(found=st.lists(st.tuples(attributes, amounts), max_size=8))
def test_what_was_written_is_read(found: list[tuple[dict[str, Any], Any]]) -> None:
    """Attributes of every type, integers and floats of their own type, and the scope."""
    metrics = [number(value, labels, name=f"c{place}") for place, (labels, value) in enumerate(found)]
    scopes = Merger().merge([Source(said(*metrics), 0)], 99)
    assert [scope.scope for scope in scopes] == ([SCOPE] if metrics else [])
    back = {metric.name: metric for scope in scopes for metric in scope.metrics}
    for place, (labels, value) in enumerate(found):
        (point,) = back[f"c{place}"].data.data_points
        assert isinstance(point, NumberDataPoint)
        assert shape(point.attributes) == shape(labels)
        assert (type(point.value), point.value) == (type(value), value)
        assert point.start_time_unix_nano == 10


@settings(max_examples=examples(100), deadline=None)
@given(found=st.lists(st.lists(st.integers(0, 100), max_size=20), min_size=1, max_size=6))
def test_histograms_add_up(found: list[list[float]]) -> None:
    """Buckets, count, sum, minimum and maximum are those of all values in one histogram."""
    (point,) = merged(*(Source(said(histogram(*part)), slot) for slot, part in enumerate(found)))["h"]
    (expected,) = histogram(*(value for part in found for value in part)).data.data_points
    assert isinstance(expected, HistogramDataPoint)
    assert list(point.bucket_counts) == list(expected.bucket_counts)
    assert (point.count, point.sum, point.min, point.max) == (
        expected.count,
        expected.sum,
        expected.min,
        expected.max,
    )
    assert point.explicit_bounds == BOUNDS


def test_each_kind_is_put_together_in_its_own_way() -> None:
    """Sums count those that have ended, states and gauges only the living, gauges one by one."""
    living = [
        Source(said(number(5), number(3, name="t", monotonic=False), gauge(7)), 0),
        Source(said(number(6, start_ns=4), number(-1, name="t", monotonic=False), gauge(8)), 3),
        Source(said(number(2, name="s", monotonic=False), state=True), 4),
    ]
    ended = [
        Source(said(number(10), number(20, name="t", monotonic=False), gauge(9)), None),
        Source(said(number(40, name="s", monotonic=False), state=True), None),
    ]
    found = merged(*living, *ended)
    assert [(point.value, point.start_time_unix_nano) for point in found["c"]] == [(21, 4)]
    assert [point.value for point in found["t"]] == [22]
    assert [point.value for point in found["s"]] == [2]
    assert [point.value for point in merged(*ended)["s"]] == [0], "nobody has it any more"
    assert {point.attributes[PROCESS_SLOT]: point.value for point in found["g"]} == {0: 7, 3: 8}
    assert [dict(point.attributes) for point in merged(living[0], slots=False)["g"]] == [{}]


def test_the_order_of_attributes_makes_no_other_series() -> None:
    """Two processes may give them in two orders."""
    (point,) = merged(Source(said(number(1, {"a": 1, "b": 2})), 0), Source(said(number(2, {"b": 2, "a": 1})), 1))["c"]
    assert (point.value, dict(point.attributes)) == (3, {"a": 1, "b": 2})


def test_exemplars_are_the_newest_of_all_and_those_since_the_last_export() -> None:
    """One a bucket of a histogram, one of a sum."""
    one = Source(said(histogram(0.5, 7, exemplars=[exemplar(0.5, 50), exemplar(7, 60)]), number(1)), 0)
    two = Source(said(histogram(0.7, exemplars=[exemplar(0.7, 70)]), number(1, exemplars=[exemplar(1, 80)])), 1)
    found = merged(one, two)
    assert [(each.value, each.time_unix_nano) for each in found["h"][0].exemplars] == [(0.7, 70), (7, 60)]
    assert found["c"][0].exemplars == [exemplar(1, 80)]
    assert [each.value for each in merged(one, two, since_ns=60)["h"][0].exemplars] == [0.7]


def test_a_series_is_written_in_place() -> None:
    """A later value takes the place of the earlier one, and the file does not grow."""
    with a_file() as (file, path):
        for value in range(1000):
            file.write([(SCOPE, number(value), False), (SCOPE, histogram(value), False)])
        assert file.size == path.stat().st_size == 65536
        assert [point.value for point in merged(Source(read(path), 0))["c"]] == [999]


def test_a_file_grows_and_has_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no place any more is returned; what has one stays."""
    monkeypatch.setattr(publishing, "MAX_BYTES", 256 * 1024)
    with a_file() as (file, path):
        left = []
        for place in range(2000):
            left += file.write([(SCOPE, number(place, {"n": place, "text": "x" * 100}), False)])
        assert file.full
        points = merged(Source(read(path), 0))["c"]
        assert 200 < len(points) < 2000
        assert len(points) + len(left) == 2000
        assert {point.attributes["n"] for point in points} == set(range(len(points)))
        (scope, metric) = left[0]
        (point,) = metric.data.data_points
        assert (scope, metric.name, dict(point.attributes or {})["n"]) == (SCOPE, "c", len(points))
        assert path.stat().st_size <= 256 * 1024


def test_what_cannot_be_added_up_is_returned() -> None:
    """Delta temporality, exponential histograms, attributes that JSON cannot hold."""
    delta = Metric("d", "", "1", Sum([NumberDataPoint({}, 1, 2, 3, [])], AggregationTemporality.DELTA, True))
    exponential = Metric("e", "", "1", ExponentialHistogram([], CUMULATIVE))
    odd = number(1, {"odd": object()})
    with a_file() as (file, path):
        left = file.write((SCOPE, metric, False) for metric in (delta, exponential, odd, number(4)))
        assert [metric.name for _, metric in left] == ["d", "e", "c"]
        assert [point.value for point in merged(Source(read(path), 0))["c"]] == [4]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """And one that is being made says nothing yet."""
    path = tmp_path / "0-1-1.series"
    path.write_bytes(b"OTKSER99".ljust(4096, b"\0"))
    with pytest.raises(ValueError, match="another version"):
        read(path)
    path.write_bytes(b"")
    assert read(path) == []


def test_what_ended_processes_said_is_kept_with_their_names(tmp_path: Path) -> None:
    """Sums and histograms; neither gauges nor exemplars."""
    sources = [
        Source(said(number(5, exemplars=[exemplar(5)]), gauge(7), histogram(3, exemplars=[exemplar(3)])), None),
        Source(said(number(6)), None),
    ]
    path = tmp_path / "ended.series"
    write_ended(path, fold(sources), ["b", "a"])
    kept = read(path)
    assert kept[0].key == b'["a", "b"]'
    found = merged(Source(kept, None))
    assert set(found) == {"c", "h"}
    assert found["c"][0].value == 11
    assert found["c"][0].exemplars == found["h"][0].exemplars == []
    write_ended(path, fold([Source(kept, None), sources[1]]), [])
    assert merged(Source(read(path), None))["c"][0].value == 17


WRITER = """
import os, sys, time
from tests.unit.test_shared_series import SCOPE, SeriesFile, number
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
file = SeriesFile(fd, 0)
names = [f"c{place}" for place in range(50)]
value = 0
while True:
    value += 1
    file.write((SCOPE, number(value, name=name), False) for name in names)
    if value == 1:
        print("ready", flush=True)
    time.sleep(0.0005)
"""


def test_a_reader_never_sees_half_of_a_change(tmp_path: Path) -> None:
    """50 series are written together: whenever another process reads, they are equal."""
    path = tmp_path / "0-1-1.series"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        seen = set()
        for _ in range(300):
            values = {entry.numbers.value for entry in read(path)}  # type: ignore[union-attr]
            assert len(values) == 1
            seen |= values
        assert len(seen) > 10
    finally:
        writer.kill()
        writer.communicate()
    assert len(read(path)) == 50
