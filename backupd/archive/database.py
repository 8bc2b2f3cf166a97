"""One database's part of an archive: list, read, begin a backup; what removes things is in removal.py."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.archive import names, removal, sweep
from backupd.archive.envelope import malformed
from backupd.archive.findings import Finding, finding_of
from backupd.archive.holder import this_process
from backupd.archive.intent import Intent
from backupd.archive.listing import Listing, chain_findings
from backupd.archive.objects import Sealed, read_whole, twice
from backupd.archive.record import AbortRecord, decode_record
from backupd.archive.verdict import Verdict, verdict_from_json
from backupd.digests import sha256_hex
from backupd.errors import Busy, DamageFound, NotFound, ObjectMissing, Refused
from backupd.model.records import ArchivedBackup, BackupType, StoredFile, StoredLog
from backupd.steps import step

if TYPE_CHECKING:  # listing must not wait for what only storing and fetching need
    from backupd.archive.open_backup import OpenBackup
    from backupd.archive.repository import Repository
    from backupd.pages import Hashes


class DatabaseArchive:
    """The backups of one database."""

    def __init__(self, repository: Repository, name: str, engine: str, dbid: str) -> None:
        self.repository = repository
        self.store = repository.store
        self.clock = repository.clock
        self.name = name
        self.engine = engine
        self.dbid = dbid
        self.sealed = Sealed(repository.store, repository.uuid)
        # So long nobody can remove what a backup stores, where the store locks objects; bootstrap knows the policy.
        self.lock_days: int | None = None

    def retain_until(self) -> datetime | None:
        """Until when an object that is stored now is locked."""
        return None if self.lock_days is None else self.clock.now() + timedelta(days=self.lock_days)

    # --- reading ---

    def list(self) -> Listing:
        """All records. Raises ArchiveUnreachable; damage is a finding in the answer."""
        backups: dict[str, ArchivedBackup] = {}
        aborted: list[AbortRecord] = []
        findings: list[Finding] = []
        for each in self.store.list(names.records_prefix(self.dbid)):
            label = names.label_in(each.name)
            if each.name != names.record_name(self.dbid, label):
                findings.append(Finding(each.name, "no record has such a name"))
                continue
            try:
                found = self._record(label)
            except DamageFound as problem:
                findings.append(finding_of(problem, each.name, backup_id=label))
                continue
            except ObjectMissing:
                continue  # deleted since the listing
            if isinstance(found, AbortRecord):
                aborted.append(found)
            else:
                backups[label] = found
        record_names = {label: names.record_name(self.dbid, label) for label in backups}
        findings += chain_findings(backups, record_names)
        return Listing(tuple(backups.values()), tuple(aborted), tuple(findings))

    def get(self, backup_id: str) -> ArchivedBackup:
        """One committed backup.

        Raises:
            NotFound: there is none of that id, or it was aborted.
            DamageFound: its record is damaged.
        """
        because = "the archive has no record of it"
        if names.is_label(backup_id):
            try:
                found = self._record(backup_id)
            except ObjectMissing:
                pass
            else:
                if isinstance(found, ArchivedBackup):
                    return found
                because = f"it was aborted: {found.reason}"
        else:
            because = "that is not a backup's id (one looks like 20261122T010000Z-F-1a2b3c4d)"
        raise NotFound(
            f"there is no backup {backup_id} of {self.name}",
            because=because,
            next_step=f"see what there is: backupctl list {self.name}",
        )

    def _record(self, label: str) -> ArchivedBackup | AbortRecord:
        name = names.record_name(self.dbid, label)

        def look() -> ArchivedBackup | AbortRecord:
            data = read_whole(self.store, name)
            record = decode_record(name, data, self.repository.uuid)
            if record.id != label:
                raise malformed(name, ValueError(record.id))
            return record if isinstance(record, AbortRecord) else ArchivedBackup(record, sha256_hex(data))

        return twice(self.store, name, look)

    def fetch_log(self, stored: StoredLog, to: Path) -> None:
        """Write a log file ``to`` (0600), whole and checked, or leave nothing. Raises DamageFound, ObjectMissing."""
        from backupd.archive.logs import fetch_log

        fetch_log(self.store, stored, to)

    def load_map(self, stored: StoredFile) -> Hashes:
        """The page map of a stored file: xxh3-64 of each page. Raises DamageFound, ObjectMissing."""
        from backupd.pipeline.fetch import load_map

        return twice(self.store, stored.map.name, lambda: load_map(self.store, stored))

    # --- a new backup ---

    def begin(
        self, backup_type: BackupType, *, parent: ArchivedBackup | None, label: str | None = None, level: int = 3
    ) -> OpenBackup:
        """Announce a backup, then look for deletions: one of the two sees the other (archives.md, section 7.3).

        Raises:
            Busy: a deletion is going on, or was interrupted (``sweep`` finishes it).
            Refused: the parent is being deleted; take a full.
            ObjectExists: the label is taken.
        """
        from backupd.archive.open_backup import OpenBackup

        label = label or self._free_label(backup_type)
        intent = Intent(
            label=label,
            holder=this_process(),
            started_at=self.clock.now(),
            parent=parent.record.id if parent else None,
            nonce=secrets.token_hex(16),
        )
        step("archive.intent")
        self.sealed.create("intent", names.intent_name(self.dbid, label), intent.to_json())
        backup = OpenBackup(self, intent, parent, level)
        try:
            step("archive.tombs")
            self._refuse_tombs(parent)
        except BaseException:
            backup.withdraw()
            raise
        return backup

    def _refuse_tombs(self, parent: ArchivedBackup | None) -> None:
        tombs = [each.name for each in self.store.list(names.tombs_prefix(self.dbid))]
        if parent and names.tomb_name(self.dbid, parent.record.id) in tombs:
            raise Refused(
                f"the backup {parent.record.id} cannot be built on",
                because="it is being deleted",
                next_step=f"take a full: backupctl backup {self.name} --type full",
                tombed=parent.record.id,
            )
        if tombs:
            raise Busy(
                f"a backup of {self.name} cannot begin now",
                because=f"a deletion is going on or was interrupted: {tombs[0]}",
                next_step="let it finish, or finish it: backupctl recover",
            )

    def _free_label(self, backup_type: BackupType) -> str:
        """A label later than every other one, so that labels sort as backups happened, whatever the clock did."""
        at = self.clock.now().replace(microsecond=0)  # as the label will say it
        last = ""
        for prefix in (names.records_prefix(self.dbid), names.intents_prefix(self.dbid)):
            for each in self.store.list(prefix):
                last = max(last, names.label_in(each.name))
        if last:
            latest = names.parse_label(last).at
            # A clock that was days ahead once must not push labels into the future for ever.
            if at <= latest <= at + timedelta(days=1):
                at = latest + timedelta(seconds=1)
        return names.new_label(at, backup_type, secrets.token_hex(4))

    # --- verdicts ---

    def write_verdict(self, verdict: Verdict) -> str:
        """Keep what a verify or a drill found; answers with the object's name."""
        name = names.verdict_name(self.dbid, verdict.backup_id, verdict.at, secrets.token_hex(4))
        step("archive.verdict")
        self.sealed.create("verdict", name, verdict.to_json())
        self.store.sync()
        return name

    def verdicts(self, backup_id: str) -> tuple[Verdict, ...]:
        """What was found about a backup, oldest first. Raises DamageFound."""
        prefix = names.verdicts_prefix(self.dbid, backup_id)
        return tuple(self.read_verdict(each.name) for each in self.store.list(prefix))

    def read_verdict(self, name: str) -> Verdict:
        """One verdict. Raises DamageFound, ObjectMissing."""
        content = self.sealed.read("verdict", name)
        try:
            return verdict_from_json(content)
        except (KeyError, ValueError, TypeError) as problem:
            raise malformed(name, problem) from problem

    # --- removal (removal.py and sweep.py have the rules) ---

    def delete_backup(self, backup_id: str, *, reason: str, by: str = "") -> removal.Removed:
        """Delete a backup that nothing builds on, and what only it needed; goes on with a half-done deletion.

        Raises:
            Refused: a committed backup builds on it.
            Busy: a backup is being made.
            NotFound: there is none of that id.
        """
        return removal.delete_backup(self, backup_id, reason=reason, by=by)

    def prune_logs(self, *, reason: str) -> removal.Removed:
        """Remove log objects that no backup names and that none can come to need. Raises Busy."""
        return removal.prune_logs(self, reason=reason)

    def sweep(self, *, holding_lease: bool) -> sweep.Swept:
        """Fence dead backups, remove what they left, finish interrupted deletions; reports what it must not touch."""
        return sweep.sweep(self, holding_lease=holding_lease)

    def orphans(self) -> tuple[Finding, ...]:
        """Objects of backups without record, intent and tomb: their record was lost. Nothing removes them."""
        return sweep.orphans(self)
