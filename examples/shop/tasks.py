"""The background work, without a call that starts telemetry: `otelkit run celery -A examples.shop.tasks worker`.

examples/shop/worker.py is the same with that call.
"""

from __future__ import annotations

import logging

from celery import Celery
from sqlalchemy import update

import otelkit
from examples.shop import settings
from examples.shop.models import Order, Session

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
