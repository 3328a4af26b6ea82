"""Where the shop finds Redis, its database and the viewer: from the environment."""

from __future__ import annotations

import os

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
"""The price cache, and the broker between the web process and the worker."""

DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite")
"""The SQLite file that the web process and the worker share."""

VIEWER_URL = os.environ.get("SHOP_VIEWER_URL", "").rstrip("/")
"""Where `otelkit ui` shows the shop's traces, for the links of the shop's page; empty for none."""
