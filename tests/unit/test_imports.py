"""Post-import hooks: run when the application imports a module, and never before."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from otelkit.instrumentation import imports
from otelkit.runtime import guard

NAMES = (
    "hooked_plain",
    "hooked_package",
    "hooked_package.inner",
    "hooked_space",
    "hooked_space.inner",
    "hooked_broken",
)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A few modules to import, of all kinds."""
    (tmp_path / "hooked_plain.py").write_text("import threading, time\nvalue = 1\n")
    (tmp_path / "hooked_package").mkdir()
    (tmp_path / "hooked_package" / "__init__.py").write_text("value = 2\n")
    (tmp_path / "hooked_package" / "inner.py").write_text("value = 3\n")
    (tmp_path / "hooked_package" / "data.txt").write_text("data")
    (tmp_path / "hooked_space").mkdir()
    (tmp_path / "hooked_space" / "inner.py").write_text("value = 4\n")
    (tmp_path / "hooked_broken.py").write_text("raise LookupError('broken on purpose')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    imports.forget_all()
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["hooked_plain", "hooked_package", "hooked_package.inner", "hooked_space.inner"])
def test_a_hook_runs_once_when_its_module_has_been_imported(name: str) -> None:
    """After its code ran, with the module whole; not at registration."""
    seen: list[int] = []
    imports.when_imported(name, lambda: seen.append(sys.modules[name].value))
    assert seen == []
    module = importlib.import_module(name)
    importlib.import_module(name)
    assert seen == [module.value]


def test_what_a_hook_imports_is_hooked_after_it() -> None:
    """Contrib has one module for httpx and httpx2, which imports both: it is not whole before the hook has ended."""
    seen: list[str] = []

    def outer() -> None:
        importlib.import_module("hooked_package.inner")
        seen.append("outer")

    imports.when_imported("hooked_package.inner", lambda: seen.append("inner"))
    imports.when_imported("hooked_plain", outer)
    imports.when_imported("hooked_plain", lambda: seen.append("outer again"))
    importlib.import_module("hooked_plain")
    assert seen == ["outer", "outer again", "inner"]


def test_a_package_without_an_init_is_imported_as_ever() -> None:
    """A namespace package has no code that could be over: its hook never runs, those of its modules do."""
    seen: list[str] = []
    imports.when_imported("hooked_space", lambda: seen.append("space"))
    imports.when_imported("hooked_space.inner", lambda: seen.append("inner"))
    importlib.import_module("hooked_space.inner")
    assert seen == ["inner"]
    assert sys.modules["hooked_space"].__path__


def test_a_hook_for_a_module_that_is_there_runs_at_once() -> None:
    """The application may have imported it before bootstrap."""
    importlib.import_module("hooked_plain")
    seen: list[int] = []
    imports.when_imported("hooked_plain", lambda: seen.append(1))
    assert seen == [1]


def test_several_hooks_run_in_order() -> None:
    """All of them, whoever registered them."""
    seen: list[int] = []
    for number in range(3):
        imports.when_imported("hooked_plain", lambda number=number: seen.append(number))  # type: ignore[misc]
    importlib.import_module("hooked_plain")
    assert seen == [0, 1, 2]


def test_registering_imports_nothing() -> None:
    """Nor does it look for the module on disk."""
    imports.when_imported("hooked_plain", lambda: None)
    imports.when_imported("there.is.no.such.module", lambda: None)
    assert "hooked_plain" not in sys.modules


def test_a_module_that_is_not_there_is_still_not_there() -> None:
    """With the interpreter's own error."""
    imports.when_imported("hooked_missing", lambda: None)
    with pytest.raises(ModuleNotFoundError, match="No module named 'hooked_missing'"):
        importlib.import_module("hooked_missing")
    assert importlib.util.find_spec("hooked_missing") is None


