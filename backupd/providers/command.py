"""A snapshot that a command of the administrator's makes and releases: ZFS, LVM, a storage array.

What was taken is written down before the command is run, in one small file of
this node's state, so that a recovery releases also what a dead run never heard of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backupd.durable import replace_file
from backupd.errors import NotHealthy
from backupd.ports import ProviderFeature, Snapshot, Suitability
from backupd.providers.command_call import ask_command
from backupd.providers.place import checked_label, checked_names, is_under_trial, reason_of, told, trial_label
from backupd.steps import step

_NEVER_HEARD = "never-heard-of"


@dataclass(frozen=True, slots=True)
class SnapshotCommands:
    """What the policy says: the two commands, each one's limit, and whether such a snapshot is of one instant."""

    take: Sequence[str]
    release: Sequence[str]
    seconds_max: float
    atomic: bool = False


@dataclass(frozen=True, slots=True)
class _Taken:
    """One line of the state file; ``directory`` and ``handle`` are empty until the command has answered."""

    label: str
    source: str
    directory: str = ""
    handle: str = ""


class ExecProvider:
    """Asks ``take`` for a snapshot of the whole directory and ``release`` to remove it.

    Both get one JSON object on standard input: ``action`` (take or release), ``directory``
    (the copy's), ``label``, ``names_count``, and for a release the ``handle`` that take
    answered (empty when the run died before it heard it: then the label must do).
    ``take`` answers with ``directory`` (where the copy's files are found now) and ``handle``.
    """

    name = "exec"

    def __init__(self, commands: SnapshotCommands, state_dir: Path) -> None:
        self._commands = commands
        self._file = state_dir / "snapshot-commands.json"
        self.features = frozenset({ProviderFeature.ATOMIC} if commands.atomic else set())

    def suits(self, directory: Path) -> Suitability:
        """Take a snapshot for real and release it: only that tells whether the commands work."""
        try:
            self.discard(self.take(directory, (), trial_label()))
        except NotHealthy as error:
            return Suitability(False, f"{error.problem}: {error.because}")
        return Suitability(True, "the policy's own command made and released a snapshot")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """Run the command. Raises NotHealthy: it did not work, or lacks a file; nothing is left."""
        relative = checked_names(names)
        new = _Taken(checked_label(label), str(directory))
        if self._find(label, directory) is not None:
            raise NotHealthy(
                f"there is a snapshot {label} of {directory} already",
                because="an earlier run has left it",
                next_step="backupctl recover removes what an earlier run has left",
            )
        if not directory.is_dir():
            raise NotHealthy(
                f"cannot snapshot {directory}",
                because="there is no such directory",
                next_step="look at data_directory in the policy",
            )
        self._keep(new)
        try:
            answer = ask_command(
                self._commands.take, self._question("take", new, len(names)), self._commands.seconds_max
            )
            taken = replace(new, directory=_text(answer, "directory"), handle=_text(answer, "handle"))
            self._keep(taken)
            self._require(taken, [str(name) for name in relative])
        except BaseException:
            self._release_again(new)
            raise
        return _snapshot(taken)

    def discard(self, snapshot: Snapshot) -> None:
        """Run the release command; it may be gone already. Raises NotHealthy: it did not work, and is kept in mind."""
        place, source = snapshot.directory, snapshot.source
        if snapshot.provider != self.name or not _apart(place, source):
            raise ValueError(f"not a snapshot of {self.name}: {place}")
        taken = self._find(snapshot.label, source)
        if taken is None:
            return
        if _snapshot(taken) != snapshot:
            raise ValueError(f"not a snapshot of {self.name}: {place}")
        ask_command(self._commands.release, self._question("release", taken, 0), self._commands.seconds_max)
        self._forget(taken)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """What was taken of the directory and not released yet. Raises NotHealthy."""
        here = [taken for taken in self._read() if taken.source == str(directory)]
        return [_snapshot(taken) for taken in here if not is_under_trial(taken.label)]

    def _question(self, action: str, taken: _Taken, names_count: int) -> dict[str, object]:
        asked: dict[str, object] = {"action": action, "directory": taken.source, "label": taken.label}
        return asked | ({"names_count": names_count} if action == "take" else {"handle": taken.handle})

    def _require(self, taken: _Taken, names: Sequence[str]) -> None:
        words, place = " ".join(self._commands.take), Path(taken.directory)
        because = ""
        if not taken.directory or not place.is_absolute() or not place.is_dir():
            because = f"it answered with the directory {taken.directory!r}, and there is none"
        elif not _apart(place, Path(taken.source)):
            because = f"it answered with {place}, which is not apart from the copy itself"
        else:
            missing = [name for name in names if not (place / name).is_file()]
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                because = f"{place} lacks {missing[0]}{more}"
        if because:
            raise NotHealthy(
                f"the snapshot that {words} has made cannot be used",
                because=because,
                next_step="make it answer with the place where the copy's own files are found in the snapshot",
            )

    def _release_again(self, new: _Taken) -> None:
        """What went wrong matters more than a release that fails too: that one stays in the file, for a recovery."""
        taken = self._find(new.label, Path(new.source)) or new
        try:
            ask_command(self._commands.release, self._question("release", taken, 0), self._commands.seconds_max)
        except NotHealthy:
            return
        self._forget(taken)

    # --- the state file ---

    def _find(self, label: str, source: Path) -> _Taken | None:
        return next((one for one in self._read() if (one.label, one.source) == (label, str(source))), None)

    def _keep(self, taken: _Taken) -> None:
        self._write([*self._others(taken), taken])

    def _forget(self, taken: _Taken) -> None:
        self._write(self._others(taken))

    def _others(self, taken: _Taken) -> list[_Taken]:
        return [one for one in self._read() if (one.label, one.source) != (taken.label, taken.source)]

    def _read(self) -> list[_Taken]:
        try:
            rows = json.loads(self._file.read_bytes())
            return [
                _Taken(**{key: str(row[key]) for key in ("label", "source", "directory", "handle")}) for row in rows
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotHealthy(
                "it is not known which snapshots the commands have left",
                because=f"{self._file} cannot be read: {reason_of(error) if isinstance(error, OSError) else error}",
                next_step=f"release them by hand, then remove {self._file}",
            ) from error

    def _write(self, all_taken: Sequence[_Taken]) -> None:
        rows = [asdict(one) for one in sorted(all_taken, key=lambda one: (one.source, one.label))]
        step("providers.remember")
        with told(f"cannot write {self._file}", self._file.parent):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, json.dumps(rows, indent=1).encode())


def _snapshot(taken: _Taken) -> Snapshot:
    return Snapshot(ExecProvider.name, taken.label, Path(taken.directory or _NEVER_HEARD), Path(taken.source))


def _text(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key, "")
    return value if isinstance(value, str) else json.dumps(value)


def _apart(place: Path, source: Path) -> bool:
    """Whether a snapshot is not the copy, nor around it, nor in it: but ZFS shows its own inside, below ``.zfs``."""
    place, source = Path(os.path.realpath(place)), Path(os.path.realpath(source))
    if place == source or place in source.parents:
        return False
    return source not in place.parents or place.relative_to(source).parts[0] == ".zfs"
