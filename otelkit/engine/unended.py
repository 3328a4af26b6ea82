"""The spans that are open when the process ends: in a generator that nobody went on with, in work that a signal broke
off. Whoever would end them does so after the export has closed, or never.
"""

from __future__ import annotations

import gc

from opentelemetry.sdk import trace as sdk

from otelkit.engine import layers
from otelkit.engine.span import Span
from otelkit.engine.tracing import TracerProvider
from otelkit.runtime import guard


def end_all(provider: TracerProvider) -> None:
    """Ends every open span of the provider's present opening, the newest first; their own end says nothing then.

    The garbage collector knows them: a list of them would cost every span, and this costs one process's end.
    """
    tracing = provider.tracing
    if tracing is None:
        return
    layers.lateness_is_told = False
    # By type, and not by isinstance, which asks a proxy for the class of what it stands for.
    found: list[sdk.Span]
    if tracing.sdk is None:
        found = [each for each in gc.get_objects() if type(each) is Span and each.open_in(tracing)]
    else:
        found = [each for each in gc.get_objects() if issubclass(type(each), sdk.Span)]
        found = [each for each in found if each.resource is tracing.resource]
    for span in sorted(found, key=lambda span: span.start_time or 0, reverse=True):
        if span.is_recording():
            with guard.guarded("the end of an open span"):
                span.end()
