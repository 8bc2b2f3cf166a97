"""Whether the file at the passive's path is ours: only a file that replay has put there may be replaced by a seed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from backupd.engines.sqlite.marker import Marker
from backupd.errors import NotHealthy, Refused


def foreign(path: Path, marker: Marker | None) -> str:
    """Why the file at ``path`` is not one that backupd made; empty when it is, or when nothing is lost with it.

    A slip in a policy (the copies swapped, another database's file named) must
    not cost anybody a file: ours is known by the inode that replay has noted.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if stat.S_ISDIR(found.st_mode):
        return f"{path} is a directory"
    if found.st_size == 0:
        return ""
    if marker is not None and marker.identity is not None and marker.identity.inode == found.st_ino:
        return ""
    seed = marker.applying.seed if marker is not None and marker.applying is not None else ""
    if seed and not Path(seed).exists():
        return ""  # the seed was put in place, and its marker is about to be written
    return f"a file that backupd did not make is at {path} ({found.st_size} bytes)"


def refuse_foreign(path: Path, marker: Marker | None) -> None:
    """Raises Refused when a seed would replace somebody's file, NotHealthy when it could not be put there at all."""
    if not path.parent.is_dir():
        raise NotHealthy(
            f"cannot keep a passive copy at {path}",
            because=f"there is no directory {path.parent}",
            next_step=f"mkdir -p -m 700 {path.parent}",
        )
    because = foreign(path, marker)
    if because:
        raise Refused(
            f"cannot keep a passive copy at {path}",
            because=because,
            next_step="correct the paths of the copies in the policy; if the file is worth nothing, move it away",
        )
