"""The exceptions that otelkit raises into an application, all of them at start-up or in tests.

OtelkitError ├── ConfigurationError      a setting that cannot be what it is        (bootstrap, OTELKIT_STRICT=1; bad
keyword arguments always) ├── AlreadyConfigured       a second explicit bootstrap with other settings └──
UnsupportedLibrary      an installed library that no instrumentation fits   (bootstrap, OTELKIT_STRICT=1)
"""

from __future__ import annotations


class OtelkitError(Exception):
    """Root of otelkit's exceptions; catch it around `otelkit.bootstrap` to start without telemetry."""


class ConfigurationError(OtelkitError, ValueError):
    """A setting has a value that is not allowed; the message names the setting, the value and the remedy."""


class AlreadyConfigured(OtelkitError, RuntimeError):
    """`bootstrap` was called a second time with different settings; call `otelkit.shutdown()` in between. Under
    `OTELKIT_STRICT=1` also: someone else's OpenTelemetry provider was set before.
    """


class UnsupportedLibrary(OtelkitError, RuntimeError):
    """A library is installed in a version that was never tested; raised only under `OTELKIT_STRICT=1`."""
