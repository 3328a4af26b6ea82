"""The real stack for the tests of this folder, started once a worker.

A stack takes about 450 MB: run with `--dist loadgroup`, which gives all tests marked `xdist_group("stack")` to one
worker.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelkit.stack.native import NativeStack, find_binaries, missing_binaries


def _absent(names: list[str]) -> None:
    """Skip, or fail where the binaries were promised: in CI with `OTELKIT_STACK_BIN` set."""
    where = os.environ.get("OTELKIT_STACK_BIN")
    message = f"not found {f'in OTELKIT_STACK_BIN={where}' if where else 'on PATH'}: {', '.join(names)}"
    if where and os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def stack_binaries() -> dict[str, Path]:
    """The stack's programs by server name; skips the test if one is missing."""
    missing = missing_binaries()
    if missing:
        _absent(missing)
    return find_binaries()


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own checker; skips the test if it is missing."""
    path = os.environ.get("OTELKIT_STACK_BIN") or os.environ.get("PATH", "")
    found = shutil.which("promtool", path=path)
    if found is None:
        _absent(["promtool"])
    return Path(str(found))


@pytest.fixture(scope="session")
def native_stack(stack_binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    """The running stack, shared by the tests of a worker: none stops, floods or reconfigures it."""
    with NativeStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def own_stack(stack_binaries: dict[str, Path], tmp_path: Path) -> Iterator[Callable[..., NativeStack]]:
    """Makes stacks that are not started yet, for tests that do harm to one; they end with the test."""
    made: list[NativeStack] = []

    def make(*, data_dir: Path = tmp_path, environ: dict[str, str] | None = None) -> NativeStack:
        made.append(NativeStack(data_dir, environ={**os.environ, **(environ or {})}))
        return made[-1]

    yield make
    for stack in made:
        stack.stop()
