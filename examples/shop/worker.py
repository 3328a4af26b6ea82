"""The shop's worker with telemetry: `celery -A examples.shop.worker worker`."""

from __future__ import annotations

import otelkit
from examples.shop.tasks import app

otelkit.bootstrap("shop-worker")

__all__ = ["app"]
