"""Collects why each backup is kept, and knows who builds on whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backupd.decide.reasons import Reason
from backupd.decide.record_order import in_order
from backupd.model.records import BackupRecord, BackupType


class Keeper:
    """The reasons found so far, by the backup's id; ``newest_first`` is in the order of histories, not of names.

    Args:
        backups: every committed backup of one database.
        damaged: ids that are known to be damaged, with a sentence.
        current_history: the one that the pair lives in now, where it is known.
    """

    def __init__(
        self, backups: Sequence[BackupRecord], damaged: Mapping[str, str], current_history: str | None = None
    ) -> None:
        self.newest_first = in_order(backups, current_history)[::-1]
        self.known = {record.id: record for record in backups}
        self.damaged = damaged
        self.reasons: dict[str, list[Reason]] = {}
        self._children: dict[str, list[BackupRecord]] = {}
        for record in self.newest_first:
            if record.parent is not None:
                self._children.setdefault(record.parent, []).append(record)

    def keep(self, records: Iterable[BackupRecord], code: str, sentence: str) -> None:
        """Keep each of ``records`` for one more reason."""
        for record in records:
            self.reasons.setdefault(record.id, []).append(Reason(code, sentence))

    def keep_chain(self, full: BackupRecord, code: str, sentence: str) -> None:
        """Keep a full and everything that builds on it."""
        self.keep(self.chain(full), code, sentence)

    def fulls(self) -> list[BackupRecord]:
        """Newest first; copies are not among them."""
        return [record for record in self.newest_first if record.type is BackupType.FULL]

    def sound_fulls(self) -> list[BackupRecord]:
        """Newest first, those that are not known to be damaged."""
        return [full for full in self.fulls() if full.id not in self.damaged]

    def sound_bases(self) -> list[BackupRecord]:
        """Newest first, fulls and express fulls of which all pages are sound."""
        return [one for one in self.newest_first if one.type.is_full and not self.harmed(one)]

    def harmed(self, record: BackupRecord) -> bool:
        """Whether it, or anything that it builds on, is known to be damaged, or is not there."""
        line = self.line(record)
        return line[-1].parent is not None or any(one.id in self.damaged for one in line)

    def sound_points(self) -> list[BackupRecord]:
        """Newest first, the backups that can be restored by their own chain: a full and no damage on the way."""
        return [record for record in self.newest_first if self.full_of(record) is not None and not self.harmed(record)]

    def chain(self, full: BackupRecord) -> list[BackupRecord]:
        """The full and all that builds on it, parents before children."""
        found, seen = [full], {full.id}
        for record in found:  # grows while it is walked
            for child in self._children.get(record.id, ()):
                if child.id not in seen:
                    seen.add(child.id)
                    found.append(child)
        return found

    def line(self, record: BackupRecord) -> list[BackupRecord]:
        """The backup and all that it builds on, as far as it is listed."""
        found, seen = [record], {record.id}
        while (parent := self.known.get(found[-1].parent or "")) is not None and parent.id not in seen:
            seen.add(parent.id)
            found.append(parent)
        return found

    def full_of(self, record: BackupRecord) -> BackupRecord | None:
        """The full that a backup stands on, itself if it is one; None for a copy, and when its chain has a hole."""
        return next((one for one in self.line(record) if one.type is BackupType.FULL), None)

    def base_of(self, record: BackupRecord) -> BackupRecord | None:
        """The full or express full that a restore of it begins with; None as in ``full_of``."""
        return next((one for one in self.line(record) if one.type.is_full), None)

    def keep_what_is_needed(self) -> None:
        """A kept backup keeps all that it builds on."""
        for record in [self.known[kept] for kept in self.reasons]:
            for parent in self.line(record)[1:]:
                reasons = self.reasons.setdefault(parent.id, [])
                if not any(reason.code == "needed" for reason in reasons):
                    reasons.append(Reason("needed", f"{record.id} builds on it"))

    def dependents_first(self, records: Iterable[BackupRecord]) -> list[BackupRecord]:
        """Newest first, but never a backup before one that builds on it, whatever the clocks said."""
        ordered: dict[str, BackupRecord] = {}
        for record in records:
            if record.id not in ordered:
                ordered.update((later.id, later) for later in reversed(self.chain(record)) if later.id not in ordered)
        return list(ordered.values())
