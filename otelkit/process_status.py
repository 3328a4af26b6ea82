"""The event `otelkit.status`: how the telemetry of one process is, for the viewer and whoever else looks.

A DEBUG record, straight into the OTLP pipeline: no processor, no other exporter and no flush of the application's sees
it. Its body is a mapping (docs/delivery.md lists the keys); there are no settings in it and no texts of the
application's.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelkit.config.settings import Signal
from otelkit.delivery.ledger import Account
from otelkit.delivery.plain import PlainLog
from otelkit.delivery.telling import STATUS_EVENT
from otelkit.instrumentation.registry import Decision
from otelkit.runtime import guard
from otelkit.versions import installed_version

_SCOPE = InstrumentationScope("otelkit")


def accounts_data(accounts: Mapping[Signal, Account]) -> dict[str, dict[str, Any]]:
    """The ledger as plain data."""
    return {
        signal: {
            "accepted": account.accepted,
            "delivered": account.delivered,
            "spooled": account.spooled,
            "adopted": account.adopted,
            "truncated": account.truncated,
            "dropped": {reason.value: count for reason, count in account.dropped.items()},
        }
        for signal, account in accounts.items()
    }


@functools.cache
def versions() -> Mapping[str, str | None]:
    """The versions of what makes the telemetry."""
    return {name: installed_version(name) for name in ("otelkit", "opentelemetry-sdk", "opentelemetry-api")}


def status_record(
    accounts: Mapping[Signal, Account],
    decisions: Iterable[Decision],
    *,
    metrics_instance: str | None,
    spool: str | None,
    ends: bool,
) -> PlainLog:
    """The record.

    `metrics_instance` is the `service.instance.id` that the process's metrics carry, `spool` what keeps the spool from
    being written (empty: nothing does, None: it is off), `ends` that no other follows.
    """
    ledger = accounts_data(accounts)
    for signal, account in accounts.items():
        ledger[signal]["in_memory"] = account.outstanding
    libraries = {
        each.library: {
            "choice": each.choice,
            "reason": each.reason,
            "version": each.version,
            "active": each.active,
        }
        for each in decisions
    }
    now_ns = time.time_ns()
    return PlainLog(
        timestamp=now_ns,
        observed_timestamp=now_ns,
        severity_number=SeverityNumber.DEBUG.value,
        severity_text="DEBUG",
        trace_id=0,
        span_id=0,
        flags=0,
        event_name=STATUS_EVENT,
        instrumentation_scope=_SCOPE,
        body={
            "ends": ends,
            "ledger": ledger,
            "libraries": libraries,
            "metrics_instance": metrics_instance,
            "spool": spool,
            "failures": dict(guard.failures),
            "versions": dict(versions()),
        },
    )
