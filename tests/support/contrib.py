"""A mark for tests of contrib packages: each pins one release of OpenTelemetry, and some lag behind the newest."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest


def needs_contrib(*names: str) -> pytest.MarkDecorator:
    """Skips a test, naming what is missing, where one of these `opentelemetry-instrumentation-*` is not installed."""
    missing = [package for name in names if not _installed(package := f"opentelemetry-instrumentation-{name}")]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
