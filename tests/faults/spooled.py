"""What the tests of the spool share: an address where nobody listens yet, and services that run against it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.process import Finished, run_python
from tests.support.sink import Sink


@contextmanager
def nobody() -> Iterator[int]:
    """A port of loopback that refuses, and that stays ours until a Sink listens there."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def run_service(
    source: str,
    port: int,
    place: Path,
    *,
    service: str = "shop",
    patience_s: float = 25.0,
    environ: Mapping[str, str] | None = None,
    **more: Any,
) -> Finished:
    """Runs a snippet with telemetry on, as a service, to a port; its state goes under `place`."""
    beginning = (
        f"import json, os, signal, sys, time, otelkit\notelkit.bootstrap({service!r})\nPATIENCE_S = {patience_s}\n"
    )
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **(environ or {})}
    return run_python(beginning + source, cwd=place, environ=settings, **more)


NEXT_START = """
with otelkit.span("next"): pass
deadline = time.monotonic() + PATIENCE_S
while time.monotonic() < deadline:
    report = otelkit.flush(5)
    if report.ok and not report.spooled:
        break
print(json.dumps(otelkit.status()["ledger"]))
"""


def next_start(
    sink: Sink, place: Path, *, environ: Mapping[str, str] | None = None, patience_s: float = 60.0
) -> tuple[dict[str, Any], str]:
    """Starts the service again, until it has sent what was left: its ledger, and what it said."""
    finished = run_service(
        NEXT_START, sink.port, place, environ=environ, patience_s=patience_s, deadline_s=patience_s + 20
    )
    return json.loads(finished.out.splitlines()[-1]), finished.err


def segments(place: Path) -> list[Path]:
    """The segment files of the spool, oldest first by name."""
    return sorted(place.glob("state/spool/*/*/*.segment"))


def balanced(account: Mapping[str, Any], in_memory: int = 0) -> bool:
    """Whether a signal's account adds up."""
    outcomes = account["delivered"] + account["spooled"] + in_memory + sum(account["dropped"].values())
    return bool(account["accepted"] == outcomes)
