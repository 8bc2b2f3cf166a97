"""Which git commit a policy is at, with all that it includes; a backup's record carries it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from backupd.policy.checkout import Checkout, followed_commit
from backupd.policy.git_call import GitFailed, call_git

_COMMIT_LENGTHS = (40, 64)  # SHA-1 and SHA-256 repositories


def policy_commit(path: Path, included: Sequence[Path] = ()) -> str | None:
    """The newest commit that changed the policy or what it includes, with ``+changed`` when one of them differs.

    None when the policy is not in git, git is missing, slow or unwilling: a backup
    never fails for this.  Never raises.
    """
    try:
        folder = path.absolute().parent
        checkout = followed_commit(Path(os.path.realpath(folder)))
        if checkout is not None:
            return _commit_followed(checkout, [path, *included])
        others = [os.path.relpath(os.path.realpath(one), os.path.realpath(folder)) for one in included]
        commit = _last_commit(folder, [path.name])
        if commit is None:
            return None
        commit = _last_commit(folder, [path.name, *others]) if others else commit
        # A file that is ignored is in no commit either, and would not be told without asking.
        changed = call_git(["status", "--porcelain", "--ignored", "--", path.name, *others], directory=folder)
    except (GitFailed, OSError, ValueError):
        return None
    return f"{commit}+changed" if changed.strip() else commit


def _last_commit(folder: Path, names: Sequence[str]) -> str | None:
    return _commit(call_git(["log", "-1", "--format=%H", "--", *names], directory=folder))


def _commit(said: bytes) -> str | None:
    commit = said.decode("ascii", "replace").strip()
    return commit if len(commit) in _COMMIT_LENGTHS else None


def _commit_followed(checkout: Checkout, paths: Sequence[Path]) -> str | None:
    """The same where only the files of one commit were laid out, and the repository lies elsewhere."""
    names = [os.path.relpath(os.path.realpath(path), os.path.realpath(checkout.root)) for path in paths]
    of_it = ["log", "-1", "--format=%H", checkout.commit, "--", *names]
    commit = _commit(call_git(of_it, git_directory=checkout.git_directory))
    if commit is None:
        return None
    listed = call_git(["ls-tree", "-z", checkout.commit, "--", *names], git_directory=checkout.git_directory)
    blobs = {entry.split()[2].decode() for entry in listed.split(b"\0") if entry}
    changed = any(_blob(path.read_bytes(), len(commit)) not in blobs for path in paths)
    return f"{commit}+changed" if changed else commit


def _blob(data: bytes, length: int) -> str:
    """The name that git gives to a file's content."""
    content = b"blob %d\0" % len(data) + data
    return (
        hashlib.sha256(content).hexdigest()
        if length == 64
        else hashlib.sha1(content, usedforsecurity=False).hexdigest()
    )
