"""The commit of a policy file is told when there is one, and nothing ever fails for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from backupd.errors import ConfigInvalid
from backupd.policy.checkout import write_checkout
from backupd.policy.git import policy_commit

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    path = tmp_path / "orders.toml"
    path.write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return path


@needs_git
def test_the_commit_that_last_changed_the_file(policy: Path) -> None:
    first = git(policy.parent, "rev-parse", "HEAD")
    (policy.parent / "other.toml").write_text("x")
    git(policy.parent, "add", ".")
    git(policy.parent, "commit", "-q", "-m", "two")
    assert policy_commit(policy) == first
    assert len(first) == 40


@needs_git
def test_a_changed_file_is_said_to_be_changed(policy: Path) -> None:
    commit = git(policy.parent, "rev-parse", "HEAD")
    policy.write_text("two")
    assert policy_commit(policy) == f"{commit}+changed"


@needs_git
def test_git_of_a_hook_does_not_mislead(policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert policy_commit(policy) is not None


@needs_git
def test_a_file_that_is_not_in_git_has_none(policy: Path, tmp_path: Path) -> None:
    (policy.parent / "new.toml").write_text("x")
    assert policy_commit(policy.parent / "new.toml") is None
    assert policy_commit(Path("/")) is None


def test_without_git_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert policy_commit(tmp_path / "orders.toml") is None
    assert policy_commit(tmp_path / "no such directory" / "orders.toml") is None


@pytest.fixture
def included(policy: Path) -> Path:
    path = policy.parent / "defaults" / "common.toml"
    path.parent.mkdir()
    path.write_text("one")
    git(policy.parent, "add", ".")
    git(policy.parent, "commit", "-q", "-m", "defaults")
    return path


@needs_git
def test_the_commit_counts_what_is_included(policy: Path, included: Path) -> None:
    newest = git(policy.parent, "rev-parse", "HEAD")
    assert policy_commit(policy) == git(policy.parent, "rev-parse", "HEAD~1")
    assert policy_commit(policy, [included]) == newest
    included.write_text("two")
    assert policy_commit(policy, [included]) == f"{newest}+changed"
    assert policy_commit(policy) == git(policy.parent, "rev-parse", "HEAD~1")


@needs_git
@pytest.mark.parametrize("ignored", [False, True])
def test_an_included_file_that_is_in_no_commit_is_a_change(policy: Path, *, ignored: bool) -> None:
    if ignored:
        (policy.parent / ".gitignore").write_text("new.txt\n")
    (policy.parent / "new.txt").write_text("x")
    found = policy_commit(policy, [policy.parent / "new.txt"])
    assert found == git(policy.parent, "rev-parse", "HEAD") + "+changed"


@needs_git
def test_a_laid_out_commit_knows_itself_and_its_changes(policy: Path, included: Path, tmp_path: Path) -> None:
    head = git(policy.parent, "rev-parse", "HEAD")
    files = {"orders.toml": b"one", "defaults/common.toml": b"one"}
    root = tmp_path / "elsewhere" / "checkout"
    write_checkout(root, head, policy.parent / ".git", files)
    (own, other) = (root / name for name in files)
    assert policy_commit(own) == git(policy.parent, "rev-parse", "HEAD~1")
    assert policy_commit(own, [other]) == head
    other.chmod(0o600)
    other.write_text("two")
    assert policy_commit(own, [other]) == f"{head}+changed"


def test_a_commit_is_laid_out_in_its_own_directory_only(tmp_path: Path) -> None:
    for number, name in enumerate(("../x.toml", "/x.toml", "a/../../x.toml", "a//x.toml", "")):
        with pytest.raises(ConfigInvalid):
            write_checkout(tmp_path / f"root{number}", "c" * 40, tmp_path, {name: b"x"})
    assert not list(tmp_path.rglob("x.toml"))
