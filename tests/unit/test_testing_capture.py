"""What a captured test can ask of its spans, metrics and logs."""

from __future__ import annotations

import asyncio
import logging
import os
import threading

import pytest
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Observation

import otelkit
from otelkit import testing
from otelkit.signals import correlation
from otelkit.testing import Captured
from otelkit.testing.measured import Distribution

logger = logging.getLogger("shop")


def place_order(sku: str = "A5") -> None:
    """An application's own spans, logs and metrics."""
    with otelkit.span("order.place", {"order.tags": ["a", "b"]}, sku=sku):
        with otelkit.span("price.quote", _kind="client"):
            logger.warning("stock of %s is low", sku, extra={"left": 2})
        with otelkit.span("order.save"):
            pass
        otelkit.event("order_placed", plan="pro")
        otelkit.count("orders.placed", 2, plan="pro")
        otelkit.count("orders.placed", plan="free")
        otelkit.distribution("cart.value", 12.5)


def test_spans_are_found_by_name_kind_and_attributes(telemetry: Captured) -> None:
    """Filters can be chained; a collection is a sequence."""
    place_order("A5")
    place_order("B7")
    assert [span.name for span in telemetry.spans][:3] == ["order.place", "price.quote", "order.save"]
    assert len(telemetry.spans.named("order.place")) == 2
    found = telemetry.spans.named("order.place").with_attributes({"order.tags": ["a", "b"]}, sku="B7").one()
    assert found.attributes["sku"] == "B7"
    assert (found.kind, found.status) == ("internal", "unset")
    assert len(telemetry.spans.of_kind("client")) == 2
    assert not telemetry.spans.named("nothing")
    assert telemetry.spans.where(lambda span: span.name.startswith("price"))[0].kind == "client"
    assert [span.name for span in telemetry.spans[-2:]] == ["price.quote", "order.save"]
    assert found.otel.name == "order.place"
    assert 0 < found.duration_s < 10


def test_spans_know_their_family(telemetry: Captured) -> None:
    """Parents, children, descendants and roots, and the log records in them."""
    with otelkit.span("request"):
        place_order()
    root = telemetry.spans.roots.one()
    assert root.name == "request"
    assert root.parent is None
    assert root.parent_id is None
    order = root.children.one()
    assert order.parent == root
    assert [span.name for span in order.children] == ["price.quote", "order.save"]
    assert [span.name for span in root.descendants] == ["order.place", "price.quote", "order.save"]
    assert [log.text for log in order.logs] == ["order_placed"]
    assert order.children[0].logs.one().span == order.children[0]
    assert {span.trace_id for span in telemetry.spans} == {root.trace_id}
    assert len({*telemetry.spans, *root.descendants}) == 4


def test_a_failed_span_is_found(telemetry: Captured) -> None:
    """With the exception's record beside it."""
    with pytest.raises(ValueError, match="bad"), otelkit.span("price.quote"):
        raise ValueError("bad sku")
    assert telemetry.spans.failed.one().status == "error"
    record = telemetry.logs.with_attributes({"exception.type": "ValueError"}).one()
    assert record.level == "error"
    assert record.span == telemetry.spans.one()


def test_one_says_what_there_was_instead(telemetry: Captured) -> None:
    """The whole tree stands in the message, open spans too."""
    with otelkit.span("request"):
        place_order()
        with pytest.raises(AssertionError) as raised:
            telemetry.spans.named("orders.place").one()
    message = str(raised.value)
    assert message.startswith("0 spans match, expected 1\n")
    assert "still running" in message
    for text in ("request", "├─ price.quote", "WARNING stock of A5 is low  shop", "└─ order.save"):
        assert text in message
    with pytest.raises(AssertionError, match="2 log records match, expected 1"):
        telemetry.logs.one()


def test_trees_are_drawn(telemetry: Captured) -> None:
    """Of everything, of a selection, of one span and what is under it."""
    with otelkit.span("request"):
        place_order()
    assert telemetry.tree().count("\n") == 5
    assert telemetry.spans.named("order.save").tree().count("\n") == 0
    assert "request" not in telemetry.spans.named("order.place").one().tree()
    assert "price.quote" in telemetry.spans.named("order.place").one().tree()
    assert "\x1b" not in telemetry.tree()


def test_without_spans_there_is_a_word_instead_of_a_tree(telemetry: Captured) -> None:
    """Not an empty text."""
    assert telemetry.tree() == "no spans were recorded"


def test_counters_are_added_up_over_the_labels_that_are_not_named(telemetry: Captured) -> None:
    """One that was never counted is 0, in the message too, with what there is instead."""
    place_order()
    assert telemetry.metrics.value("orders.placed") == 3
    assert telemetry.metrics.value("orders.placed", plan="pro") == 2
    assert telemetry.metrics.value("orders.placed", {"plan": "free"}) == 1
    place_order()
    assert telemetry.metrics.value("orders.placed", plan="pro") == 4
    never = telemetry.metrics.value("orders.placed", plan="gold")
    assert never == 0
    assert repr(never) == "0"
    assert "orders.placed" in telemetry.metrics
    assert "orders.refused" not in telemetry.metrics
    assert "orders.placed{plan=pro} 4" in str(telemetry.metrics)


def test_histograms_have_a_count_and_a_sum(telemetry: Captured) -> None:
    """Also over several looks, between which more was recorded."""
    otelkit.distribution("cart.value", 5, plan="pro")
    assert telemetry.metrics.histogram("cart.value").count == 1
    otelkit.distribution("cart.value", 11, plan="free")
    otelkit.distribution("cart.value", 8, plan="pro")
    found = telemetry.metrics.histogram("cart.value")
    assert (found.count, found.sum, found.min, found.max, found.mean) == (3, 24, 5, 11, 8)
    assert sum(found.buckets) == 3
    assert telemetry.metrics.histogram("cart.value", plan="pro").sum == 13
    assert telemetry.metrics.histogram("cart.other") == Distribution()


