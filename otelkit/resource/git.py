"""Finds the revision that a directory has checked out, by reading git's files instead of running git."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from otelkit.resource.files import read, read_text

_REVISION = re.compile(r"[0-9a-fA-F]{7,64}")
_OBJECT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCHES = "refs/heads/"
_SYMBOLIC_REFS_LIMIT = 5
# A repository with a hundred thousand branches packs them into this much.
_PACKED_REFS_LIMIT_BYTES = 8 << 20


class Head(NamedTuple):
    """A commit, and the branch or tag that it was checked out or deployed from, where that is known."""

    revision: str
    name: str | None = None


def is_revision(text: str) -> bool:
    """Whether a text can be the name of a commit, full or abbreviated."""
    return _REVISION.fullmatch(text) is not None


def read_head(directory: Path) -> Head | None:
    """The head of the repository around a directory, also of a linked worktree or a submodule.

    None outside of a repository, before its first commit, and where refs are kept in a reftable.
    """
    directory = directory.absolute()
    for parent in (directory, *directory.parents):
        git = parent / ".git"
        link = read_text(git)
        if link.startswith("gitdir:"):
            git = parent / link.removeprefix("gitdir:").strip()
        if head := read_text(git / "HEAD").strip():
            return _resolve(git, head)
    return None


def _resolve(git: Path, head: str) -> Head | None:
    common = git / read_text(git / "commondir").strip()
    name: str | None = None
    for _ in range(_SYMBOLIC_REFS_LIMIT):
        if _OBJECT_NAME.fullmatch(head):
            return Head(head, name)
        ref = head.removeprefix("ref:").strip()
        # What a ref says becomes a path and an attribute.
        if ref == head or not ref.startswith("refs/") or ".." in ref or not ref.isprintable():
            return None
        if ref.startswith(_BRANCHES):
            name = ref.removeprefix(_BRANCHES)
        head = read_text(git / ref).strip() or read_text(common / ref).strip() or _packed(common, ref)
    return None


def _packed(common: Path, ref: str) -> str:
    refs = read(common / "packed-refs", limit_bytes=_PACKED_REFS_LIMIT_BYTES)
    before, found, _ = refs.partition(b" " + ref.encode() + b"\n")
    return before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace") if found else ""
