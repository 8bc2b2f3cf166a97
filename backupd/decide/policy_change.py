"""Decides what a change of policies does: which databases come and go, which keys change, which slots and backups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from backupd.decide.reasons import Reason
from backupd.decide.slots import Slot
from backupd.model.rules import Task

_SLOTS_SHOWN_MAX = 4


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key that has another value; both as text."""

    place: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class SlotChange:
    """Slots that are only in the new calendar, and those that are only in the old one."""

    come: tuple[Slot, ...]
    go: tuple[Slot, ...]

    def sentences(self) -> tuple[Reason, ...]:
        """What changes, a sentence for each task and direction; none when nothing does."""
        return (*_sentences(self.come, "comes", "come"), *_sentences(self.go, "goes", "go"))


@dataclass(frozen=True, slots=True)
class BackupChange:
    """Backups of the archive that only the old rules keep, and those that only the new ones do, by their ids."""

    would_drop: tuple[str, ...]
    would_keep: tuple[str, ...]


def names_changed(old: Collection[str], new: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The databases that come, and those that go; each sorted."""
    return tuple(sorted(set(new) - set(old))), tuple(sorted(set(old) - set(new)))


def places_changed(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """The dotted places whose values differ, in the order of the new policy, then of the old one."""
    places = dict.fromkeys([*new, *old])
    absent = object()
    return tuple(place for place in places if old.get(place, absent) != new.get(place, absent))


def slots_changed(old: Sequence[Slot], new: Sequence[Slot]) -> SlotChange:
    """What comes and goes; a slot that keeps its moment and becomes another task's does both."""
    before = {(slot.at, slot.task) for slot in old}
    after = {(slot.at, slot.task) for slot in new}
    return SlotChange(
        tuple(slot for slot in new if (slot.at, slot.task) not in before),
        tuple(slot for slot in old if (slot.at, slot.task) not in after),
    )


def backups_changed(old_drop: Sequence[str], new_drop: Sequence[str]) -> BackupChange:
    """What two plans of a prune over one archive do differently."""
    return BackupChange(
        tuple(backup for backup in new_drop if backup not in old_drop),
        tuple(backup for backup in old_drop if backup not in new_drop),
    )


def _sentences(slots: Sequence[Slot], one: str, many: str) -> list[Reason]:
    sentences = []
    for task in dict.fromkeys(slot.task for slot in slots):
        named = [slot.local for slot in slots if slot.task is task]
        shown = named if len(named) <= _SLOTS_SHOWN_MAX else [*named[: _SLOTS_SHOWN_MAX - 1], "...", named[-1]]
        plural = "verifies" if task is Task.VERIFY else f"{task}s"
        count = f"1 {task} {one}" if len(named) == 1 else f"{len(named)} {plural} {many}"
        sentences.append(Reason(f"slots-{many}", f"{count}: {', '.join(shown)}"))
    return sentences
