"""Whether the two copies of a policy are one file under two names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.policy.schema import Policy


def same_file_on_disk(policy: Policy) -> str | None:
    """Two names of one file (a hard or symbolic link) would let the passive overwrite the active."""
    first, second = policy.copies.values()
    try:
        same = os.path.samefile(first.place, second.place)
    except OSError:
        return None  # one is not there or not readable from here; the engine asks again before it writes
    what = "file" if policy.engine == "sqlite" else "directory"
    return f"{first.place} and {second.place} are one {what} under two names" if same else None
