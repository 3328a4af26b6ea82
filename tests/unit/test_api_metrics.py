"""Metrics of business code: by name, declared, and observed."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otelkit
from otelkit.api.names import check_metric_name
from otelkit.semconv import RESERVED_PREFIXES, TABLE
from tests.support.sink import ReceivedMetric, attributes
from tests.support.started import Started


def newest(exported: Started, name: str) -> ReceivedMetric:
    """The metric of the newest collection."""
    return [metric for metric in exported.flush().metrics if metric.name == name][-1]


def values(exported: Started, name: str) -> dict[tuple[tuple[str, Any], ...], float]:
    """The newest value of each label set of a sum or gauge."""
    found = {}
    for point in newest(exported, name).points:
        value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        found[tuple(sorted(attributes(point.attributes).items()))] = value
    return found


def test_a_count_adds_up_by_label_set(exported: Started) -> None:
    """Amounts add up; other labels are another series; the unit arrives."""
    for plan, amount in (("pro", 1), ("free", 2), ("pro", 3)):
        otelkit.count("coupons.used", amount, plan=plan, _unit="{coupon}")
    otelkit.count("coupons.used", 1, {"shop.region": "eu"}, _unit="{coupon}")
    assert values(exported, "coupons.used") == {
        (("plan", "pro"),): 4,
        (("plan", "free"),): 2,
        (("shop.region", "eu"),): 1,
    }
    metric = newest(exported, "coupons.used").metric
    assert metric.unit == "{coupon}"
    assert metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == 2  # cumulative


def test_a_distribution_is_a_histogram(exported: Started) -> None:
    """Count, sum, minimum and maximum arrive."""
    for value in (12.5, 2, 7):
        otelkit.distribution("cart.value", value, _unit="{EUR}", plan="pro")
    (point,) = newest(exported, "cart.value").points
    assert (point.count, point.sum, point.min, point.max) == (3, 21.5, 2, 12.5)
    assert attributes(point.attributes) == {"plan": "pro"}


def test_a_gauge_keeps_the_last_value(exported: Started) -> None:
    """A later value replaces the earlier one."""
    otelkit.gauge("cache.entries", 3, cache="a")
    otelkit.gauge("cache.entries", 5, cache="a")
    assert values(exported, "cache.entries") == {(("cache", "a"),): 5}


def test_a_measurement_within_a_span_carries_it_as_exemplar(exported: Started) -> None:
    """The way from a metric to a trace."""
    with otelkit.span("checkout"):
        otelkit.distribution("cart.value", 3.0)
    (point,) = newest(exported, "cart.value").points
    span = exported.spans()["checkout"]
    assert [(found.trace_id.hex(), found.span_id.hex()) for found in point.exemplars] == [(span.trace_id, span.span_id)]


def test_observe_reads_at_each_collection_until_closed(exported: Started) -> None:
    """Two registrations of one name are two series; a closed one is read no more; closing twice is harmless."""
    depth = [1]
    first = otelkit.observe("queue.depth", lambda: depth[0], queue="a")
    with otelkit.observe("queue.depth", lambda: 7, {"queue": "b"}):
        assert values(exported, "queue.depth") == {(("queue", "a"),): 1, (("queue", "b"),): 7}
        depth[0] = 2
        assert values(exported, "queue.depth") == {(("queue", "a"),): 2, (("queue", "b"),): 7}
    assert values(exported, "queue.depth") == {(("queue", "a"),): 2}
    first.close()
    first.close()
    before = len([metric for metric in exported.sink.metrics if metric.name == "queue.depth"])
    exported.flush()
    assert len([metric for metric in exported.sink.metrics if metric.name == "queue.depth"]) == before


def test_declared_metrics_carry_labels_description_unit_and_buckets(exported: Started) -> None:
    """The docstring's first line is the description; bound and unbound use are one series."""

    @otelkit.metrics.counter("orders.placed", unit="{order}")
    def orders_placed(*, plan: Literal["free", "pro"]) -> None:
        """Orders accepted.

        Not this line.
        """

    @otelkit.metrics.histogram("order.value", unit="{EUR}", buckets=(1, 10))
    def order_value(*, plan: str) -> None:
        """Value."""

    @otelkit.metrics.up_down_counter("carts.open")
    def carts_open() -> None:
        """Carts."""

    @otelkit.metrics.gauge("stock.level")
    def stock_level(*, sku: str) -> None:
        """Stock."""

    orders_placed.add(2, plan="pro")
    orders_placed.add(plan="pro")
    orders_placed.labels(plan="pro").add(4)
    order_value.record(5, plan="pro")
    order_value.labels(plan="pro").record(50)
    carts_open.add(3)
    carts_open.add(-1)
    stock_level.set(1, sku="a")
    stock_level.labels(sku="a").set(9)
    assert values(exported, "orders.placed") == {(("plan", "pro"),): 7}
    metric = newest(exported, "orders.placed").metric
    assert (metric.description, metric.unit) == ("Orders accepted.", "{order}")
    (point,) = newest(exported, "order.value").points
    assert list(point.explicit_bounds) == [1, 10]
    assert list(point.bucket_counts) == [0, 1, 1]
    assert values(exported, "carts.open") == {(): 2}
    assert not newest(exported, "carts.open").metric.sum.is_monotonic
    assert values(exported, "stock.level") == {(("sku", "a"),): 9}


