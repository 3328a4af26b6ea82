"""The spans that are open when the process ends: in a generator that nobody went on with, in work that a signal broke
off. Whoever would end them does so after the export has closed, or never.
"""

from __future__ import annotations

import gc
from typing import TypeVar

from opentelemetry.sdk import trace as sdk

from otelkit.engine import layers
from otelkit.engine.span import Span
from otelkit.engine.tracing import TracerProvider
from otelkit.runtime import guard

T = TypeVar("T")


def end_all(provider: TracerProvider) -> None:
    """Ends every open span of the provider's present opening, the newest first; their own end says nothing then.

    The garbage collector knows them: a list of them would cost every span, and this costs one process's end.
    """
    tracing = provider.tracing
    if tracing is None:
        return
    layers.lateness_is_told = False
    found: list[sdk.Span]
    if tracing.sdk is None:
        # What another thread has not finished making has no start yet.
        found = [each for each in _instances(Span) if hasattr(each, "start_time") and each.open_in(tracing)]
    else:
        found = [each for each in _instances(sdk.Span) if each.resource is tracing.resource]
    for span in sorted(found, key=lambda span: span.start_time or 0, reverse=True):
        if span.is_recording():
            with guard.guarded("the end of an open span"):
                span.end()


def _instances(kind: type[T]) -> list[T]:
    """The objects of a class and of the classes that derive from it, which refer to their class.

    Not by gc.get_objects, which holds all that there is: also the tuples that other threads are making of an iterator,
    and CPython before 3.14 raises SystemError where somebody else holds one (its issue 127058).
    """
    found = [each for each in gc.get_referrers(kind) if type(each) is kind]
    for derived in kind.__subclasses__():
        found += _instances(derived)
    return found
