"""The code of the guides does what they say: each page's, run as it stands, with a real receiver."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import run_python
from tests.support.server import PATIENT
from tests.support.sink import Sink

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"

WORKER = """
from celery.contrib.testing.worker import start_worker
with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
    place_order()
    import time
    deadline = time.monotonic() + 20
    while not done:
        assert time.monotonic() < deadline
        time.sleep(0.02)
"""
WAITED = """
from celery.signals import task_postrun
done = []
task_postrun.connect(lambda **kwargs: done.append(1), weak=False)
"""
ASKED = """
import asyncio
import httpx

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
        await client.get("/items/7")
        print((await client.get("/metrics")).text)

asyncio.run(ask())
"""


def tree(sink: Sink) -> list[tuple[str, str]]:
    """Every span with the name of the one above, in the order of their starts."""
    names = {span.span_id: span.name for span in sink.spans}
    spans = sorted(sink.spans, key=lambda span: span.span.start_time_unix_nano)
    return [(span.name, names.get(span.parent_id, "")) for span in spans]


def spans_and_metrics(sink: Sink, out: str) -> None:
    assert tree(sink) == [("order.place", ""), ("quote", "order.place"), ("discount.look_up", "quote")]
    _, quote, look_up = sorted(sink.spans, key=lambda span: span.span.start_time_unix_nano)
    assert (quote.attributes["sku"], quote.attributes["tenant"]) == ("TEA-GREEN", "acme")
    assert "coupon" not in quote.attributes
    assert (look_up.attributes["shop.coupon.kind"], look_up.attributes["shop.discount"]) == ("spring", 0.1)
    assert sink.total("orders.placed", plan="pro") == 1
    assert sink.total("coupons.used", kind="spring") == 1
    assert (sink.total("cart.value"), sink.seconds("cart.value")) == (1, 9.0)
    assert sink.total("parcels.waiting") == 3
    (placed,) = [log for log in sink.logs if log.record.event_name == "order_placed"]
    assert (placed.attributes["order_id"], placed.attributes["tenant"]) == (7, "acme")
    (error,) = [log for log in sink.logs if "exception.type" in log.attributes]
    assert error.record.severity_text.upper().startswith("WARN")


def logs(sink: Sink, out: str) -> None:
    (span,) = sink.spans
    paid, failed = [log for log in sink.logs if log.scope == "shop.orders"]
    assert (paid.body, paid.attributes["amount"]) == ("order 7 is paid", 12.5)
    assert failed.attributes["exception.type"] == "LookupError"
    assert {paid.record.trace_id.hex(), failed.record.trace_id.hex()} == {span.trace_id}


def celery(sink: Sink, out: str) -> None:
    assert [name for name, _ in tree(sink)] == [
        "order.place", "publish shop.fulfil_order", "process shop.fulfil_order", "parcel.pack",
    ]  # fmt: skip
    assert [above for _, above in tree(sink)] == ["", *(name for name, _ in tree(sink)[:3])]
    assert {span.name.partition(" ")[0]: span.span.kind for span in sink.spans} == {
        "order.place": 1, "publish": 4, "process": 5, "parcel.pack": 1,
    }  # fmt: skip
    assert sink.total("messaging.process.duration", celery__task__name="shop.fulfil_order") == 1
    assert sink.named("parcel.pack")[0].attributes["order_id"] == 7


def workers(sink: Sink, out: str) -> None:
    assert [span.name for span in sink.spans] == ["parcel.pack"] * 3
    assert len({span.resource["process.pid"] for span in sink.spans}) == 3
    assert sink.total("parcels.packed") == 4


def from_sentry(sink: Sink, out: str) -> None:
    assert tree(sink) == [("order.pay", "")]
    (error,) = [log for log in sink.logs if "exception.type" in log.attributes]
    assert error.attributes["exception.type"] == "ConnectionError"


def from_ddtrace(sink: Sink, out: str) -> None:
    (span,) = sink.spans
    assert (span.name, span.attributes["order_id"], span.attributes["customer"]) == ("order.pay", 7, "acme")
    assert sink.total("orders.paid", method="card") == 1


def from_logfire(sink: Sink, out: str) -> None:
    assert tree(sink) == [("order.place", ""), ("quote", "order.place")]
    assert "order 7 costs 9.0" in [log.body for log in sink.logs]


def from_prometheus_fastapi_instrumentator(sink: Sink, out: str) -> None:
    assert "shop_parcels_total 1.0\n" in out
    assert re.search(r'http_server_request_duration_seconds_count\{.*http_route="/items/\{item_id\}".*\} 1.0', out)
    assert "http_server_active_requests{" in out
    assert re.search(r'http_request_method="GET".*http_response_status_code="200"', out)


def from_opentelemetry(sink: Sink, out: str) -> None:
    assert tree(sink) == [("order.place", ""), ("price.quote", "order.place")]
    assert sink.total("orders.placed", plan="pro") == 1


Check = Callable[[Sink, str], Any]
PAGES: dict[str, tuple[Check, str, str]] = {
    "spans-and-metrics.md": (spans_and_metrics, "", ""),
    "logs.md": (logs, "", ""),
    "celery.md": (celery, WAITED, WORKER),
    "workers.md": (workers, "", ""),
    "from-sentry.md": (from_sentry, "", ""),
    "from-ddtrace.md": (from_ddtrace, "", ""),
    "from-logfire.md": (from_logfire, "", ""),
    "from-prometheus-fastapi-instrumentator.md": (from_prometheus_fastapi_instrumentator, "", ASKED),
    "from-opentelemetry.md": (from_opentelemetry, "", ""),
}
"""The pages, what is to have arrived, and what is run before and after their code."""


def test_every_guide_is_tried() -> None:
    """None without code, none without a row here."""
    assert sorted(path.name for path in GUIDES.glob("*.md") if path.name != "README.md") == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_guide_does_what_it_says(page: str, tmp_path: Path, sink: Sink) -> None:
    """Its only program, with the receiver's address in the environment, and time enough for a slow machine."""
    check, before, after = PAGES[page]
    (code,) = re.findall(r"^```python\n(.*?)^```", (GUIDES / page).read_text(), re.MULTILINE | re.DOTALL)
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **PATIENT}
    finished = run_python(before + code + after, cwd=tmp_path, environ=settings, deadline_s=60)
    assert "Traceback" not in finished.err or page == "logs.md"
    check(sink, finished.out)
