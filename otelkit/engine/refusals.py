"""Says which measurements were not taken, and why: at most once a minute each."""

from __future__ import annotations

import logging

from otelkit.runtime.selflog import Throttle

logger = logging.getLogger("otelkit.engine")
throttle = Throttle()


def refuse(what: str, amount: object, why: str) -> None:
    """A measurement that does nothing."""
    if throttle.admit(f"{what} {why}") is not None:
        logger.warning("%s(%r) does nothing: %s", what, amount, why)
