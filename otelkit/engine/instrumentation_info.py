"""What the SDK said of a tracer before it had instrumentation scopes: deprecated, and still public."""

from __future__ import annotations

import warnings

from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from typing_extensions import deprecated


def info(scope: InstrumentationScope) -> InstrumentationInfo:
    """A scope in the old shape, without another warning than its user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return InstrumentationInfo(scope.name, scope.version, scope.schema_url)


class Informed:
    """A span with the old property."""

    instrumentation_scope: InstrumentationScope | None

    @property
    @deprecated("You should use instrumentation_scope. Deprecated since version 1.11.1.")
    def instrumentation_info(self) -> InstrumentationInfo | None:
        scope = self.instrumentation_scope
        return info(scope) if scope is not None else None
