"""Which cases of a test only `make test-slow` runs."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*cases: Any) -> list[Any]:
    """Cases that go nearly the way of another one of the same test: `make test` runs that one, CI runs all.

    A tuple is a case of several parameters.
    """
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]
