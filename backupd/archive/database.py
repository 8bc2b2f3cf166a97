"""One database's part of an archive: list, read, begin a backup; what removes things is in removal.py."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.archive import bare, holds, log_removal, names, removal, sweep
from backupd.archive.envelope import malformed
from backupd.archive.findings import Finding, finding_of
from backupd.archive.listing import Listing, chain_findings
from backupd.archive.objects import read_whole, twice
from backupd.archive.record import AbortRecord, decode_record, mac_of
from backupd.archive.verdict import Verdict, verdict_from_json
from backupd.digests import sha256_hex
from backupd.errors import DamageFound, NotFound, ObjectMissing, Refused
from backupd.model.records import ArchivedBackup, BackupRecord, BackupType, StoredFile, StoredLog
from backupd.pipeline.container import damage
from backupd.steps import step

if TYPE_CHECKING:  # listing must not wait for what only storing and fetching need
    from collections.abc import Mapping, Sequence

    from backupd.archive.lease import DatabaseLease
    from backupd.archive.open_backup import OpenBackup
    from backupd.archive.repository import Repository
    from backupd.pages import Hashes


class DatabaseArchive:
    """The backups of one database."""

    def __init__(self, repository: Repository, name: str, engine: str, dbid: str, identity: str = "") -> None:
        self.repository = repository
        self.store = repository.store
        self.clock = repository.clock
        self.name = name
        self.engine = engine
        self.dbid = dbid
        self.identity = identity
        self.keys = repository.keys
        self.sealed = repository.sealed
        # The lease under which this process writes here; whoever takes one sets it.
        self.lease: DatabaseLease | None = None
        # So long nobody can remove what a backup stores, where the store locks objects; bootstrap knows the policy.
        self.lock_days: int | None = None

    def refuse_another_pair(self, identity: str) -> None:
        """Raises Refused: the backups are of another pair than the one of this ``identity``."""
        if self.identity != identity:
            raise Refused(
                f"{self.store.describe()} holds the backups of another database named {self.name}",
                because=f"they are of the pair {self.identity}, this is the pair {identity}",
                next_step="correct `archive = ...` in the policy: every pair has one of its own" + self._taken_over(),
            )

    def _taken_over(self) -> str:
        """PostgreSQL's identity is the servers' own, and never lost with a directory of ours."""
        if self.engine != "sqlite":
            return ""
        return (
            f"; if it is this very pair, which lost its state directory and its data: backupctl restore {self.name} "
            "puts the archive's state in place of the active's file, and takes the archive over"
        )

    def still_ours(self) -> None:
        """Look whether the lease is still ours, where there is one. Raises Busy, ArchiveUnreachable."""
        if self.lease is not None:
            self.lease.check()

    def retain_until(self) -> datetime | None:
        """Until when an object that is stored now is locked."""
        return None if self.lock_days is None else self.clock.now() + timedelta(days=self.lock_days)

    # --- reading ---

    def list(self, *, since: Listing | None = None) -> Listing:
        """All records, bare fulls without the log that was let go; damage is a finding in the answer.

        What ``since``, a listing of a moment ago, has read is not read again: a record never changes.
        Leave out of it what was deleted since (``Listing.without``).

        Raises:
            ArchiveUnreachable: it cannot be listed.
        """
        backups: dict[str, ArchivedBackup] = {}
        aborted: list[AbortRecord] = []
        findings: list[Finding] = []
        known = {label: one for label, one in since.by_id().items() if label not in since.let_go} if since else {}
        for each in self.store.list(names.records_prefix(self.dbid)):
            label = names.label_in(each.name)
            if each.name != names.record_name(self.dbid, label):
                findings.append(Finding(each.name, "no record has such a name"))
                continue
            try:
                found = known.get(label) or self._record(label)
            except DamageFound as problem:
                findings.append(finding_of(problem, each.name, backup_id=label))
                continue
            except ObjectMissing:
                continue  # deleted since the listing
            if isinstance(found, AbortRecord):
                aborted.append(found)
            else:
                backups[label] = found
        let_go: dict[str, tuple[str, ...]] = {}
        for label in bare.bare_labels(self) & backups.keys():
            backups[label], let_go[label] = bare.as_bare(backups[label])
        record_names = {label: names.record_name(self.dbid, label) for label in backups}
        findings += chain_findings(backups, record_names)
        return Listing(tuple(backups.values()), tuple(aborted), tuple(findings), let_go)

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
        """Write a log file ``to`` (0600), whole and checked, or leave nothing.

        Raises:
            DamageFound, ObjectMissing: as they say.
            KeyMissing: it is encrypted, and no key at hand opens it.
        """
        from backupd.archive.logs import fetch_log

        fetch_log(self.store, stored, to, self.keys)

    def load_map(self, stored: StoredFile) -> Hashes:
        """The page map of a stored file: xxh3-64 of each page. Raises DamageFound, ObjectMissing, KeyMissing."""
        from backupd.pipeline.page_map import load_map

        return twice(self.store, stored.map.name, lambda: load_map(self.store, stored, self.keys))

    def check_mac(self, record: BackupRecord) -> None:
        """Whether an encrypted backup's record is the one that its writer made; says nothing about others.

        Raises:
            DamageFound: somebody without the data key has changed it.
            KeyMissing: no key at hand opens its data key.
        """
        if record.encryption is None:
            return
        name = names.record_name(self.dbid, record.id)
        record = self.get(record.id).record  # as it was written, also where a listing shows a bare full
        if record.encryption is None:
            raise damage(name, "it said that it is encrypted, and says so no more")
        key = self.keys.data_key(name, record.encryption.key)
        if mac_of(record, key, object_name=name, repository=self.repository.uuid) != record.encryption.mac:
            raise damage(name, "it was changed by somebody who does not have the backup's key")

    # --- a new backup ---

    def begin(
        self, backup_type: BackupType, *, parent: ArchivedBackup | None, label: str | None = None, level: int = 3
    ) -> OpenBackup:
        """Announce a backup, then look for deletions: one of the two sees the other (archives.md, section 7.3).

        Raises:
            Busy: a deletion is going on, or was interrupted (``sweep`` finishes it); or the lease was taken over.
            ConfigInvalid: a recipient of the policy is none.
            Refused: the parent is being deleted, or is deleted; take a full.
            ObjectExists: the label is taken.
        """
        from backupd.archive.begin import begin_backup

        return begin_backup(self, backup_type, parent, label, level)

    # --- verdicts ---

    def write_verdict(self, verdict: Verdict, suffix: str = "") -> str:
        """Keep what a verify or a drill found; answers with the object's name, which ends with ``suffix``.

        Raises:
            ObjectExists: there is one of that name, which stays.
        """
        name = names.verdict_name(self.dbid, verdict.backup_id, verdict.at, suffix or secrets.token_hex(4))
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
        except (KeyError, ValueError, TypeError, AttributeError) as problem:
            raise malformed(name, problem) from problem

    # --- holds ---

    def hold(self, backup_id: str, *, reason: str, by: str) -> holds.BackupHold:
        """Keep a backup, and so all that it builds on, until the hold is released.

        Raises:
            NotFound: there is none of that id.
            Refused: it is being deleted.
        """
        return holds.place_hold(self, backup_id, reason=reason, by=by)

    def release(self, hold: holds.BackupHold) -> None:
        """Take a hold away; it may be gone already."""
        holds.release_hold(self, hold)

    def holds(self, backup_id: str = "") -> tuple[holds.BackupHold, ...]:
        """The holds on a backup, or all; one that is damaged still holds, and says so."""
        return holds.holds_of(self, backup_id)

    # --- removal (removal.py and sweep.py have the rules) ---

    def delete_backup(
        self, backup_id: str, *, reason: str, by: str = "", since: Listing | None = None
    ) -> removal.Removed:
        """Delete a backup that nothing builds on, and what only it needed; goes on with a half-done deletion.

        ``since`` is as for ``list``: of sixty backups it saves a hundred requests.

        Raises:
            Refused: a committed backup builds on it, or a hold keeps it.
            Busy: a backup is being made.
            NotFound: there is none of that id.
        """
        return removal.delete_backup(self, backup_id, reason=reason, by=by, since=since)

    def let_log_go(self, spare: Mapping[str, Sequence[str]], *, reason: str) -> None:
        """Note that these fulls are bare: the log files before them lead nowhere, and ``prune_logs`` removes them."""
        bare.note_bare(self, spare, reason=reason)

    def prune_logs(self, *, reason: str) -> removal.Removed:
        """Remove log objects that no backup names and that none can come to need. Raises Busy."""
        return log_removal.prune_logs(self, reason=reason)

    def sweep(self, *, holding_lease: bool) -> sweep.Swept:
        """Fence dead backups, remove what they left, finish interrupted deletions; reports what it must not touch."""
        return sweep.sweep(self, holding_lease=holding_lease)

    def orphans(self) -> tuple[Finding, ...]:
        """Objects of backups without record, intent and tomb: their record was lost. Nothing removes them."""
        return sweep.orphans(self)
