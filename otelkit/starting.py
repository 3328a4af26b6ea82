"""The application's first record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import _logs


def application_starting(attributes: Mapping[str, Any]) -> None:
    """The application's first record: it only queues."""
    _logs.get_logger("otelkit").emit(
        severity_number=_logs.SeverityNumber.INFO,
        severity_text="INFO",
        body="application starting",
        event_name="otelkit.application.starting",
        attributes={
            key: attributes[key]
            for key in (
                "service.name",
                "service.version",
                "deployment.environment.name",
                "process.runtime.version",
            )
            if key in attributes
        },
    )
