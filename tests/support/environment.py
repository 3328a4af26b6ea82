"""A virtual environment of a test's own, to change without touching the one that the tests run in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import otelkit


def virtual_environment(folder: Path) -> Path:
    """Makes an environment that sees the packages of this one, and returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    site = next(folder.glob("lib/python*/site-packages"))
    paths = [path for path in sys.path if path.endswith("site-packages")]
    # otelkit itself may be a checkout (an editable installation) instead.
    paths.append(str(Path(otelkit.__file__).resolve().parent.parent))
    (site / "outer.pth").write_text("\n".join(dict.fromkeys(paths)) + "\n")
    return folder / "bin" / "python"
