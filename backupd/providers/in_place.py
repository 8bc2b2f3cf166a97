"""Two cameras that copy nothing: the copy's own files are read, while replay runs on or while it rests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.ports import ProviderFeature, Snapshot, Suitability
from backupd.providers.place import checked_label, checked_names, reason_of, told
from backupd.steps import step


class LiveProvider:
    """The files are read as they are, with replay running: the engine judges each page, and reads it again if it must.

    Works on every filesystem and needs no space; a file may go away while it is read.
    """

    name = "live"
    features = frozenset({ProviderFeature.IN_PLACE, ProviderFeature.MOVING})

    def suits(self, directory: Path) -> Suitability:
        """Look whether the directory can be read; that is all that it takes."""
        return _readable(directory, "any filesystem suits: files are read while replay runs")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """The directory itself. Raises NotHealthy: it cannot be read."""
        checked_names(names)  # which of them are still there is told by whoever reads them
        return _itself(self.name, directory, label)

    def discard(self, snapshot: Snapshot) -> None:
        """Nothing: the files are the copy's own, and nothing is ever removed."""
        _require_itself(self.name, snapshot)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """None, ever."""
        del directory
        return ()


class PausedProvider:
    """The files are read as they are, with replay at rest until the last of them was read.

    Works on every filesystem and needs no space, but the passive falls behind meanwhile.
    """

    name = "paused"
    features = frozenset({ProviderFeature.IN_PLACE})

    def suits(self, directory: Path) -> Suitability:
        """Look whether the directory can be read; that is all that it takes."""
        return _readable(directory, "any filesystem suits: replay rests until all files are read")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """The directory itself. Raises NotHealthy: it, or one of the files, is not there."""
        relative = checked_names(names)
        snapshot = _itself(self.name, directory, label)
        missing = [str(name) for name in relative if not (directory / name).is_file()]
        if missing:
            raise NotHealthy(
                f"{directory} lacks {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                because="it was there when the files were listed, and replay rests since then",
                next_step=f"look who removes files below {directory}, then run the backup again",
            )
        return snapshot

    def discard(self, snapshot: Snapshot) -> None:
        """Nothing: the files are the copy's own, and nothing is ever removed."""
        _require_itself(self.name, snapshot)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """None, ever."""
        del directory
        return ()


def _readable(directory: Path, because: str) -> Suitability:
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
    except OSError as error:
        return Suitability(False, f"the directory cannot be read: {reason_of(error)}")
    return Suitability(True, because)


def _itself(provider: str, directory: Path, label: str) -> Snapshot:
    checked_label(label)
    step("providers.look")
    with told(f"cannot read {directory}", directory), os.scandir(directory):
        return Snapshot(provider, label, directory, directory)


def _require_itself(provider: str, snapshot: Snapshot) -> None:
    """Raises ValueError: it is another provider's, or lies elsewhere; the caller has a bug."""
    if snapshot.provider != provider or snapshot.directory != snapshot.source:
        raise ValueError(f"not a snapshot of {provider}: {snapshot.directory}")
