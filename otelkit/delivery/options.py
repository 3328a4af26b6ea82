"""What a pipeline (pipeline.py) is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from otelkit.config.settings import Signal
from otelkit.delivery.attributes import Redaction
from otelkit.delivery.destination import Destination
from otelkit.delivery.queue import QueueLimits
from otelkit.delivery.records import Attributes
from otelkit.delivery.spool import SpoolOptions


class RecorderOptions(NamedTuple):
    """Where the rings of a service's processes lie, and what is said of this one."""

    folder: Path
    service: str
    resource: Attributes
    redaction: Redaction


class PipelineOptions(NamedTuple):
    """What a pipeline is made of; `destinations` holds the signals that are exported by OTLP.

    `identity` is what makes another process one of the same service, whose spool may be taken over when it has died;
    by default the service's name.
    """

    service: str
    destinations: Mapping[Signal, Destination]
    resource: Attributes
    spans: QueueLimits
    logs: QueueLimits
    max_pending_bytes: int
    state_dir: Path
    spool: SpoolOptions | None = None
    recorder: RecorderOptions | None = None
    identity: tuple[str, ...] = ()
    quiet: bool = False
    redaction: Redaction | None = None
