"""Which revision is read from the files that git itself writes, and from files that are none of git's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelkit.resource import Sources, detect
from otelkit.resource.git import Head, is_revision, read_head
from tests.support.examples import examples

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="git is not installed")


def git(directory: Path, *arguments: str) -> str:
    """Runs git without the configuration of whoever runs the tests."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    assert GIT is not None
    return subprocess.run(
        [GIT, *arguments], cwd=directory, env=environ, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two commits on the branch `feature/cart`."""
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet")
    git(path, "checkout", "--quiet", "-b", "feature/cart")
    for message in ("one", "two"):
        git(path, "commit", "--quiet", "--allow-empty", "-m", message)
    return path


@needs_git
def test_the_head_of_a_branch_is_read_from_any_directory_below(repository: Path) -> None:
    """Revision and branch are git's own answers."""
    below = repository / "src" / "shop"
    below.mkdir(parents=True)
    assert read_head(below) == Head(git(repository, "rev-parse", "HEAD"), "feature/cart")


@needs_git
def test_packed_refs_are_read(repository: Path) -> None:
    """After a gc a branch has no file of its own; one with the same ending is not taken for it."""
    git(repository, "branch", "other/feature/cart", "HEAD~1")
    git(repository, "tag", "-a", "-m", "tag", "v1")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/feature/cart").exists()
    assert read_head(repository) == Head(git(repository, "rev-parse", "HEAD"), "feature/cart")


@needs_git
def test_a_detached_head_has_a_revision_and_no_branch(repository: Path) -> None:
    """CI systems check out a commit, not a branch."""
    git(repository, "checkout", "--quiet", "--detach", "HEAD~1")
    assert read_head(repository) == Head(git(repository, "rev-parse", "HEAD"), None)


@needs_git
@pytest.mark.parametrize("packed", [False, True])
def test_a_linked_worktree_has_its_own_head(repository: Path, tmp_path: Path, packed: bool) -> None:
    """The branch's ref is in the main repository, the worktree has but a file that points there."""
    worktree = tmp_path / "worktree"
    git(repository, "worktree", "add", "--quiet", "-b", "fix", str(worktree), "HEAD~1")
    if packed:
        git(repository, "pack-refs", "--all")
    head = read_head(worktree)
    assert head == Head(git(worktree, "rev-parse", "HEAD"), "fix")
    assert head.revision != git(repository, "rev-parse", "HEAD")


@needs_git
def test_a_submodule_has_its_own_head(repository: Path, tmp_path: Path) -> None:
    """Its .git is a file with a relative path."""
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    git(outer, "commit", "--quiet", "--allow-empty", "-m", "outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "inner")
    assert (outer / "inner/.git").is_file()
    head = read_head(outer / "inner")
    assert head is not None
    assert head.revision == git(repository, "rev-parse", "HEAD")


@needs_git
def test_a_repository_without_commits_has_no_revision(tmp_path: Path) -> None:
    """Its branch has no ref yet."""
    git(tmp_path, "init", "--quiet")
    assert read_head(tmp_path) is None


@needs_git
def test_the_resource_has_the_revision_of_the_directory(repository: Path) -> None:
    """Without arguments and variables, the repository around the working directory tells."""
    resource = detect(
        service_name="shop",
        service_version=None,
        revision=None,
        environment=None,
        attributes={},
        environ={},
        sources=Sources(directory=repository),
    )
    assert resource["vcs.ref.head.revision"] == git(repository, "rev-parse", "HEAD")
    assert resource["vcs.ref.head.name"] == "feature/cart"


def test_no_repository_gives_no_head(tmp_path: Path) -> None:
    """An image seldom has one."""
    assert read_head(tmp_path) is None


def test_a_fifo_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """To open one blocks until somebody writes; detection never does."""
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git/HEAD")
    assert read_head(tmp_path) is None


@pytest.mark.parametrize(
    "head",
    [
        "ref: refs/../../secret",
        "ref: /etc/hostname",
        "ref: refs/heads/.invalid",
        "ref: refs/heads/a\x1b[31m",
        "refs/heads/main",
        "deadbeef",
        "ref: refs/heads/loop",
        "",
    ],
)
def test_a_head_that_leads_nowhere_gives_none(tmp_path: Path, head: str) -> None:
    """Paths out of the repository, loops, reftable's placeholder and rubbish end the search."""
    refs = tmp_path / ".git/refs/heads"
    refs.mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text(head)
    (refs / "loop").write_text("ref: refs/heads/loop\n")
    for name in ("main", "a\x1b[31m", "../../../secret"):
        (refs / name).write_text("a" * 40)
    assert read_head(tmp_path) is None


CONTENTS = st.binary(max_size=120) | st.lists(
    st.sampled_from(["ref: ", "gitdir: ", "refs/heads/", "main", "a" * 40, "..", "/", "\n", " ", "\x00", "\u2028"]),
    max_size=8,
).map(lambda parts: "".join(parts).encode())


@settings(max_examples=examples(150), deadline=None)
@given(head=CONTENTS, ref=CONTENTS, packed=CONTENTS, common=CONTENTS, link=CONTENTS)
def test_any_files_give_a_revision_or_none(
    tmp_path_factory: pytest.TempPathFactory,
    head: bytes,
    ref: bytes,
    packed: bytes,
    common: bytes,
    link: bytes,
) -> None:
    """Files of any content neither raise nor give anything but a commit's name and a printable branch."""
    directory = tmp_path_factory.mktemp("any")
    refs = directory / ".git/refs/heads"
    refs.mkdir(parents=True)
    (refs / "main").write_bytes(ref)
    for name, content in (("HEAD", head), ("packed-refs", packed), ("commondir", common)):
        (directory / ".git" / name).write_bytes(content)
    (directory / "linked").mkdir()
    (directory / "linked/.git").write_bytes(link)
    for place in (directory, directory / "linked"):
        found = read_head(place)
        if found is not None:
            assert is_revision(found.revision)
            assert len(found.revision) == 40
            assert found.name is None or found.name.isprintable()
