"""The adapters where OpenTelemetry's SDK leaves no public seam; tests run them against the lowest and the highest SDK
supported.

Every SDK provider registers a fork hook that runs resource detectors in a thread pool inside the child
and overwrites an explicit `service.instance.id`. The hook calls the method `_handle_fork` of a living provider, so
overriding it switches it off; otelkit's own hook (runtime/fork.py) opens new providers in the child instead.

`opentelemetry.propagate` reads OTEL_PROPAGATORS when it is imported, and raises for a name that is not installed: a
wrong setting would keep the application from starting. Whoever needs it here takes it from this module.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from opentelemetry.sdk import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader
from opentelemetry.sdk.metrics.view import DefaultAggregation, View


class ForklessTracerProvider(trace.TracerProvider):
    """The SDK's provider without its fork hook."""

    def _handle_fork(self) -> None:
        """otelkit's own hook does it."""


class ForklessMeterProvider(MeterProvider):
    """The SDK's provider without its fork hook."""

    def _handle_fork(self) -> None:
        """otelkit's own hook does it."""


class ForklessLoggerProvider(LoggerProvider):
    """The SDK's provider without its fork hook."""

    def _handle_fork(self) -> None:
        """otelkit's own hook does it."""


@contextmanager
def enabled_sdk() -> Iterator[None]:
    """The SDK's providers read OTEL_SDK_DISABLED when they are made; whether they are, the settings have decided."""
    disabled = os.environ.pop("OTEL_SDK_DISABLED", None)
    try:
        yield
    finally:
        if disabled is not None:
            os.environ["OTEL_SDK_DISABLED"] = disabled


def on_ending(processor: trace.SpanProcessor, span: Any) -> None:
    """Calls a processor's hook before the end of a span, which the specification has and the SDK hides."""
    processor._on_ending(span)


def on_collect(reader: MetricReader, collect: Callable[..., Any] | None) -> None:
    """Sets what a reader collects from, as the SDK's provider does; None for nothing."""
    reader._set_collect_callback(collect)


def is_default_reader(reader: MetricReader) -> bool:
    """Whether a reader wants cumulative temporality and the default aggregation of every instrument."""
    try:
        temporalities = set(reader._instrument_class_temporality.values())
        aggregations = {type(found) for found in reader._instrument_class_aggregation.values()}
    except (AttributeError, TypeError):  # a stand-in for a reader, as tests have them: the SDK's to take or to refuse
        return False
    return temporalities == {AggregationTemporality.CUMULATIVE} and aggregations == {DefaultAggregation}


def wish_as(reader: MetricReader, other: MetricReader) -> None:
    """Gives a reader the temporality and the aggregation that another one wants of each instrument."""
    reader._instrument_class_temporality = other._instrument_class_temporality
    reader._instrument_class_aggregation = other._instrument_class_aggregation


def collects_from(reader: MetricReader) -> object | None:
    """What a reader collects from: a provider of otelkit's, something of an SDK provider's, None for nothing yet."""
    collect = reader._collect
    return getattr(collect, "__self__", collect)


def provider_of(handler: logging.Handler) -> object | None:
    """The provider that a logging handler of the SDK's, or of contrib's, emits to."""
    found: object | None = getattr(handler, "_logger_provider", None)
    return found


def view_matches(view: View, instrument: Any) -> bool:
    """Whether a view is for an instrument of the SDK's."""
    return view._match(instrument)


def _import_propagate() -> ModuleType:
    try:
        return importlib.import_module("opentelemetry.propagate")
    except ValueError:
        # What is wrong with the setting is told at bootstrap, which sets the propagators anew.
        wrong = os.environ.pop("OTEL_PROPAGATORS")
        try:
            return importlib.import_module("opentelemetry.propagate")
        finally:
            os.environ["OTEL_PROPAGATORS"] = wrong


propagate = _import_propagate()
"""The module `opentelemetry.propagate`."""
