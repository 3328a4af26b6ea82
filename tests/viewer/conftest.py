"""A running `otelkit ui` for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.viewer.backend import Backend, running_backend


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """`otelkit ui` in memory, on a free port."""
    with running_backend(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One for the tests of a module that do not mind what the others have sent."""
    with running_backend(tmp_path_factory.mktemp("shared")) as started:
        yield started
