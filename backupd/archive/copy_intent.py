"""Notes in an archive that a backup is being copied into it, and what becomes of a copy that was left half done.

A copy is made of the same bytes whoever makes it, so one that died may be gone
on with by anybody: what it has brought stays, under its note.  It is given up
(fenced and removed) only when its backup is nowhere else any more, or after a
week.  A deletion refuses while a copy is under way, as it does for a backup.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from backupd.archive import names, tombs
from backupd.archive.envelope import malformed
from backupd.archive.holder import Holder, this_process
from backupd.archive.objects import delete_all
from backupd.archive.open_backup import fence, remove_parts
from backupd.errors import BackupdError, Busy, DamageFound, ObjectMissing, Refused
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# When a holder on another host is given up.  Its note goes then, and it looks for its note before it commits.
_OTHER_HOST_AFTER = timedelta(hours=24)
# How long a half-done copy waits to be gone on with where nobody knows whether its backup is still elsewhere.
_KEPT_AFTER_DEATH = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class CopyIntent:
    """A copy that began: of which backup, by whom, since when, and the log objects that it may bring.

    ``resting``: nobody works on it now; it says whose the objects are that are here without a record.
    """

    name: str
    label: str
    holder: Holder
    started_at: datetime
    logs: tuple[str, ...]
    resting: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the object."""
        return {
            "label": self.label,
            "holder": self.holder.to_json(),
            "started_at": self.started_at.isoformat(),
            "logs": list(self.logs),
            "resting": self.resting,
        }

    def is_over(self, now: datetime) -> bool:
        """Whether nobody works on it any more, as far as can be told from here without a lease."""
        if self.resting:
            return True
        if self.holder.is_of_this_host():
            return self.holder.is_gone()
        return now - self.started_at > _OTHER_HOST_AFTER


def announce(archive: DatabaseArchive, label: str, logs: Collection[str]) -> CopyIntent:
    """Say that this process copies a backup into ``archive``; what earlier tries of ours said is taken back.

    The caller holds the database's lease: an earlier try from this host is dead.

    Raises:
        Busy: a deletion is going on there, or was interrupted.
    """
    earlier = [each.name for each in archive.store.list(_prefix(archive, label))]
    made = _written(archive, label, tuple(sorted(logs)), this_process(), resting=False)
    try:
        step("copy.tombs")
        for tomb in archive.store.list(names.tombs_prefix(archive.dbid)):
            if names.order_in(tomb.name)[0] != label and _orders_nothing_of(archive, tomb.name, made.logs):
                continue
            raise Busy(
                f"the backup {label} cannot be copied to {archive.store.describe()} now",
                because=f"a deletion is going on there or was interrupted: {tomb.name}",
                next_step="let it finish, or finish it: backupctl recover",
            )
    except BaseException:
        with suppress(BackupdError):
            archive.store.delete(made.name)
        raise
    for name in earlier:
        if _is_ours_to_end(archive, name):
            archive.store.delete(name)
    return made


def _orders_nothing_of(archive: DatabaseArchive, tomb: str, logs: Collection[str]) -> bool:
    """Whether it is a sleeper's, whose deletion may go on at any time, of log files that this copy does not need."""
    return tombs.of_another(archive, tomb) and not set(tombs.ordered_logs(archive, tomb)) & set(logs)


def still_announced(archive: DatabaseArchive, intent: CopyIntent) -> None:
    """Raises Refused when somebody took the note away, for then what was copied may be gone again."""
    try:
        archive.store.stat(intent.name)
    except ObjectMissing:
        raise Refused(
            f"the copy of {intent.label} was given up before it was complete",
            because="another process took it for dead",
            next_step=f"copy it again: backupctl copy-archive {archive.name}",
        ) from None


def rest(archive: DatabaseArchive, intent: CopyIntent) -> None:
    """Nobody works on this copy now; what it has brought stays, under a note that says so. May be repeated."""
    label, dbid = intent.label, archive.dbid
    prefixes = (names.data_prefix(dbid, label), names.maps_prefix(dbid, label))
    parts = any(True for prefix in prefixes for _ in archive.store.list(prefix))
    if parts or _brought_logs(archive, intent):
        _written(archive, label, intent.logs, intent.holder, resting=True)
    archive.store.delete(intent.name)


def refuse_live_copy(archive: DatabaseArchive, name: str) -> None:
    """For a deletion: a copy that is under way stops it, one that is over does not. Raises Busy, DamageFound."""
    intent = read_copy_intent(archive, name)
    if not intent.is_over(archive.clock.now()):
        raise Busy(
            f"nothing of {archive.name} can be deleted in {archive.store.describe()} now",
            because=f"the backup {intent.label} is being copied there from {intent.holder.host} "
            f"by process {intent.holder.pid}",
            next_step="wait for it, or end what is left of it: backupctl recover",
        )
    if not intent.resting and not intent.holder.is_of_this_host():
        rest(archive, intent)  # the note is what it looks for before it commits


