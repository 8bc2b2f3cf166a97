"""Policies as one commit has them, laid out as plain files; they never change, and know which commit they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import ConfigInvalid

MARKER = ".backupd-commit"
# Below the state directory: the commit that is in force is what CURRENT points to, below FOLLOWED.
FOLLOWED = "policies.followed"  # no database can be called so, whose own directory is beside it
CURRENT = "current"
NOT_FETCHED = "not-fetched-yet"


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where the files of one commit lie, and the repository that it is of."""

    root: Path
    commit: str
    git_directory: Path


def write_checkout(root: Path, commit: str, git_directory: Path, files: Mapping[str, bytes]) -> Checkout:
    """Lay out the files of a commit in a new directory; every file is on disk when this returns.

    Args:
        root: the directory, which does not exist yet.
        commit: whose files they are.
        git_directory: the repository that has it.
        files: by their path in the repository.

    Raises:
        ConfigInvalid: a path would lie outside of ``root``.
        OSError: the disk refuses.
    """
    root.mkdir(mode=0o700, parents=True)
    said = {"commit": commit, "git_directory": str(git_directory)}
    for name, data in {**files, MARKER: json.dumps(said).encode()}.items():
        parts = name.split("/")
        # Git itself refuses such names; a made-up repository need not.
        if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in name:
            raise ConfigInvalid(
                f"the commit {commit[:12]} cannot be laid out",
                because=f"it holds a file called {name!r}",
                next_step="remove that file from the repository",
            )
        path = root.joinpath(*parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return Checkout(root, commit, git_directory)


def followed_commit(folder: Path) -> Checkout | None:
    """The checkout that this folder is part of; None for every other folder. Never raises."""
    for above in (folder, *folder.parents):
        try:
            said = json.loads((above / MARKER).read_bytes())
            return Checkout(above, str(said["commit"]), Path(said["git_directory"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def followed_directory(state_dir: Path, path: str) -> Path:
    """Where the followed policies are now: in the commit in force, whose files stay as they are.

    The name of the commit is in the answer, so whoever reads several files reads them of one commit.
    """
    current = state_dir / FOLLOWED / CURRENT
    try:
        return (current.parent / os.readlink(current) / path).absolute()
    except OSError:
        return state_dir / FOLLOWED / NOT_FETCHED
