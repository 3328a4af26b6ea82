"""otelkit when one trace in a hundred is recorded: metrics and log lines of all requests, few spans."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import otelkit, otlp

RATIO = 0.01


def _environ(sink_url: str) -> dict[str, str]:
    return {**otlp(sink_url), "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": str(RATIO)}


PEER = replace(otelkit.PEER, title="otelkit, 1 % of traces", environment="otelkit", environ=_environ, traced=RATIO)
