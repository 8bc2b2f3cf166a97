"""Bare fulls: their record names log before them that nothing kept leads along, and that log may be gone.

A record is never changed.  So a note beside it says that this log was let go, and
every listing shows the record without it: nothing restores along it, nothing
builds on it, nothing misses it.  The note is durable before the log is deleted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.errors import ObjectExists
from backupd.model.records import ArchivedBackup, own_logs
from backupd.steps import step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backupd.archive.database import DatabaseArchive


def note_bare(archive: DatabaseArchive, spare: Mapping[str, Sequence[str]], *, reason: str) -> None:
    """See ``DatabaseArchive.let_log_go``."""
    for label, log_names in spare.items():
        content = {"label": label, "reason": reason, "at": archive.clock.now().isoformat(), "logs": list(log_names)}
        step("archive.bare")
        with suppress(ObjectExists):
            archive.sealed.create("bare", names.bare_name(archive.dbid, label), content)
    if spare:
        archive.store.sync()


def bare_labels(archive: DatabaseArchive) -> frozenset[str]:
    """Which fulls are bare; the names of the notes say it, so none is opened."""
    found = (names.label_in(each.name) for each in archive.store.list(names.bares_prefix(archive.dbid)))
    return frozenset(label for label in found if label)


def as_bare(backup: ArchivedBackup) -> tuple[ArchivedBackup, tuple[str, ...]]:
    """The backup with only the log that its own pages need, and the names of the log files that this leaves out."""
    own = own_logs(backup.record)
    kept = {stored.name for stored in own}
    gone = tuple(stored.name for stored in backup.record.logs if stored.name not in kept)
    return replace(backup, record=replace(backup.record, logs=own)), gone
