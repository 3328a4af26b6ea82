"""The versions of what is installed."""

from __future__ import annotations

import resource
from importlib.metadata import version

import otelkit
from otelkit.versions import installed_version


def test_it_is_what_the_library_says() -> None:
    """importlib.metadata finds the same; what is not there has none."""
    for name in ("otelkit", "opentelemetry-api", "pytest"):
        assert installed_version(name) == version(name)
    assert installed_version("no-such-distribution") is None


def test_when_no_file_can_be_opened() -> None:
    """The status is there all the same, with what it cannot read left open."""
    earlier = resource.getrlimit(resource.RLIMIT_NOFILE)
    otelkit.status()  # imports what it needs
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, earlier[1]))
    try:
        found = otelkit.status()
        told = installed_version("pytest")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, earlier)
    assert told in ("unknown", None)
    assert found is not None
