"""Where a path really is: by its filesystem and its place in it, so that links and bind mounts hide nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class RealPlace:
    """A place inside of one filesystem; ``device`` is the filesystem's number, as text."""

    device: str
    path: PurePosixPath

    def overlaps(self, other: RealPlace) -> bool:
        """Whether one of the two is the other, or lies in it."""
        if self.device != other.device:
            return False
        return self.path.is_relative_to(other.path) or other.path.is_relative_to(self.path)


def real_place(path: Path | str, mountinfo: str | None = None) -> RealPlace:
    """The place of a path, which need not be there; ``mountinfo`` is the kernel's table, read when it is not given."""
    real = PurePosixPath(os.path.realpath(path))
    if mountinfo is None:
        try:
            mountinfo = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            mountinfo = ""
    best: tuple[PurePosixPath, str, PurePosixPath] | None = None
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if len(words) < 5:
            continue
        root, point = PurePosixPath(_plain(words[3])), PurePosixPath(_plain(words[4]))
        # Of two mounts at one point the later one is seen.
        if real.is_relative_to(point) and (best is None or len(point.parts) >= len(best[0].parts)):
            best = (point, words[2], root)
    if best is None:
        return RealPlace("", real)
    point, device, root = best
    return RealPlace(device, root / real.relative_to(point))


def same_or_inside(target: Path | str, place: Path) -> bool:
    """Whether the two overlap, whatever names they go by; what is mounted inside of a place belongs to it."""
    here, there = Path(os.path.realpath(target)), Path(os.path.realpath(place))
    by_name = here.is_relative_to(there) or there.is_relative_to(here)
    return by_name or real_place(here).overlaps(real_place(there))


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