def settle_copies(archive: DatabaseArchive, held: Collection[str]) -> tuple[str, ...]:
    """End the copies that nobody works on: done ones lose their note, and hopeless ones what they brought.

    The caller holds the database's lease.  ``held`` are the ids that the other
    archive still holds: a copy of those is left, to be gone on with.
    """
    committed = archive.list().by_id()
    sentences = []
    for each in list(copy_intents(archive)):
        label = names.label_in(each)
        if label in committed:
            archive.store.delete(each)
        elif label not in held and _is_ours_to_end(archive, each):
            sentences += _given_up(archive, each, "its backup is in the first archive no longer")
    return tuple(sentences)


def end_old_copies(archive: DatabaseArchive) -> tuple[str, ...]:
    """Give up what was left half done a week ago, for an archive that is nobody's second one any more."""
    sentences = []
    for each in list(copy_intents(archive)):
        with suppress(ObjectMissing, DamageFound):
            intent = read_copy_intent(archive, each)
            now = archive.clock.now()
            if now - intent.started_at > _KEPT_AFTER_DEATH and intent.is_over(now):
                sentences += _given_up(archive, each, "nobody went on with it for a week")
    return tuple(sentences)


def copy_intents(archive: DatabaseArchive) -> Iterator[str]:
    """The names of all notes about copies."""
    for each in archive.store.list(names.intents_prefix(archive.dbid)):
        if names.is_copy_intent(each.name):
            yield each.name


def read_copy_intent(archive: DatabaseArchive, name: str) -> CopyIntent:
    """Read one. Raises ObjectMissing, DamageFound."""
    content = archive.sealed.read("intent", name)
    try:
        return CopyIntent(
            name=name,
            label=content["label"],
            holder=Holder(**content["holder"]),
            started_at=datetime.fromisoformat(content["started_at"]),
            logs=tuple(content["logs"]),
            resting=content["resting"],
        )
    except (KeyError, ValueError, TypeError) as problem:
        raise malformed(name, problem) from problem


def _written(
    archive: DatabaseArchive, label: str, logs: tuple[str, ...], holder: Holder, *, resting: bool
) -> CopyIntent:
    name = names.copy_intent_name(archive.dbid, label, secrets.token_hex(4))
    intent = CopyIntent(name, label, holder, archive.clock.now(), logs, resting)
    step("copy.intent")
    archive.sealed.create("intent", name, intent.to_json())
    return intent


def _prefix(archive: DatabaseArchive, label: str) -> str:
    return names.copy_intent_name(archive.dbid, label, "").removesuffix(".json")


def _is_ours_to_end(archive: DatabaseArchive, name: str) -> bool:
    """Whether its holder is dead: of this host (we hold the lease), or so old that it is taken for dead."""
    try:
        intent = read_copy_intent(archive, name)
    except ObjectMissing:
        return False
    except DamageFound:
        return True
    return intent.holder.is_of_this_host() or intent.is_over(archive.clock.now())


def _brought_logs(archive: DatabaseArchive, intent: CopyIntent) -> list[str]:
    """Log objects of the copy that are here and that no committed backup names; none while a record is unreadable."""
    listing = archive.list()
    if listing.findings or not intent.logs:
        return []
    named = {stored.name for backup in listing.backups for stored in backup.record.logs}
    here = {each.name for each in archive.store.list(names.logs_prefix(archive.dbid))}
    return [name for name in intent.logs if name in here and name not in named]


def _given_up(archive: DatabaseArchive, name: str, because: str) -> list[str]:
    """Fence the copy and remove what it brought, but nothing that another copy or a backup counts on."""
    store, label = archive.store, names.label_in(name)
    try:
        fence(archive, label, f"its copy was given up: {because}")
    except Refused:
        store.delete(name)  # it had committed
        return []
    except DamageFound:
        return []  # its record is there and damaged: verify reports it, nothing is removed
    step("copy.give_up")
    count, size = remove_parts(archive, label)
    store.delete(names.bare_name(archive.dbid, label))
    with suppress(ObjectMissing, DamageFound):
        intent = read_copy_intent(archive, name)
        others = [each for each in store.list(names.intents_prefix(archive.dbid)) if names.label_in(each.name) != label]
        if not others:
            more, more_size = delete_all(store, [store.stat(log) for log in _brought_logs(archive, intent)])
            count, size = count + more, size + more_size
    store.sync()
    store.delete(name)
    what = f"the half-done copy of {label} ({count} objects, {size} bytes)"
    return [f"{what} was removed from {store.describe()}: {because}"]
