"""The page's files: complete, small, without anything of another host, and in the wheel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import otelkit

STATIC = Path(otelkit.__file__).parent / "viewer" / "static"
OURS = sorted(
    path for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".html") and "vendor" not in path.parts
)
LONGEST = 400


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(STATIC)))
def test_a_file_names_only_files_that_are_there(path: Path) -> None:
    """Imports and links; nothing of another host, nothing inline, at most 400 lines."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    for name in re.findall(r'(?:from|import) "(\.[^"]+)"', text):
        assert (path.parent / name).is_file(), name
    for name in re.findall(r'(?:href|src)="/static/([^"]+)"', text):
        assert (STATIC / name).is_file(), name
    if path.suffix == ".html":
        assert not re.search(r"<style|<script(?![^>]*src=)|\son\w+=|\sstyle=", text)


def test_what_is_of_others_has_its_licence() -> None:
    """Each vendored file is in the list, with a licence beside it."""
    vendor = STATIC / "vendor"
    listed = (vendor / "README.md").read_text(encoding="utf-8")
    for path in vendor.iterdir():
        if path.suffix in (".js", ".css"):
            assert f"`{path.name}`" in listed
    for name in set(re.findall(r"`(LICENSE\.\w+)`", listed)):
        assert (vendor / name).is_file()
