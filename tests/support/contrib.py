"""What is installed, and what pretends to be.

Contrib's packages pin one release of OpenTelemetry each, and some lag behind the newest: hence a mark for their tests.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def pretend(folder: Path, name: str, version: str) -> None:
    """Makes the metadata of a distribution that says to be installed in some version, for a sys.path with `folder`."""
    distribution = folder / f"{name}-{version}.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