def test_gauges_have_their_last_value(telemetry: Captured) -> None:
    """Two label sets of one gauge have no sum: the question must be clearer."""
    otelkit.gauge("cache.entries", 3, cache="a")
    otelkit.gauge("cache.entries", 5, cache="a")
    otelkit.gauge("cache.entries", 7, cache="b")
    assert telemetry.metrics.value("cache.entries", cache="a") == 5
    with pytest.raises(AssertionError, match=r"2 values of the gauge cache\.entries"):
        telemetry.metrics.value("cache.entries")
    with otelkit.observe("queue.depth", lambda: 4):
        assert telemetry.metrics.value("queue.depth") == 4


def test_a_question_for_the_wrong_kind_is_answered_with_the_right_one(telemetry: Captured) -> None:
    """A histogram has no value, a counter no distribution."""
    place_order()
    with pytest.raises(AssertionError, match=r"telemetry\.metrics\.histogram\('cart.value'\)"):
        telemetry.metrics.value("cart.value")
    with pytest.raises(AssertionError, match=r"telemetry\.metrics\.value\('orders.placed'\)"):
        telemetry.metrics.histogram("orders.placed")


def test_observed_totals_are_not_added_up(telemetry: Captured) -> None:
    """What is observed is a total already: looking twice, and a bootstrap in between, do not double it."""

    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(5)]

    otel_metrics.get_meter("test").create_observable_counter("seen.total", [observe])
    otelkit.count("counted", 2)
    assert telemetry.metrics.value("seen.total") == 5
    assert telemetry.metrics.value("seen.total") == 5
    otelkit.bootstrap("shop", disabled_instrumentations="*")
    otelkit.count("counted", 3)
    assert telemetry.metrics.value("seen.total") == 5
    assert telemetry.metrics.value("counted") == 5


def test_logs_are_found_by_text_level_logger_and_event(telemetry: Captured) -> None:
    """Levels go by any of their names."""
    place_order()
    record = telemetry.logs.with_text("A5 is low").at_level("warning").one()
    assert (record.level, record.logger, record.text) == ("warning", "shop", "stock of A5 is low")
    assert record.attributes["left"] == 2
    assert record.event_name is None
    for level in ("WARN", "Warning", logging.WARNING):
        assert len(telemetry.logs.at_level(level)) == 1
    assert telemetry.logs.of_logger("shop").one() is not None
    event = telemetry.logs.events("order_placed").one()
    assert event.event_name == "order_placed"
    assert event.level == "info"
    assert telemetry.logs.with_attributes(plan="pro").one().event_name == "order_placed"
    with pytest.raises(ValueError, match="'loud' is no level; there are trace, debug"):
        telemetry.logs.at_level("loud")


def test_the_application_starting_is_no_record_of_the_test(telemetry: Captured) -> None:
    """Nothing was recorded but what the test did."""
    assert list(telemetry.logs) == []
    otelkit.bootstrap("shop", disabled_instrumentations="*")
    assert list(telemetry.logs) == []
    assert list(telemetry.spans) == []


def test_threads_and_tasks_are_captured(telemetry: Captured) -> None:
    """Everything of the process, whoever records it."""

    async def main() -> None:
        async def work(number: int) -> None:
            with otelkit.span(f"task {number}"):
                await asyncio.sleep(0)

        await asyncio.gather(*(work(number) for number in range(5)))

    threads = [threading.Thread(target=place_order) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(main())
    assert len(telemetry.spans.named("order.place")) == 4
    assert len(telemetry.spans.where(lambda span: span.name.startswith("task "))) == 5
    assert telemetry.metrics.value("orders.placed", plan="pro") == 8


def test_a_test_begins_outside_of_any_span(telemetry: Captured) -> None:
    """With nothing bound, whatever the test before has left."""
    assert not trace.get_current_span().get_span_context().is_valid
    otelkit.bind(user_id=7)
    with otelkit.span("bound"):
        pass
    assert telemetry.spans.one().attributes["user.id"] == 7


def test_nothing_of_the_binding_is_left(telemetry: Captured) -> None:
    """Of the test above, if it ran before in this process."""
    with otelkit.span("free"):
        pass
    assert "user.id" not in telemetry.spans.one().attributes


def test_outside_of_pytest_a_context_manager_does_it() -> None:
    """What was captured can be asked after the block; what comes later is not in it."""
    state = otelkit.status()["state"]
    with testing.capture() as telemetry:
        place_order()
        with pytest.raises(RuntimeError, match="captured already"), testing.capture():
            pass
        place_order()
    place_order()
    assert len(telemetry.spans.named("order.place")) == 2
    assert telemetry.metrics.value("orders.placed", plan="pro") == 4
    assert len(telemetry.logs.with_text("stock")) == 2
    assert otelkit.status()["state"] == state


def test_what_is_bound_around_a_capture_stays_around_it() -> None:
    """It is not on the captured spans, and is back afterwards."""
    with otelkit.bind(tenant="outer"):
        with testing.capture() as telemetry:
            otelkit.bind(user_id=7)
            with otelkit.span("captured"):
                pass
        with testing.capture() as again, otelkit.span("captured"):
            pass
        assert correlation.bound() == {"tenant": "outer"}
    assert telemetry.spans.one().attributes == {"user.id": 7}
    assert again.spans.one().attributes == {}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_records_for_no_test(telemetry: Captured) -> None:
    """It neither exports nor hangs, and the parent goes on."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            place_order()
            code = 0 if otelkit.flush(2.0).ok else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    place_order()
    assert len(telemetry.spans.named("order.place")) == 1
