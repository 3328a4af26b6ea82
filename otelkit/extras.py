"""What receives records beside the OTLP pipeline: the console tree and the pull endpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from otelkit.config.settings import SIGNALS, Settings
from otelkit.engine.opening import Extras as Receivers


@dataclass(frozen=True, slots=True)
class Extras:
    """The receivers of one opening; `by_default`: nobody named an exporter, a developer looks at a terminal."""

    receivers: Receivers = field(default_factory=Receivers)
    by_default: bool = False
    closers: tuple[Callable[[], None], ...] = ()

    def close(self) -> None:
        """Ends them."""
        for close in self.closers:
            close()

    def in_child(self) -> Extras:
        """What a forked child keeps: the tree, not the parent's listening socket."""
        return Extras(Receivers(self.receivers.span_processors, self.receivers.log_processors), self.by_default)


def build(settings: Settings) -> Extras:
    """The receivers that the settings ask for, or that a terminal with no setting at all suggests."""
    return Extras(by_default=_nothing_is_named(settings) and sys.stderr.isatty())


def _nothing_is_named(settings: Settings) -> bool:
    names = [f"OTEL_{signal.upper()}_EXPORTER" for signal in SIGNALS]
    names += [f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS]
    return not any(settings.is_set(name) for name in (*names, "OTEL_EXPORTER_OTLP_ENDPOINT"))
