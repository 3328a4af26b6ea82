"""The ids of spans and traces: random ones, or a user's generator's."""

from __future__ import annotations

from collections.abc import Callable
from random import getrandbits

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from otelkit.runtime import guard

Make = Callable[[], int]


def makers(ids: IdGenerator) -> tuple[Make, Make]:
    """What makes the id of a span, and that of a trace. A generator that fails must not fail the application."""
    if type(ids) is RandomIdGenerator:
        return _span_id, _trace_id
    return _or_random(ids.generate_span_id, _span_id), _or_random(ids.generate_trace_id, _trace_id)


def _or_random(make: Make, instead: Make) -> Make:
    def made() -> int:
        try:
            return make()
        except Exception:  # noqa: BLE001 - as said
            guard.report("the id generator")
            return instead()

    return made


def _span_id() -> int:
    while not (found := getrandbits(64)):
        pass
    return found


def _trace_id() -> int:
    while not (found := getrandbits(128)):
        pass
    return found
