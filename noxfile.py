"""What CI runs after all tests of the checkout: the built wheel in clean environments, on every supported Python.

`nox -s wheel`: unit tests that are not slow and the shop with the real stack, on this Python. `nox -s pythons`: unit
and integration tests on the other Pythons that are installed: on 3.10 with the lowest version of every library that
pyproject.toml allows, on 3.12 with what pip would install and without the slow ones, on 3.13 with the highest
OpenTelemetry. What fails is tried once more (tools/second_try.py).
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
# What the tests read beside the installed package; its source stays behind, so that the wheel is what is tested.
NEEDED = (
    "tests",
    "examples",
    "benchmarks",
    "docs",
    "tools",
    "collector",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
)

WITH_LOWEST = "3.10"
# Beside the lowest of what pyproject.toml names: what that can be combined with.
BESIDE_LOWEST = (
    "psutil==5.9",  # needed elsewhere than on Linux, and tried here
    "kombu==5.3.4",  # Celery 5.4's lowest; a newer one wants a newer redis than 5
    "starlette==0.37.2",  # FastAPI 0.115's lowest
    "websockets==13.0",  # uvicorn 0.30 imports what later ones have deprecated
)
WITH_HIGHEST = "3.13"
HIGHEST = ("opentelemetry-sdk>=1.45.2",)
# They pin the semantic conventions of 1.45.1 and have no later release; the tests that need them are skipped with it.
BEHIND_HIGHEST = (
    "opentelemetry-instrumentation-aiohttp-client",
    "opentelemetry-instrumentation-jinja2",
    "opentelemetry-instrumentation-sqlite3",
    "opentelemetry-instrumentation-threading",
    "opentelemetry-instrumentation-urllib3",
)

# Tests that no version of a library or of Python decides: they try otelkit's own programs, and `make test-all` has had
# them. The others, slow ones too, run on both ends of the range.
OF_NO_VERSION = (
    "unit/test_second_try.py",  # CI's
    "integration/test_benchmarks.py",  # that each part of the comparison measures
    "integration/test_demo.py",  # how the demo ends, and with the stack
)
# Its many ways of a broker are slow; `make test-all` has had them with the newest Celery.
OF_CELERY = "integration/test_celery_nouns.py"

# What `wheel` runs on already, if not for its libraries.
COVERED = {THIS} - {WITH_LOWEST, WITH_HIGHEST}

# As in the Makefile; uv leaves packages uncompiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

nox.options.default_venv_backend = "uv"  # of the dev group: an environment in seconds
nox.options.sessions = ["wheel", "pythons"]
nox.options.error_on_missing_interpreters = False


def _installed_pythons() -> list[str]:
    def runs(version: str) -> bool:
        program = shutil.which(f"python{version}")
        return program is not None and subprocess.run([program, "--version"], capture_output=True).returncode == 0

    return [version for version in SUPPORTED if version not in COVERED and runs(version)]


def _lowest() -> list[str]:
    """The lowest versions that pyproject.toml allows, of what otelkit and its extras need."""
    project = _pyproject()["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    requirements = [Requirement(text) for text in (*project["dependencies"], *extras)]
    named = [requirement for requirement in requirements if requirement.name != project["name"]]
    for requirement in named:
        (version,) = (each.version for each in requirement.specifier if each.operator == ">=")
        requirement.specifier = SpecifierSet(f"=={version}")
    return [str(requirement) for requirement in named]


def _test(session: nox.Session, *runs: tuple[str, ...], pins: Iterable[str] = (), without: Iterable[str] = ()) -> None:
    """Installs the wheel with what the tests need, and runs pytest with the arguments of each run."""
    dev = nox.project.dependency_groups(_pyproject(), "dev")
    group = [text for text in dev if Requirement(text).name not in without]
    # Outside of the checkout (session.create_tmp is inside), where no parent folder has a .git or otelkit's source.
    with tempfile.TemporaryDirectory(prefix="otelkit-") as place:
        session.run("uv", "build", "--wheel", "--out-dir", f"{place}/dist", str(ROOT), silent=True)
        wheel = next(Path(place).glob("dist/otelkit-*.whl"))
        session.install("--compile-bytecode", f"{wheel}[all,demo]", *group, *pins)
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(place) / name, ignore=shutil.ignore_patterns("__pycache__", ".env-*"))
            elif source.exists():
                shutil.copy(source, place)
        session.chdir(place)
        session.run("python", "-c", "import otelkit; assert 'site-packages' in otelkit.__file__, otelkit.__file__")
        workers = 2 * (os.cpu_count() or 1)  # as in the Makefile
        command = ("-m", "tools.second_try", "-n", str(workers), "--dist", "loadgroup", "-q")
        for run in runs:
            session.run("python", *command, *run, *session.posargs)
        session.chdir(ROOT)


def _pyproject() -> dict[str, Any]:
    return nox.project.load_toml(ROOT / "pyproject.toml")


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel in a clean environment of this Python: unit tests that are not slow, the shop with the real stack.

    The checkout has had the same tests on this Python; what the wheel may lack does not depend on more examples.
    """
    _test(session, ("-m", "not slow or stack", "tests/unit", "tests/stack/test_shop.py"))


@nox.session(python=_installed_pythons() or False)
def pythons(session: nox.Session) -> None:
    """The wheel on each other Python, with the lowest libraries on the first, the highest SDK on the last."""
    tests = ("tests/unit", "tests/integration")
    thorough = ("--hypothesis-profile=thorough", *tests, *_ignored(*OF_NO_VERSION))
    if session.python == WITH_LOWEST:
        _test(session, thorough, pins=(*_lowest(), *BESIDE_LOWEST))
    elif session.python == WITH_HIGHEST:
        celery = ("-m", "not slow", f"tests/{OF_CELERY}")
        _test(session, (*thorough, *_ignored(OF_CELERY)), celery, pins=HIGHEST, without=BEHIND_HIGHEST)
    else:
        _test(session, ("-m", "not slow", *tests))


def _ignored(*files: str) -> list[str]:
    return [f"--ignore=tests/{file}" for file in files]
