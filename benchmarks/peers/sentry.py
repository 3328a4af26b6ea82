"""sentry-sdk with traces and logs on; the integrations are those that it switches on by itself."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Collection

from benchmarks.peers import Flush, Peer, Sends
from benchmarks.sinks.sentry import PROJECT


def start(libraries: Collection[str]) -> Flush:
    import sentry_sdk

    sentry_sdk.init(traces_sample_rate=1.0, enable_logs=True)
    return lambda: sentry_sdk.flush(30.0)


def _environ(sink_url: str) -> dict[str, str]:
    return {"SENTRY_DSN": sink_url.replace("://", "://key@") + f"/{PROJECT}"}


PEER = Peer(
    "sentry-sdk",
    start,
    # A task has a span within its transaction.
    sends={"ping": Sends(1, 0), "order": Sends(3, 1), "task": Sends(3, 1)},
    package="sentry-sdk",
    requirements=("sentry-sdk",),
    environ=_environ,
    lacks="metrics",
)
