"""Records as the providers hand them to the pipeline, and pipelines that need no provider."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from otelkit.config.settings import SIGNALS, Signal
from otelkit.delivery.destination import Destination
from otelkit.delivery.pipeline import Pipeline, PipelineOptions
from otelkit.delivery.queue import QueueLimits
from otelkit.delivery.records import Attributes, Shared
from otelkit.engine.sdk_records import SdkSpan

_RESOURCE = Resource.get_empty()
_SCOPE = InstrumentationScope("test")


@dataclass
class ALog:
    """The narrowest object that satisfies the encoder's LogRecord protocol."""

    body: object = None
    timestamp: int | None = None
    observed_timestamp: int | None = None
    severity_number: int = 0
    severity_text: str | None = None
    event_name: str | None = None
    trace_id: int = 0
    span_id: int = 0
    flags: int = 0
    shared: Shared | None = None
    bound: Shared | None = None
    own: Attributes | None = None
    instrumentation_scope: InstrumentationScope | None = None


def a_span(number: int, **attributes: Any) -> Any:
    """An ended span whose attribute `n` says which one it is."""
    return SdkSpan(
        ReadableSpan(
            "work",
            context=SpanContext(number + 1, number + 1, False, TraceFlags(1)),
            attributes={"n": number, **attributes},
            start_time=1,
            end_time=2,
            instrumentation_scope=_SCOPE,
            resource=_RESOURCE,
        )
    )


def a_destination(base: str, signal: Signal = "traces", **changes: Any) -> Destination:
    """A next hop over HTTP."""
    fields: dict[str, Any] = {
        "signal": signal,
        "protocol": "http/protobuf",
        "url": f"{base}/v1/{signal}",
        "headers": {},
        "compression": "none",
        "timeout_s": 5.0,
    }
    return Destination(**{**fields, **changes})


RESOURCE = {"service.name": "test", "service.instance.id": "i"}


def a_pipeline(url: str, state_dir: Path, **changes: Any) -> Pipeline:
    """An armed pipeline to a next hop for all signals; delays are so long that only full batches and flushes send."""
    hop = {name: changes.pop(name) for name in ("compression", "timeout_s", "headers") if name in changes}
    fields: dict[str, Any] = {
        "service": "test",
        "destinations": {signal: a_destination(url, signal, **hop) for signal in SIGNALS},
        "resource": RESOURCE,
        "spans": QueueLimits(2048, 512, 60.0),
        "logs": QueueLimits(2048, 512, 60.0),
        "max_pending_bytes": 64 * 1024 * 1024,
        "state_dir": state_dir,
    }
    pipeline = Pipeline(PipelineOptions(**{**fields, **changes}))
    pipeline.arm()
    return pipeline


def balance(pipeline: Pipeline) -> tuple[int, int]:
    """What was accepted, and the sum of all that became of it: equal at every quiescent point."""
    accounts = pipeline.ledger.read().accounts.values()
    outcomes = sum(account.delivered + account.spooled + sum(account.dropped.values()) for account in accounts)
    return sum(account.accepted for account in accounts), outcomes + pipeline.in_memory()
