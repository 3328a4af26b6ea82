"""otelkit with the flight recorder, and so with every batch written ahead."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import otelkit, otlp


def _environ(sink_url: str) -> dict[str, str]:
    return {**otlp(sink_url), "OTELKIT_RECORDER": "on"}


PEER = replace(otelkit.PEER, title="otelkit, flight recorder", environment="otelkit", environ=_environ)
