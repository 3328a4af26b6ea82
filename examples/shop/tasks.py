"""The background work, without a call that starts telemetry: `otelkit run celery -A examples.shop.tasks worker`.

examples/shop/worker.py is the same with that call.
"""

from __future__ import annotations

import logging
import time

from celery import Celery, Task
from sqlalchemy import update

import otelkit
from examples.shop import settings
from examples.shop.models import Order, Session

BUSY_ATTEMPTS = 2
"""So many times the courier is busy before it takes a parcel."""
RETRY_AFTER_S = 0.3

logger = logging.getLogger("shop.tasks")

app = Celery("shop", broker=settings.REDIS_URL)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="shop.fulfil_order")
def fulfil_order(order_id: int) -> None:
    """Packs the order's parcel and marks the order as fulfilled."""
    with otelkit.span("parcel.pack", {"order.id": order_id}), Session.begin() as session:
        session.execute(update(Order).where(Order.id == order_id).values(status="fulfilled"))
    otelkit.count("orders.fulfilled", _unit="{order}")
    logger.info("order %s is fulfilled", order_id)


class CourierBusy(RuntimeError):
    """The courier takes no parcel right now."""


@app.task(name="shop.pack_parcel")
def pack_parcel(parcel: str) -> None:
    """The first of three: the parcel is packed."""
    with otelkit.span("parcel.pack", {"parcel.id": parcel}):
        time.sleep(0.05)


@app.task(name="shop.book_courier", bind=True, max_retries=BUSY_ATTEMPTS)
def book_courier(self: Task, parcel: str) -> None:
    """The second: the courier is asked again until it takes the parcel."""
    with otelkit.span("courier.ask", {"parcel.id": parcel}):
        time.sleep(0.05)
    if self.request.retries < BUSY_ATTEMPTS:
        logger.warning("the courier is busy, parcel %s waits", parcel)
        raise self.retry(exc=CourierBusy("try again"), countdown=RETRY_AFTER_S)


@app.task(name="shop.announce_parcel")
def announce_parcel(parcel: str) -> None:
    """The last: the customer is told."""
    logger.info("parcel %s is on its way", parcel)
