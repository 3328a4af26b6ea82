"""otelkit with the SDK's own spans, metrics and log records."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import otelkit, otlp


def _environ(sink_url: str) -> dict[str, str]:
    return {**otlp(sink_url), "OTELKIT_ENGINE": "sdk"}


PEER = replace(otelkit.PEER, title="otelkit, SDK's engine", environment="otelkit", environ=_environ)