@pytest.mark.parametrize(
    "declare",
    [otelkit.metrics.counter, otelkit.metrics.up_down_counter, otelkit.metrics.histogram, otelkit.metrics.gauge],
)
def test_labels_that_are_not_keyword_only_are_refused_with_the_remedy(declare: Callable[..., Any]) -> None:
    """Positional labels would be mixed up silently."""
    with pytest.raises(TypeError, match=r"must be keyword-only: write `def placed\(\*, …\)`"):

        @declare("orders.refused")
        def placed(plan: str) -> None: ...


@pytest.mark.parametrize("name", ["Orders", "orders placed", "", "1st", "orders-placed", "a" * 256, "orders..placed"])
def test_a_name_that_is_not_allowed_names_the_remedy(name: str) -> None:
    """Declarations and observe raise at once, where the developer sees it."""
    with pytest.raises(ValueError, match="use lower-case letters"):
        otelkit.metrics.counter(name)
    with pytest.raises(ValueError, match="use lower-case letters"):
        otelkit.observe(name, lambda: 1)


def test_reserved_and_doubled_names_are_refused() -> None:
    """`_total` is Prometheus' to add, and instrumentation's names are instrumentation's."""
    with pytest.raises(ValueError, match="Prometheus adds it"):
        otelkit.metrics.counter("orders_total")
    for prefix in RESERVED_PREFIXES:
        with pytest.raises(ValueError, match="reserved for instrumentation"):
            otelkit.metrics.counter(f"{prefix}orders")


def test_a_wrong_name_in_a_request_is_logged_once_and_does_nothing(
    exported: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """A metric must not fail a request, nor fill the log."""
    logging.getLogger("otelkit").setLevel("INFO")
    for _ in range(3):
        otelkit.count("Wrong Name A")
        otelkit.distribution("Wrong Name A", 1)
        otelkit.gauge("Wrong Name A", 1)
    assert [record.getMessage() for record in caplog.records if "Wrong Name A" in record.getMessage()] == [
        "metric name 'Wrong Name A': use lower-case letters, digits, underscores and dots, as in 'orders.placed';"
        " its calls do nothing"
    ]
    assert "Wrong Name A" not in {metric.name for metric in exported.flush().metrics}


@pytest.mark.parametrize("value", [None, "three", object(), float("nan"), float("inf"), -1, 1 << 70])
def test_a_measurement_that_is_no_measurement_never_raises(exported: Started, value: Any) -> None:
    """The others of the process go on arriving."""
    otelkit.count("odd.counted", value)
    otelkit.distribution("odd.distributed", value)
    otelkit.gauge("odd.gauge", value)
    otelkit.count("odd.after", 1)
    exported.telemetry.flush(5.0)
    assert "odd.after" in {metric.name for metric in exported.sink.metrics}


@pytest.mark.parametrize("value", [None, "three", float("nan"), -1, 1 << 70, Fraction(10**400), 10**400])
def test_nor_does_one_of_a_series_whose_labels_are_given(exported: Started, value: Any) -> None:
    """A loop that counts is the application's."""

    @otelkit.metrics.counter("odd.bound")
    def counted(*, label: str) -> None: ...

    @otelkit.metrics.histogram("odd.bound.distributed")
    def distributed(*, label: str) -> None: ...

    @otelkit.metrics.gauge("odd.bound.gauge")
    def level(*, label: str) -> None: ...

    counted.labels(label="a").add(value)
    distributed.labels(label="a").record(value)
    level.labels(label="a").set(value)
    otelkit.count("odd.after", 1)
    exported.telemetry.flush(5.0)
    assert "odd.after" in {metric.name for metric in exported.sink.metrics}


@pytest.mark.parametrize("label", [None, ["a", "b"], {"a": 1}, object(), b"bytes", 1 << 70, "\ud800"])
def test_a_label_that_is_none_never_raises(exported: Started, label: Any) -> None:
    """Unhashable and unknown values as labels cost neither the call nor the collection."""
    otelkit.count("odd.labels", label=label)
    otelkit.count("odd.after", 1)
    exported.telemetry.flush(5.0)
    assert "odd.after" in {metric.name for metric in exported.sink.metrics}


def test_an_instrument_made_before_bootstrap_lives_after_it(exported: Started) -> None:
    """Over a shutdown and a new start the same declared metric goes on counting, from zero."""

    @otelkit.metrics.counter("orders.kept")
    def kept() -> None:
        """Kept."""

    kept.add(5)
    otelkit.shutdown(5.0)
    kept.add(1)
    second = otelkit.bootstrap("again", **_same(exported))
    exported.telemetry = second
    kept.add(2)
    otelkit.count("orders.other")
    assert values(exported, "orders.kept") == {(): 2}


def _same(exported: Started) -> dict[str, Any]:
    return {
        "otlp_endpoint": exported.sink.url,
        "state_dir": str(exported.state_dir),
        "disabled_instrumentations": "*",
        "runtime_metrics": False,
        "otel_log_level": "critical",
    }


@given(st.text(max_size=300))
def test_checking_a_name_raises_valueerror_or_nothing(name: str) -> None:
    """Whatever a name is, the check says yes or a sentence that shows the name."""
    with contextlib.suppress(ValueError):
        check_metric_name(name)
        assert name
        return
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        check_metric_name(name)


def test_the_tables_own_names_are_well_formed_and_unique() -> None:
    """One table, no name twice, every bucket list rising."""
    names = [metric.name for metric in TABLE]
    assert len(set(names)) == len(names)
    for metric in TABLE:
        assert metric.description.endswith("."), metric.name
        assert not metric.name.endswith("_total")
        assert len(set(metric.labels)) == len(metric.labels)
        assert metric.buckets is None or list(metric.buckets) == sorted(set(metric.buckets))
        assert (metric.buckets is not None) == (metric.kind == "histogram"), metric.name
