"""What the archive held when it was last seen, kept beside the journal so that ``status`` is quick and never blind."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupd.archive import names
from backupd.archive.coverage import coverage_of
from backupd.errors import ArchiveUnreachable, BackupdError, NotFound, NotHealthy
from backupd.journal.records import JsonValue
from backupd.model.records import ArchivedBackup, BackupType
from backupd.runs.context import RunContext
from backupd.steps import step

_FILE_NAME, _SECOND_FILE_NAME = "archive-view.json", "second-archive-view.json"


@dataclass(frozen=True, slots=True)
class ArchiveView:
    """The few facts of the archive that ``status`` shows; ``names`` tell whether the archive has changed since."""

    seen_at: datetime
    names: tuple[str, ...]
    last_full: dict[str, JsonValue] | None
    last_incremental: dict[str, JsonValue] | None
    recovery_window: dict[str, JsonValue] | None
    findings: tuple[str, ...]
    archive: str = ""
    verified: dict[str, JsonValue] | None = None
    last_drill: dict[str, JsonValue] | None = None
    last_proven: dict[str, JsonValue] | None = None
    last_passed_drill_at: str | None = None
    expected_restore_seconds: float | None = None

    def record_ids(self) -> frozenset[str]:
        """The ids of all records, aborted ones too."""
        return frozenset(names.label_in(name) for name in self.names if names.is_record(name))


def refuse_vanished(context: RunContext) -> None:
    """An archive that held backups and holds nothing now is not begun anew: an unmounted disk looks like this.

    Raises:
        ArchiveUnreachable: it is away, or empty although it held records when it was last seen.
    """
    kept = remembered(context)
    if kept is None or not kept.names or kept.archive != context.policy.archive:
        return
    try:
        context.archive()
    except NotFound as nothing:
        raise ArchiveUnreachable(
            f"the archive {context.policy.archive} is empty now",
            because=f"it held {len(kept.names)} records at {kept.seen_at.isoformat(timespec='seconds')}; "
            "a disk that is not mounted looks like this",
            next_step=f"mount it; or, to begin a new archive at that place on purpose: rm {_place(context)}",
        ) from nothing


def remember_archive(context: RunContext) -> ArchiveView:
    """Read the archive's listing and keep what ``status`` needs of it.

    Raises:
        ArchiveUnreachable: it cannot be read; what was kept before stays.
        NotHealthy: the state directory cannot be written.
    """
    view = look(context)
    _write(_place(context), view)
    return view


def remember_quietly(context: RunContext) -> None:
    """Refresh what ``status`` knows of the archive; it reads the archive itself when this is missing."""
    with suppress(BackupdError):
        remember_archive(context)


def remembered(context: RunContext) -> ArchiveView | None:
    """What was kept last; None when nothing was, or it cannot be understood."""
    try:
        found = json.loads(_place(context).read_text(encoding="utf-8"))
        return ArchiveView(
            seen_at=datetime.fromisoformat(found["seen_at"]),
            names=tuple(found["names"]),
            last_full=found["last_full"],
            last_incremental=found["last_incremental"],
            recovery_window=found["recovery_window"],
            findings=tuple(found["findings"]),
            archive=str(found.get("archive", "")),
            verified=found.get("verified"),
            last_drill=found.get("last_drill"),
            last_proven=found.get("last_proven"),
            last_passed_drill_at=found.get("last_passed_drill_at"),
            expected_restore_seconds=found.get("expected_restore_seconds"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_names(context: RunContext) -> tuple[str, ...]:
    """The names of the backups' records, verdicts and tombs; equal names mean an equal archive: nothing is overwritten.

    Only lists, and opens no record, so that ``status`` is quick.

    Raises:
        ArchiveUnreachable: it cannot be listed.
    """
    store = context.open_store()
    dbid = names.database_id(context.database, context.engine)
    prefixes = (names.records_prefix(dbid), names.verdicts_prefix(dbid), names.tombs_prefix(dbid))
    return tuple(found.name for prefix in prefixes for found in store.list(prefix))


def look(context: RunContext) -> ArchiveView:
    """The archive as it is now. Raises ArchiveUnreachable."""
    now = context.clock.now()
    known = record_names(context)
    try:
        archive = context.archive()
        listing = archive.list()
    except NotFound:
        return ArchiveView(now, known, None, None, None, (), context.policy.archive)
    from backupd.decide.drill import expected_of_state, last_proven
    from backupd.decide.restore_path import recovery_windows
    from backupd.runs.drill_facts import drill_json, past_drills
    from backupd.runs.fitness import unfit_backups, verdicts_by_backup

    verdicts = verdicts_by_backup(archive)
    drills = past_drills(verdicts)
    proven = last_proven(drills, listing.labels())
    unfit = unfit_backups(archive, listing, verdicts)
    verified = coverage_of(listing.backups, verdicts).share_of(listing.backups)
    windows = recovery_windows(listing.backups, unfit=unfit)
    window: dict[str, JsonValue] | None = None
    if windows:
        last = windows[-1]
        window = {"from": last.from_time.isoformat(), "to": last.to_time.isoformat()}
        window |= {"from_position": str(last.from_position), "to_position": str(last.to_position)}
    return ArchiveView(
        seen_at=now,
        names=known,
        last_full=_last(backup for backup in listing.backups if backup.record.type.is_full),
        last_incremental=_last(one for one in listing.backups if one.record.type is BackupType.INCREMENTAL),
        recovery_window=window,
        findings=tuple(f"backup {backup_id} is damaged: {sentence}" for backup_id, sentence in unfit.items()),
        archive=context.policy.archive,
        verified=dict(verified.to_json()),
        last_drill=drill_json(drills[-1] if drills else None),
        last_proven=drill_json(proven),
        last_passed_drill_at=max((one.at.isoformat() for one in drills if one.passed), default=None),
        expected_restore_seconds=expected_of_state(drills, proven),
    )


def _place(context: RunContext) -> Path:
    return context.state_dir / (_FILE_NAME if context.first is None else _SECOND_FILE_NAME)


def _last(backups: Iterable[ArchivedBackup]) -> dict[str, JsonValue] | None:
    records = [backup.record for backup in backups]
    if not records:
        return None
    record = max(records, key=lambda one: (one.finished_at, one.id))
    return {
        "id": record.id,
        "type": record.type.value,
        "started_at": record.started_at.isoformat(),
        "finished_at": record.finished_at.isoformat(),
        "covers_until": record.covers_until.isoformat(),
        "log_end": str(record.log_end),
        "read_bytes": record.read_bytes,
        "stored_bytes": record.stored_bytes,
        "frozen_seconds": record.frozen_seconds,
    }


def _write(path: Path, view: ArchiveView) -> None:
    text = json.dumps(
        {
            "seen_at": view.seen_at.isoformat(),
            "names": list(view.names),
            "last_full": view.last_full,
            "last_incremental": view.last_incremental,
            "recovery_window": view.recovery_window,
            "findings": list(view.findings),
            "archive": view.archive,
            "verified": view.verified,
            "last_drill": view.last_drill,
            "last_proven": view.last_proven,
            "last_passed_drill_at": view.last_passed_drill_at,
            "expected_restore_seconds": view.expected_restore_seconds,
        }
    )
    step("runs.archive_view")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        # No fsync: it is made anew from the archive when it is lost.
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise NotHealthy(
            f"cannot write {path}",
            because=error.strerror or str(error),
            next_step=f"make room and allow writing in {path.parent}",
        ) from error
