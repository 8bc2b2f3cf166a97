"""What killed runs may leave in an archive once it was recovered: of six kinds, each named and with a bound.

* ``abort``: the ABORT record of a backup that was given up, one for each backup that died and for each express that
  became a full; it keeps a zombie from committing, and goes after 30 days.
* ``lease``: the highest term of the lease, one.
* ``log``: log files of a backup that was given up, which the next backup names or a prune removes; those of a full
  that could not bring all the log before it, and says so; and those that the note of a bare full lets go: a prune
  removes both.
* ``copy``: in a second archive a half-done copy, under the note that names its backup; the next copy goes on
  with it.
* ``probe``: in a bucket, what was written to try the server out when the process died there, at most four small
  objects.
* ``tomb``: in a bucket, the order of a deletion that died, for an hour: a request of its may arrive so late.

Everything else in an archive is needed by a backup that is listed, or is about it.
"""

from __future__ import annotations

from collections import Counter

from backupd.archive import names
from backupd.archive.copy_intent import copy_intents, read_copy_intent
from backupd.archive.database import DatabaseArchive
from backupd.archive.listing import Listing
from backupd.archive.log_removal import log_of
from backupd.model.records import ArchivedBackup
from backupd.ports import ProbedStore

_ABOUT = ("verify", "hold", "bare")
_COPIED = ("data", "map", "intent")
_PROBE_OBJECTS_MAX = 4


def garbage_is_bounded_and_named(archive: DatabaseArchive, when: str, *, deaths: int = 1) -> None:
    """After so many runs died; what nobody can name fails."""
    found = garbage(archive)
    assert found["abort"] <= deaths, f"{when}: {found}"
    assert found["lease"] <= 1, f"{when}: {found}"
    assert found["tomb"] <= (deaths if isinstance(archive.store, ProbedStore) else 0), f"{when}: {found}"
    assert found["probe"] <= _PROBE_OBJECTS_MAX * deaths, f"{when}: {found}"
    assert set(found) <= {"abort", "lease", "log", "copy", "probe", "tomb"}, f"{when}: {found}"


def garbage(archive: DatabaseArchive) -> Counter[str]:
    """How many objects there are of each kind; what is of none is a kind of its own, by its name."""
    listing = archive.list()
    needed = {names.REPOSITORY, names.identity_name(archive.dbid)}
    for backup in listing.backups:
        needed |= _needed(archive, backup)
    aborted = {abort.id for abort in listing.aborted}
    notes = [read_copy_intent(archive, name) for name in copy_intents(archive)]
    copied, copied_logs = {note.label for note in notes}, {name for note in notes for name in note.logs}
    let_go = {name for gone in listing.let_go.values() for name in gone}
    found: Counter[str] = Counter()
    for each in archive.store.list(""):
        if each.name in needed:
            continue
        kind, label = each.name.split("/")[2] if each.name.startswith("db/") else "", names.label_in(each.name)
        if kind in _ABOUT and label in listing.by_id():
            continue
        if kind == "backup" and label in aborted:
            found["abort"] += 1
        elif kind == "lease":
            found["lease"] += 1
        elif (kind in _COPIED and label in copied) or each.name in copied_logs:
            found["copy"] += 1
        elif each.name in let_go or (kind == "log" and _stored_by(archive, each.name) in {*aborted, *_gapped(listing)}):
            found["log"] += 1
        elif each.name.startswith("probe/"):
            found["probe"] += 1
        elif kind == "tomb":
            found["tomb"] += 1
        else:
            found[each.name] += 1
    return found


def _gapped(listing: Listing) -> set[str]:
    """The fulls that say that they could not bring the log since the chain before them."""
    said = "cannot be restored"
    return {one.record.id for one in listing.backups if any(said in note for note in one.record.notes)}


def _needed(archive: DatabaseArchive, backup: ArchivedBackup) -> set[str]:
    record = backup.record
    named = {names.record_name(archive.dbid, record.id), *(stored.name for stored in record.logs)}
    for file in record.files:
        named |= {file.map.name, *(segment.name for segment in file.segments)}
    return named


def _stored_by(archive: DatabaseArchive, name: str) -> str:
    head = log_of(archive, name)
    return head[1] if head else ""
