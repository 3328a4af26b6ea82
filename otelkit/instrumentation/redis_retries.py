"""Retries of Redis commands: redis-py's own, counted and told on the command's span.

The classes of `redis.backoff` are asked how long to wait once before each retry and never otherwise: their `compute` is
where a retry is seen that costs a command without one nothing. Which command it is, the stack says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from opentelemetry.metrics import get_meter

from otelkit import semconv
from otelkit.instrumentation import instruments
from otelkit.instrumentation.redis_commands import Call
from otelkit.runtime import guard
from otelkit.signals.exceptions import type_name

_DEEPEST = 40  # frames between a command's wrapper and its retry


class Retries:
    """The wrappers around the back-offs' methods; `wrappers` are the codes of the commands' own."""

    def __init__(self, wrappers: frozenset[CodeType]) -> None:
        self._wrappers = wrappers
        self._count = instruments.counter(get_meter("otelkit.redis"), semconv.REDIS_RETRIES)

    def wrap(self, original: Callable[..., float]) -> Callable[..., float]:
        """Wraps a back-off's `compute`."""

        def compute(backoff: Any, failures: int) -> float:
            self._retried(failures, sys.exc_info()[1])
            return original(backoff, failures)

        return compute

    @guard.guard("the count of a retry")
    def _retried(self, failures: int, error: BaseException | None) -> None:
        call = self._under_way()
        if call is None:
            return
        if call.span is not None:
            call.span.set_attribute("redis.client.operation.retry_attempts", failures)
        labels = {**call.kind.labels, "error.type": type_name(error)} if error is not None else call.kind.labels
        self._count.add(1, labels)

    def _under_way(self) -> Call | None:
        """The command that is being retried; None where it is none that is recorded (a broker's, a subscription's)."""
        frame = sys._getframe(1)
        for _ in range(_DEEPEST):
            if frame.f_code in self._wrappers:
                call = frame.f_locals.get("call")
                return call if isinstance(call, Call) else None
            if frame.f_back is None:
                return None
            frame = frame.f_back
        return None
