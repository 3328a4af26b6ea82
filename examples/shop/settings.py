"""Where the shop finds Redis and its database: from the environment."""

from __future__ import annotations

import os

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
"""The price cache, and the broker between the web process and the worker."""

DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite")
"""The SQLite file that the web process and the worker share."""
