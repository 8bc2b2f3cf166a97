"""backupctl holds: the named reasons why log must stay on the copies, and backups in the archive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backupd.cli import house, human, output
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, JsonOption
from backupd.errors import ArchiveUnreachable

if TYPE_CHECKING:
    from backupd.bootstrap import House

EXAMPLES = ("backupctl holds",)


def holds(database: AnyDatabaseArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """List the holds: who needs log from which position on, which backups must stay, why, and since when."""
    now = datetime.now(UTC)
    with house.opened(config) as opened:
        chosen = house.chosen(opened, database)
        on_log = [hold for name in chosen for hold in opened.journal.holds(name)]
        on_backups = [row for name in chosen for row in _on_backups(opened, name)]
    if as_json:
        from backupd.runs.holds import log_hold_json

        output.print_json({"holds": [log_hold_json(hold, now) for hold in on_log], "backup_holds": on_backups})
        return 0
    if on_log:
        table = output.Table(("DATABASE", "HOLDER", "NEEDS LOG FROM", "SINCE", "REASON"), last_wraps=True)
        for hold in on_log:
            table.add(hold.database, hold.holder, str(hold.needs_from), human.ago(hold.placed_at, now), hold.reason)
        output.print_table(table)
    else:
        output.print_line("no holds: nothing but the rules keeps log")
    if on_backups:
        output.print_line()
        table = output.Table(("DATABASE", "BACKUP", "HOLD", "BY", "SINCE", "REASON"), last_wraps=True)
        for row in on_backups:
            at = human.as_time(row["at"])
            since = human.ago(at, now) if at else "-"
            table.add(*(str(row[key]) for key in ("database", "backup_id", "id", "by")), since, str(row["reason"]))
        output.print_table(table)
    return 0


def _on_backups(opened: House, name: str) -> list[dict[str, Any]]:
    """The holds on backups; an archive that is away hides only these."""
    from backupd.runs.holds import backup_holds

    try:
        return [{"database": name, **hold.to_json()} for hold in backup_holds(house.one(opened, name))]
    except ArchiveUnreachable as error:
        output.say(f"{name}  holds on backups are not shown: {error.problem} ({error.because})")
        return []
