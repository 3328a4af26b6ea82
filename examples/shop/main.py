"""The shop's web process with telemetry: `uvicorn examples.shop.main:app`."""

from __future__ import annotations

import otelkit
from examples.shop.app import app

otelkit.bootstrap("shop")

__all__ = ["app"]
