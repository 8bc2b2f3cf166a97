"""The front desk: what the page, the API and the metrics may ask the service, and what they may order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from backupd.errors import NotFound, Refused
from backupd.journal.records import JsonValue
from backupd.model.kinds import BackupType
from backupd.service.archive_facts import ArchiveFacts, remembered_facts, timeline_json
from backupd.service.run_rows import run_row, run_whole

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.runs.context import RunContext
    from backupd.service.board import Board, Seen

Json = dict[str, JsonValue]
Answer = Mapping[str, JsonValue]
# Begins a run of a database, or says in a sentence that it will; raises BackupdError when it may not.
RunNow = Callable[[str, BackupType], str]
EXPLAINED = ("truncation", "retention", "schedule")


class Desk(Protocol):
    """What may be asked; every method may be called by any thread, and raises ``BackupdError`` for what the world did.

    Whoever names a database that no policy has gets ``NotFound``.
    """

    def now(self) -> datetime:
        """The moment, in UTC."""
        ...

    def version(self) -> int:
        """Grows with all that changes."""
        ...

    def wait_newer(self, version: int, timeout_seconds: float) -> int:
        """The version now; waits until it is newer, at most so long."""
        ...

    def databases(self) -> tuple[str, ...]:
        """The names of all, sorted."""
        ...

    def all_seen(self) -> tuple[Seen, ...]:
        """How those were that were looked at already, sorted by name."""
        ...

    def seen(self, database: str) -> Seen | None:
        """How one was when last looked at; None before the first look."""
        ...

    def next_runs(self, database: str) -> list[Json]:
        """What the schedule plans next."""
        ...

    def runs(self, database: str, limit: int) -> list[Json]:
        """The last runs, newest first."""
        ...

    def run(self, database: str, run_id: str) -> Json:
        """One run with its diary. Raises NotFound."""
        ...

    def backups(self, database: str) -> list[Json]:
        """Every backup, oldest first, as ``list --json`` says it. Raises ArchiveUnreachable."""
        ...

    def backup(self, database: str, backup_id: str) -> Json:
        """One backup, whole, as ``show --json`` says it. Raises NotFound, ArchiveUnreachable, DamageFound."""
        ...

    def timeline(self, database: str) -> Json:
        """What could be restored when. Raises ArchiveUnreachable."""
        ...

    def holds(self, database: str) -> Json:
        """Holds on log and on backups, as ``holds --json`` says them. Raises ArchiveUnreachable."""
        ...

    def explain(self, database: str, what: str) -> Answer:
        """``truncation``, ``retention`` or ``schedule``, as ``explain --json`` says it."""
        ...

    def run_now(self, database: str, backup_type: BackupType) -> str:
        """Begin a backup; answers with a sentence. Raises Refused, Busy."""
        ...

    def hold(self, database: str, backup_id: str, reason: str) -> Json:
        """Keep a backup from being pruned. Raises NotFound, UsageProblem, ArchiveUnreachable."""
        ...

    def release(self, database: str, backup_id: str, hold_id: str) -> Json:
        """Take a hold away. Raises NotFound, Refused, ArchiveUnreachable."""
        ...

    def suspend(self, database: str, comment: str) -> str:
        """Stop copying and replay until it is resumed; answers with a sentence."""
        ...

    def resume(self, database: str) -> str:
        """Let copying and replay go on; answers with a sentence."""
        ...


def takes_no_runs(database: str, backup_type: BackupType) -> str:
    """What *run now* answers where nothing begins runs."""
    raise Refused(
        f"a {backup_type} backup of {database} was not begun",
        because="the service does not take runs",
        next_step=f"backupctl backup {database} --type {backup_type}",
    )


class HouseDesk:
    """The desk of a real house: status from the board, runs from the journal, backups from the archive.

    Args:
        house: the policies, the journal and the archives of this node.
        board: how each database was when last looked at.
        run_now: begins a backup, see ``RunNow``.
    """

    def __init__(self, house: House, board: Board, run_now: RunNow = takes_no_runs) -> None:
        self._house, self._board, self._run_now = house, board, run_now
        self._archives = remembered_facts()

    def now(self) -> datetime:
        """The moment, in UTC."""
        return self._house.clock.now()

    def version(self) -> int:
        """The board's."""
        return self._board.version

    def wait_newer(self, version: int, timeout_seconds: float) -> int:
        """The version now; waits until it is newer, at most so long."""
        return self._board.wait_newer(version, timeout_seconds)

    def databases(self) -> tuple[str, ...]:
        """The names that the policies have."""
        return self._house.databases()

    def all_seen(self) -> tuple[Seen, ...]:
        """All that is on the board."""
        return self._board.all()

    def seen(self, database: str) -> Seen | None:
        """What the board says of one. Raises NotFound."""
        self._known(database)
        return self._board.seen(database)

    def next_runs(self, database: str) -> list[Json]:
        """From the policy's calendar."""
        from backupd.runs.schedule_view import next_runs

        return next_runs(self._context(database))

    def runs(self, database: str, limit: int) -> list[Json]:
        """From the journal of this node."""
        self._known(database)
        journal = self._house.journal
        return [run_row(journal, run) for run in journal.runs(database, limit=limit)]

    def run(self, database: str, run_id: str) -> Json:
        """From the journal of this node."""
        self._known(database)
        return run_whole(self._house.journal, database, run_id)

    def backups(self, database: str) -> list[Json]:
        """From the archive."""
        return [*self._archived(database).rows]

    def backup(self, database: str, backup_id: str) -> Json:
        """From the archive."""
        from backupd.runs.listing import show_backup

        return show_backup(self._context(database), backup_id)

    def timeline(self, database: str) -> Json:
        """From the archive's records and verdicts."""
        return timeline_json(self._archived(database), self.now())

    def holds(self, database: str) -> Json:
        """From the journal and the archive."""
        from backupd.runs.holds import backup_holds, log_hold_json

        context = self._context(database)
        now = self.now()
        on_log: list[JsonValue] = [log_hold_json(hold, now) for hold in context.journal.holds(database)]
        on_backups: list[JsonValue] = [{"database": database, **hold.to_json()} for hold in backup_holds(context)]
        return {"holds": on_log, "backup_holds": on_backups}

    def explain(self, database: str, what: str) -> Answer:
        """Asks the copies and the archive anew."""
        context = self._context(database)
        if what == "truncation":
            from backupd.runs.truncate import explain_truncation

            return {"database": database, **explain_truncation(context).to_json()}
        if what == "retention":
            from backupd.runs.prune import plan_prune

            return plan_prune(context).to_json()
        if what == "schedule":
            from backupd.runs.schedule_view import schedule_json

            return {"database": database, **schedule_json(context)}
        raise NotFound(
            f"nothing explains {what!r}",
            because=f"there are reasons for {', '.join(EXPLAINED)}",
            next_step=f"backupctl explain truncation {database}",
        )

    def run_now(self, database: str, backup_type: BackupType) -> str:
        """As the service was told to."""
        self._known(database)
        return self._run_now(database, backup_type)

    def hold(self, database: str, backup_id: str, reason: str) -> Json:
        """In the archive, where both nodes see it."""
        from backupd.runs.holds import hold_backup

        context = self._context(database)
        context.archive().get(backup_id)
        placed = hold_backup(context, backup_id, reason, f"the page of {context.node}")
        return {"backup": backup_id, "hold": placed.to_json()}

    def release(self, database: str, backup_id: str, hold_id: str) -> Json:
        """In the archive, where both nodes see it."""
        from backupd.runs.holds import release_backup

        released = release_backup(self._context(database), backup_id, hold_id)
        return {"backup": backup_id, "hold": released.to_json()}

    def suspend(self, database: str, comment: str) -> str:
        """As ``backupctl copy suspend`` does."""
        from backupd.runs import copies

        return copies.suspend(self._context(database), comment)

    def resume(self, database: str) -> str:
        """As ``backupctl copy resume`` does."""
        from backupd.runs import copies

        return copies.resume(self._context(database))

    def _archived(self, database: str) -> ArchiveFacts:
        return self._archives(self._context(database))

    def _context(self, database: str) -> RunContext:
        self._known(database)
        return self._house.context(database)

    def _known(self, database: str) -> None:
        if database not in self._house.databases():
            raise NotFound(
                f"no database is called {database!r}",
                because="no policy of this node names it",
                next_step="backupctl status shows those that there are",
            )
