"""What CI runs after `make test`: the built wheel in clean environments, on every Python and SDK that is supported.

`nox -s wheel`: everything, on this Python. `nox -s pythons`: unit and integration tests on the other Pythons that are
installed, on the oldest of them with the lowest OpenTelemetry SDK.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

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

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["wheel", "pythons"]
nox.options.error_on_missing_interpreters = False


def _installed_pythons() -> list[str]:
    def runs(version: str) -> bool:
        program = shutil.which(f"python{version}")
        return program is not None and subprocess.run([program, "--version"], capture_output=True).returncode == 0

    return [version for version in SUPPORTED if version != THIS and runs(version)]


def _test(session: nox.Session, *tests: str, pins: tuple[str, ...] = ()) -> None:
    group = nox.project.dependency_groups(_pyproject(), "dev")
    # Outside of the checkout (session.create_tmp is inside), where no parent folder has a .git or otelkit's source.
    with tempfile.TemporaryDirectory(prefix="otelkit-") as place:
        session.install("build")
        session.run("python", "-m", "build", "--wheel", "--outdir", f"{place}/dist", str(ROOT), silent=True)
        wheel = next(Path(place).glob("dist/otelkit-*.whl"))
        session.install(f"{wheel}[all,demo]", *group, *pins)
        for name in NEEDED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(place) / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, place)
        session.chdir(place)
        session.run("python", "-c", "import otelkit; assert 'site-packages' in otelkit.__file__, otelkit.__file__")
        session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadgroup", "-q", *tests, *session.posargs)
        session.chdir(ROOT)


def _pyproject() -> dict[str, object]:
    return nox.project.load_toml(ROOT / "pyproject.toml")


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel, everything, in a clean environment of this Python."""
    _test(session, "tests")


@nox.session(python=_installed_pythons() or False)
def pythons(session: nox.Session) -> None:
    """The wheel on each other Python: on the oldest with the lowest SDK supported."""
    lowest = ("opentelemetry-sdk==1.45.0", "opentelemetry-api==1.45.0")
    _test(session, "tests/unit", "tests/integration", pins=lowest if session.python == "3.10" else ())
