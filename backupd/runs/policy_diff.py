"""Says what a change of the policies would do, before it is in force; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backupd.decide.policy_change import (
    KeyChange,
    SlotChange,
    backups_changed,
    names_changed,
    places_changed,
    slots_changed,
)
from backupd.decide.schedule import calendar
from backupd.errors import BackupdError
from backupd.policy.second_archive import for_second_archive

if TYPE_CHECKING:
    from backupd.policy.load import LoadedPolicy
    from backupd.policy.schema import Policy
    from backupd.runs.context import RunContext

# How a database is opened to read its archive; None when it shall not be.
OpenContext = Callable[[str], "RunContext"] | None


@dataclass(frozen=True, slots=True)
class RetentionChange:
    """Which backups another retention drops or keeps; ``because`` is why that is not known.

    ``archive`` is ``first`` or ``second``; ``would_drop`` has the backup's id and the reason in words.
    """

    archive: str
    would_drop: tuple[tuple[str, str], ...] = ()
    would_keep: tuple[str, ...] = ()
    because: str = ""

    def as_json(self) -> dict[str, Any]:
        """The form that ``policy diff --json`` shows."""
        return {
            "archive": self.archive,
            "known": not self.because,
            "because": self.because or None,
            "would_drop": [{"id": backup, "because": reason} for backup, reason in self.would_drop],
            "would_keep": list(self.would_keep),
        }


@dataclass(frozen=True, slots=True)
class DatabaseChange:
    """One database: whether it comes, goes or changes, and what that does.

    ``retention`` has an entry for each archive whose retention the change touches.
    """

    database: str
    what: str
    keys: tuple[KeyChange, ...]
    slots: SlotChange
    retention: tuple[RetentionChange, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The form that ``policy diff --json`` shows."""
        return {
            "database": self.database,
            "change": self.what,
            "keys": [{"place": key.place, "old": key.old, "new": key.new} for key in self.keys],
            "schedule": {
                "come": [{"type": slot.task.value, "at": slot.at.isoformat()} for slot in self.slots.come],
                "go": [{"type": slot.task.value, "at": slot.at.isoformat()} for slot in self.slots.go],
                "sentences": [str(one) for one in self.slots.sentences()],
            },
            "retention": [one.as_json() for one in self.retention],
        }


def diff_policies(
    old: Mapping[str, LoadedPolicy],
    new: Mapping[str, LoadedPolicy],
    now: datetime,
    days: int,
    open_context: OpenContext = None,
) -> list[DatabaseChange]:
    """What changes from ``old`` to ``new``, by database; databases that are the same are left out.

    Args:
        old: the policies in force.
        new: those that would be.
        now: the moment from which slots are counted.
        days: for how long.
        open_context: opens a database whose archive may be read; without it retention is not looked into.
    """
    come, go = names_changed(old, new)
    changes = [_whole(new[name].policy, now, days, "comes") for name in come]
    changes += [_whole(old[name].policy, now, days, "goes") for name in go]
    changes += [
        change
        for name in sorted(set(old) & set(new))
        if (change := _change(old[name], new[name], now, days, open_context)) is not None
    ]
    return changes


def _whole(policy: Policy, now: datetime, days: int, what: str) -> DatabaseChange:
    slots = tuple(calendar(policy.schedule_rules(), now, days, database=policy.database))
    change = SlotChange(slots, ()) if what == "comes" else SlotChange((), slots)
    return DatabaseChange(policy.database, what, (), change)


def _change(
    old: LoadedPolicy, new: LoadedPolicy, now: datetime, days: int, open_context: OpenContext
) -> DatabaseChange | None:
    places = places_changed(_flat(old.policy), _flat(new.policy))
    if not places:
        return None
    database = new.policy.database
    keys = tuple(KeyChange(place, _said(old, place), _said(new, place)) for place in places)
    before, after = (calendar(one.policy.schedule_rules(), now, days, database=database) for one in (old, new))
    retention = _retention_changes(old.policy, new.policy, open_context)
    return DatabaseChange(database, "changes", keys, slots_changed(before, after), retention)


def _retention_changes(old: Policy, new: Policy, open_context: OpenContext) -> tuple[RetentionChange, ...]:
    """Of each archive whose retention differs: what the next prune would do differently."""
    pairs = (("first", old, new), ("second", for_second_archive(old), for_second_archive(new)))
    return tuple(
        _retention_change(archive, before, after, open_context)
        for archive, before, after in pairs
        if before is not None and after is not None and before.retention_rules() != after.retention_rules()
    )


def _retention_change(archive: str, old: Policy, new: Policy, open_context: OpenContext) -> RetentionChange:
    from backupd.runs.prune import plan_prune
    from backupd.runs.second_archive import second_of

    if open_context is None:
        return RetentionChange(archive, because="the archive was not to be read")
    if old.archive != new.archive:
        return RetentionChange(archive, because=f"its place changes too, from {old.archive} to {new.archive}")
    try:
        context = open_context(new.database)
        context = context if archive == "first" else second_of(context)
        if context.policy.archive != new.archive:
            return RetentionChange(archive, because=f"this node's policy has another one, {context.policy.archive}")
        before = plan_prune(replace(context, policy=old)).retention
        after = plan_prune(replace(context, policy=new)).retention
    except BackupdError as error:
        return RetentionChange(archive, because=f"{error.problem}: {error.because}")
    change = backups_changed([gone.id for gone in before.drop], [gone.id for gone in after.drop])
    reasons = {gone.id: "; ".join(map(str, gone.reasons)) for gone in after.drop}
    would_drop = tuple((backup, reasons[backup]) for backup in change.would_drop)
    return RetentionChange(archive, would_drop, change.would_keep)


def _flat(policy: Policy) -> dict[str, object]:
    """The values that count, by their dotted place; which file they are from makes no difference."""
    flat: dict[str, object] = {}

    def walk(value: object, place: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(below, f"{place}.{key}" if place else str(key))
        elif value is not None:
            flat[place] = value

    walk(policy.model_dump(mode="json", exclude={"include"}), "")
    return flat


def _said(loaded: LoadedPolicy, place: str) -> str:
    """The value as it is written, or as it is by default."""
    from backupd.policy.value_words import said_value

    written = loaded.written.given(place.split(".")) if loaded.written is not None else None
    if written is not None:
        return said_value(written)
    effective = _flat(loaded.policy).get(place)
    return "nothing" if effective is None else f"{said_value(effective)} (default)"
