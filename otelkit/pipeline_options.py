"""What a process's pipeline is made of, under its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from otelkit.config.settings import SIGNALS, Settings
from otelkit.delivery.caps import Caps
from otelkit.delivery.destination import destination
from otelkit.delivery.options import PipelineOptions, RecorderOptions
from otelkit.delivery.places import folder_name
from otelkit.delivery.queue import QueueLimits
from otelkit.delivery.spool import SpoolOptions
from otelkit.runtime.state import state_directory
from otelkit.signals.redaction import Redaction

_ONE_SERVICE = ("service.name", "service.namespace", "deployment.environment.name")
"""The resource attributes in which processes are alike that may take over what one of them has left."""
_WRITTEN_S = 0.2  # how soon a record is on disk where everything is written ahead


def pipeline_options(
    settings: Settings, resource: Mapping[str, object], *, captured: bool, quiet: bool
) -> PipelineOptions:
    """The options for a process with this resource; `captured`: in a test, which leaves nothing on disk."""
    identity = tuple(str(resource.get(name, "")) for name in _ONE_SERVICE)
    state = state_directory(settings.state_dir)
    longest_s = _WRITTEN_S if _writes_ahead(settings) else math.inf
    return PipelineOptions(
        service=identity[0],
        destinations={
            signal: destination(settings, signal) for signal in SIGNALS if "otlp" in settings.exporters(signal)
        },
        resource=resource,
        spans=QueueLimits(
            settings.bsp_max_queue_size,
            settings.bsp_max_export_batch_size,
            min(settings.bsp_schedule_delay_s, longest_s),
            settings.max_queue_bytes,
            _caps(settings, settings.span_attribute_value_length_limit),
        ),
        logs=QueueLimits(
            settings.blrp_max_queue_size,
            settings.blrp_max_export_batch_size,
            min(settings.blrp_schedule_delay_s, longest_s),
            settings.max_queue_bytes,
            _caps(settings, settings.logrecord_attribute_value_length_limit),
        ),
        max_pending_bytes=settings.max_pending_bytes,
        state_dir=state,
        quiet=quiet,
        redaction=Redaction(),
        spool=None if captured else _spool(settings, state),
        recorder=None if captured else _recorder(settings, state, identity, resource),
        identity=identity,
    )


def _writes_ahead(settings: Settings) -> bool:
    """The recorder notes what has not reached the spool: it is for the last moments, not for a whole batch's time."""
    return settings.spool == "always" or (settings.recorder == "on" and settings.spool != "off")


def _caps(settings: Settings, limit: int | None) -> Caps:
    """What one record may weigh; where OpenTelemetry's own limit of a value's length is set, that one holds."""
    limited = limit is not None or settings.attribute_value_length_limit is not None
    most = settings.max_record_bytes
    return Caps(most if limited else min(settings.max_value_bytes, most), most)


def _spool(settings: Settings, state: Path) -> SpoolOptions | None:
    if settings.spool == "off":
        return None
    return SpoolOptions(
        folder=Path(settings.spool_dir).expanduser() if settings.spool_dir else state / "spool",
        always=_writes_ahead(settings),
        max_bytes=settings.spool_max_bytes,
        max_age_s=settings.spool_max_age_s,
        max_metric_age_s=settings.spool_max_metric_age_s,
    )


def _recorder(
    settings: Settings, state: Path, identity: tuple[str, ...], resource: Mapping[str, object]
) -> RecorderOptions | None:
    if settings.recorder == "off":
        return None
    return RecorderOptions(state / "recorder" / folder_name(identity[0], identity), identity[0], resource, Redaction())
