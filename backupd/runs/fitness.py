"""Which backups of the archive are known to be damaged or known to be sound, from verdicts and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from backupd.archive import names
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
    that was repaired); a lighter level never does.  ``verdicts`` are all of the
    archive where the caller has read them already: each is a request.
    """
    unfit = {finding.backup_id: finding.sentence() for finding in listing.findings if finding.backup_id}
    for backup_id, found in (verdicts if verdicts is not None else verdicts_by_backup(archive)).items():
        sentence = _standing_damage(found)
        if sentence is not None:
            unfit[backup_id] = sentence
    return unfit


def verified_backups(archive: DatabaseArchive, verdicts: Verdicts | None = None) -> frozenset[str]:
    """Ids of backups whose newest verdict of a whole read is good; ``verdicts`` as for ``unfit_backups``."""
    sound = set()
    for backup_id, found in (verdicts if verdicts is not None else verdicts_by_backup(archive)).items():
        whole = [verdict for verdict in found if _reads_all(verdict)]
        if whole and whole[-1].sound and _standing_damage(found) is None:
            sound.add(backup_id)
    return frozenset(sound)


def _standing_damage(verdicts: Sequence[Verdict]) -> str | None:
    standing: str | None = None
    for verdict in verdicts:
        if not verdict.sound:
            standing = verdict.findings[0] if verdict.findings else f"{verdict.kind} found damage"
        elif _reads_all(verdict):
            standing = None
    return standing


def _reads_all(verdict: Verdict) -> bool:
    return verdict.level == "data" or verdict.kind == "drill"
