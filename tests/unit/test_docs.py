"""The reference says what the code says."""

from __future__ import annotations

from tools.generate_docs import stale


def test_the_reference_is_that_of_the_code() -> None:
    """Settings, metrics, drop reasons and the API are generated: run `make docs` after a change."""
    assert stale() == []