def test_a_failing_hook_is_not_the_imports_failure(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and logged, the module is there, later hooks run."""
    guard.throttle.reset_after_fork()
    before = guard.failures["the instrumentation of hooked_plain"]
    seen: list[int] = []

    def broken() -> None:
        raise RuntimeError("a fault of ours")

    imports.when_imported("hooked_plain", broken)
    imports.when_imported("hooked_plain", lambda: seen.append(1))
    assert importlib.import_module("hooked_plain").value == 1
    assert guard.failures["the instrumentation of hooked_plain"] == before + 1
    assert seen == [1]


def test_a_module_that_fails_to_import_fails_as_without_us() -> None:
    """The hook does not run then; it runs when a later import succeeds."""
    seen: list[int] = []
    imports.when_imported("hooked_broken", lambda: seen.append(1))
    with pytest.raises(LookupError, match="broken on purpose"):
        importlib.import_module("hooked_broken")
    assert seen == []
    assert "hooked_broken" not in sys.modules


def test_a_module_repaired_after_a_failed_import_runs_its_hook(modules: Path) -> None:
    """An optional dependency that appears on the second try."""
    seen: list[int] = []
    imports.when_imported("hooked_broken", lambda: seen.append(1))
    with pytest.raises(LookupError):
        importlib.import_module("hooked_broken")
    (modules / "hooked_broken.py").write_text("value = 50000\n")
    importlib.invalidate_caches()
    importlib.import_module("hooked_broken")
    assert seen == [1]


def test_the_module_has_its_own_loader_afterwards() -> None:
    """Resources, source and reload work as ever, and nothing of ours is left on it."""
    imports.when_imported("hooked_package", lambda: None)
    module = importlib.import_module("hooked_package")
    assert module.__spec__ is not None
    assert type(module.__spec__.loader).__module__ == "_frozen_importlib_external"
    assert type(module.__loader__).__module__ == "_frozen_importlib_external"
    assert importlib.resources.files("hooked_package").joinpath("data.txt").read_text() == "data"
    assert inspect.getsource(module) == "value = 2\n"


def test_a_reload_runs_no_hook_again() -> None:
    """What is instrumented stays so; the module itself is new."""
    seen: list[int] = []
    imports.when_imported("hooked_plain", lambda: seen.append(1))
    module = importlib.import_module("hooked_plain")
    vars(module)["value"] = 7
    assert importlib.reload(module).value == 1
    assert seen == [1]


def test_resources_of_a_hooked_module_are_found_while_it_is_being_imported(modules: Path) -> None:
    """A package that reads its own data at import."""
    (modules / "hooked_package" / "__init__.py").write_text(
        "import importlib.resources\nvalue = importlib.resources.files(__name__).joinpath('data.txt').read_text()\n"
    )
    importlib.invalidate_caches()
    imports.when_imported("hooked_package", lambda: None)
    assert importlib.import_module("hooked_package").value == "data"


def test_a_hook_may_import_and_register_hooks() -> None:
    """An instrumentation imports the module's parts, and may wait for another module."""
    seen: list[str] = []

    def hook() -> None:
        importlib.import_module("hooked_plain")
        importlib.import_module("hooked_package.inner")
        imports.when_imported("hooked_space.inner", lambda: seen.append("second"))
        seen.append("first")

    imports.when_imported("hooked_plain", hook)
    importlib.import_module("hooked_plain")
    importlib.import_module("hooked_space.inner")
    assert seen == ["first", "second"]


def test_a_hook_registered_while_its_module_is_being_imported_runs_afterwards(modules: Path) -> None:
    """`import fastapi` calls bootstrap somewhere below: it is not whole yet, and the next import runs the hook."""
    seen: list[int] = []
    (modules / "hooked_plain.py").write_text(
        "from otelkit.instrumentation import imports\n"
        "import hooked_plain_seen\n"
        "imports.when_imported('hooked_plain', lambda: hooked_plain_seen.note())\n"
        "value = 1\n"
    )
    helper = ModuleType("hooked_plain_seen")
    helper.note = lambda: seen.append(sys.modules["hooked_plain"].value)  # type: ignore[attr-defined]
    sys.modules["hooked_plain_seen"] = helper
    importlib.invalidate_caches()
    try:
        imports.when_imported("hooked_package", lambda: None)
        importlib.import_module("hooked_plain")
        assert seen == []
        importlib.import_module("hooked_package.inner")
    finally:
        del sys.modules["hooked_plain_seen"]
    assert seen == [1]


def test_concurrent_imports_run_the_hook_once(modules: Path) -> None:
    """Eight threads import the same module at the same moment, and each finds it whole."""
    (modules / "hooked_plain.py").write_text("import time\ntime.sleep(0.05)\nvalue = 1\n")
    importlib.invalidate_caches()
    seen: list[int] = []
    values: list[int] = []
    imports.when_imported("hooked_plain", lambda: seen.append(1))
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        values.append(importlib.import_module("hooked_plain").value)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [1]
    assert values == [1] * 8


def test_different_modules_imported_at_once_do_not_disturb_each_other() -> None:
    """Each thread finds its own."""
    seen: list[str] = []
    names = ("hooked_plain", "hooked_package", "hooked_package.inner", "hooked_space.inner")
    for name in names:
        imports.when_imported(name, lambda name=name: seen.append(name))  # type: ignore[misc]
    threads = [threading.Thread(target=importlib.import_module, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(seen) == sorted(names)


def test_forgetting_drops_hooks_and_finder() -> None:
    """After shutdown an import costs what it did before."""
    seen: list[int] = []
    before = list(sys.meta_path)
    imports.forget_all()
    clean = list(sys.meta_path)
    imports.when_imported("hooked_plain", lambda: seen.append(1))
    assert len(sys.meta_path) == len(clean) + 1
    imports.forget_all()
    assert sys.meta_path == clean
    importlib.import_module("hooked_plain")
    assert seen == []
    assert len(before) >= len(clean)


def test_an_old_style_finder_on_the_path_is_passed_over() -> None:
    """Some tools still put finders without find_spec there."""

    class Old:
        """No find_spec."""

    old = Old()
    sys.meta_path.insert(0, old)  # type: ignore[arg-type]
    try:
        seen: list[int] = []
        imports.when_imported("hooked_plain", lambda: seen.append(1))
        importlib.import_module("hooked_plain")
        assert seen == [1]
    finally:
        sys.meta_path.remove(old)  # type: ignore[arg-type]
