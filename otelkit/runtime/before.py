"""Calls before `bootstrap`: they go nowhere, are counted, and are told once."""

from __future__ import annotations

import logging

logger = logging.getLogger("otelkit")

live = False
"""Whether telemetry was ever started in this process; the API's functions read it first."""
calls = 0
"""How many calls came before; `otelkit.status()` shows it as `before_bootstrap`."""


def note(what: str) -> None:
    """Counts a call that came before bootstrap; the first one is logged."""
    global calls
    calls += 1
    if calls == 1:
        logger.warning(
            "%s was called before otelkit.bootstrap(); such calls are counted and go nowhere. Call bootstrap first,"
            " or start with `otelkit run`",
            what,
        )
