"""Which backups of the archive are known to be damaged or known to be sound, from verdicts and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.archive.coverage import coverage_of
from backupd.decide.chains import unfit_by_pages
from backupd.errors import DamageFound, ObjectMissing

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.archive.listing import Listing
    from backupd.archive.verdict import Verdict


def verdicts_by_backup(archive: DatabaseArchive) -> dict[str, list[Verdict]]:
    """Every readable verdict, oldest first, by the backup that it is about.

    A damaged verdict is left out here, for it says nothing; verify names it.
    """
    found: dict[str, list[Verdict]] = {}
    for each in archive.store.list(names.verdicts_prefix(archive.dbid)):
        with suppress(DamageFound, ObjectMissing):
            verdict = archive.read_verdict(each.name)
            found.setdefault(verdict.backup_id, []).append(verdict)
    for verdicts in found.values():
        verdicts.sort(key=lambda verdict: verdict.at)
    return found


Verdicts = Mapping[str, Sequence["Verdict"]]


def unfit_backups(archive: DatabaseArchive, listing: Listing, verdicts: Verdicts | None = None) -> dict[str, str]:
    """Ids of backups that nothing may build on or be restored from, each with the reason.

    A newer sound verdict of a whole read takes an older bad one back (a medium
    that was repaired); a lighter level never does, nor does a sample.  ``verdicts`` are all of the
    archive where the caller has read them already: each is a request.
    """
    unfit = {finding.backup_id: finding.sentence() for finding in listing.findings if finding.backup_id}
    for backup_id, said in (verdicts_by_backup(archive) if verdicts is None else verdicts).items():
        bad = standing_damage(said)
        if bad is not None:
            unfit[backup_id] = damage_sentence(bad)
    return unfit_by_pages(listing.backups, unfit)


def verified_backups(
    archive: DatabaseArchive, listing: Listing | None = None, verdicts: Verdicts | None = None
) -> frozenset[str]:
    """Ids of backups of which every byte was read and found sound since it was written, in one verify or in several.

    ``listing`` and ``verdicts`` are read from the archive when they are not given.
    """
    backups = (listing or archive.list()).backups
    verdicts = verdicts_by_backup(archive) if verdicts is None else verdicts
    coverage = coverage_of(backups, verdicts)
    return frozenset(
        backup.record.id
        for backup in backups
        if standing_damage(verdicts.get(backup.record.id, ())) is None and coverage.is_whole(backup.record)
    )


def standing_damage(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The newest verdict of damage that no whole sound read has taken back since; ``verdicts`` are oldest first."""
    standing: Verdict | None = None
    for verdict in verdicts:
        if verdict.finds_damage:
            standing = verdict
        elif verdict.sound and verdict.whole:
            standing = None
    return standing


def damage_sentence(bad: Verdict) -> str:
    """What an unsound verdict found, in one sentence."""
    return bad.findings[0] if bad.findings else f"{bad.kind} found damage"


def doubted_objects(verdicts: Sequence[Verdict]) -> frozenset[str]:
    """Names of objects that were found damaged, and for which no whole sound read has stood up since."""
    doubted: set[str] = set()
    for verdict in verdicts:
        if verdict.whole and verdict.sound:
            doubted.clear()
        doubted.update(verdict.damaged)
    return frozenset(doubted)
