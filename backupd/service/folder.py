"""Whether the files of the policies have changed since they were looked at last; opens none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def fingerprint(directory: Path, others: Iterable[Path] = ()) -> tuple[tuple[str, int, int, int], ...]:
    """Paths, sizes, times and inodes of the policy files, and of ``others`` that they include; none of what is gone."""
    found = []
    for path in sorted({*directory.glob("*.toml"), *others}):
        try:
            state = path.stat()
        except OSError:
            continue
        found.append((str(path), state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(found)
