"""The commit of a policy file is told when there is one, and nothing ever fails for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

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
