"""Which git commit a policy file is at; a backup's record carries it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_TIMEOUT_SECONDS = 5.0
_COMMIT_LENGTHS = (40, 64)  # SHA-1 and SHA-256 repositories


def policy_commit(path: Path) -> str | None:
    """The commit that last changed the file, with ``+changed`` when the file differs from it.

    None when the file is not in git, git is missing, slow or unwilling: a backup
    never fails for this.  Never raises.
    """
    commit = _git(path, "log", "-1", "--format=%H", "--", path.name)
    if commit is None or len(commit) not in _COMMIT_LENGTHS:
        return None
    changed = _git(path, "status", "--porcelain", "--", path.name)
    return f"{commit}+changed" if changed != "" else commit


def _git(path: Path, *arguments: str) -> str | None:
    # Optional locks off: a read must not disturb a person's own git at work.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)  # set inside hooks, where they would point at another repository
    try:
        done = subprocess.run(
            ["git", "-C", str(path.absolute().parent), *arguments],
            capture_output=True,
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
