"""The flight recorder's two ends (recorder.py, recovery.py), imported where it is on alone: every start would pay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otelkit.delivery.ledger import Ledger
from otelkit.delivery.options import RecorderOptions
from otelkit.delivery.outbox import Batch
from otelkit.delivery.packing import Packing

if TYPE_CHECKING:
    from otelkit.delivery.recorder import Recorder
    from otelkit.delivery.recovery import Recovery


def open_recorder(options: RecorderOptions | None, started_ns: int, start: Callable[[], object]) -> Recorder | None:
    """This process's ring; None where the recorder is off."""
    if options is None:
        return None
    from otelkit.delivery.recorder import Recorder

    return Recorder(options, started_ns, start)


def open_recovery(
    options: RecorderOptions | None, ledger: Ledger, packing: Packing, offer: Callable[[Batch], None]
) -> Recovery | None:
    """What sends the rings of dead processes; None where the recorder is off."""
    if options is None:
        return None
    from otelkit.delivery.recovery import Recovery

    return Recovery(options, ledger, packing, offer)
