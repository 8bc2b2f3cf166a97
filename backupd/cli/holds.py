"""backupctl holds: the named reasons why log must stay."""

from __future__ import annotations

from datetime import UTC, datetime

from backupd.cli import house, human, output
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, JsonOption

EXAMPLES = ("backupctl holds",)


def holds(database: AnyDatabaseArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """List the holds: who needs log from which position on, why, and since when."""
    now = datetime.now(UTC)
    with house.opened(config) as opened:
        found = [hold for name in house.chosen(opened, database) for hold in opened.journal.holds(name)]
    if as_json:
        output.print_json(
            {
                "holds": [
                    {
                        "database": hold.database,
                        "holder": hold.holder,
                        "needs_from": str(hold.needs_from),
                        "reason": hold.reason,
                        "placed_at": hold.placed_at.isoformat(),
                        "age_seconds": round((now - hold.placed_at).total_seconds(), 3),
                    }
                    for hold in found
                ]
            }
        )
        return 0
    if not found:
        output.print_line("no holds: nothing but the rules keeps log")
        return 0
    table = output.Table(("DATABASE", "HOLDER", "NEEDS LOG FROM", "SINCE", "REASON"), last_wraps=True)
    for hold in found:
        table.add(hold.database, hold.holder, str(hold.needs_from), human.ago(hold.placed_at, now), hold.reason)
    output.print_table(table)
    return 0
