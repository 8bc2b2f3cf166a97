"""backupctl truncate: removes log from the copies, by the rules only."""

from __future__ import annotations

from typing import Any

from backupd.cli import house, human, output
from backupd.cli.backup_facts import reasons_of
from backupd.cli.options import ConfigOption, DatabaseArgument, DryRunOption, JsonOption

EXAMPLES = ("backupctl truncate orders --dry-run",)


def truncate(
    database: DatabaseArgument, dry_run: DryRunOption = False, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Remove log that a proven backup holds from both copies, oldest first; say why when log must stay."""
    from backupd.runs.truncate import run_truncate

    with house.opened(config) as opened:
        outcome = run_truncate(house.one(opened, database), dry_run=dry_run)
    if as_json:
        output.print_json({"database": database, "dry_run": dry_run, **outcome.to_json()})
    else:
        print_truncation(database, outcome)
    return 0


def print_truncation(database: str, outcome: Any) -> None:
    """The decision, what was removed, and each reason."""
    word = str(outcome.state)
    output.print_line((output.Cell(database, output.STRONG), "  log ", output.state(word)))
    output.print_facts(
        (
            ("before", str(outcome.before or "")),
            (
                "removed",
                f"{human.count(outcome.removed_logs, 'log file')}, {human.size(outcome.removed_bytes)}"
                if outcome.removed_logs
                else "",
            ),
        ),
        indent=2,
    )
    # A blocker is a reason with its code before it: it is said once, in the colour of a blocker.
    blocked = reasons_of(outcome.blocked_by)
    for reason in map(str, outcome.reasons):
        stands = any(one.endswith(reason) for one in blocked)
        output.print_sentences([reason], style=output.WARN if stands else "")
    output.print_sentences([one for one in blocked if not any(one.endswith(str(said)) for said in outcome.reasons)])
