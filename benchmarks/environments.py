"""One virtual environment a peer, under benchmarks/.env-*, made again when its requirements change."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import peer

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parent

# SQLAlchemy 2.0, since OpenTelemetry's instrumentation refuses 2.1: the application must be the same for all.
APPLICATION = ("fastapi", "uvicorn[standard]", "sqlalchemy>=2.0,<2.1", "celery[redis]")

_STAMP = ".installed"
_LIST = """
import json
from importlib.metadata import distributions
print(json.dumps({found.metadata["Name"].lower(): found.version for found in distributions()}))
"""


def peer_environment(name: str) -> Path:
    """The Python of a peer's environment: the application's packages and the peer's."""
    chosen = peer(name)
    return environment(chosen.environment or name, (*chosen.requirements, *APPLICATION))


def micro_environment() -> Path:
    """The Python of an environment with otelkit, OpenTelemetry's own, its distro, and the application's packages."""
    requirements = (*peer("otelkit").requirements, *peer("contrib").requirements, "opentelemetry-distro", *APPLICATION)
    return environment("micro", requirements)


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The Python of an environment with these requirements (pip's words); installs what is missing.

    It runs the version of Python that runs this. Raises CalledProcessError when the installation fails.
    """
    folder = FOLDER / f".env-{name}"
    python = folder / "bin" / "python"
    stamp = folder / _STAMP
    wanted = json.dumps([sys.version, *requirements, _own_requirements(requirements)])
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing the environment {name} …", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    if uv is not None:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *requirements], check=True)
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Every distribution of an environment with its version."""
    answer = subprocess.run([str(python), "-c", _LIST], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return dict(sorted(found.items()))


def _own_requirements(requirements: Sequence[str]) -> str:
    """A digest of pyproject.toml where the environment holds this checkout: its dependencies stand there."""
    if not any(str(CHECKOUT) in requirement for requirement in requirements):
        return ""
    return hashlib.sha256((CHECKOUT / "pyproject.toml").read_bytes()).hexdigest()
