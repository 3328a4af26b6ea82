"""The attributes of the OpenTelemetry Resource: which service, process and host the telemetry comes from."""

from __future__ import annotations

from otelkit.resource.assemble import detect, new_instance_id
from otelkit.resource.files import Sources

__all__ = ["Sources", "detect", "new_instance_id"]
