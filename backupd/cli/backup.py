"""backupctl backup: one run, now."""

from __future__ import annotations

from typing import Annotated

import typer

from backupd.cli import backup_facts, house, output, progress
from backupd.cli.options import ConfigOption, DatabaseArgument, DryRunOption, JsonOption
from backupd.model.kinds import BackupType

EXAMPLES = (
    "backupctl backup orders --type full",
    "backupctl backup orders --type express",
    "backupctl backup orders --type incremental --dry-run",
)

ENDED_BADLY = {"refused": 4, "aborted": 7, "failed": 7}


def backup(
    database: DatabaseArgument,
    backup_type: Annotated[
        BackupType,
        typer.Option(
            "--type",
            help="express: a full that stores only pages that differ from the full before it. "
            "An incremental or express without a full before it becomes a full, and says so.",
        ),
    ] = BackupType.FULL,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Back the passive copy up: freeze, snapshot, check every page, store, prove, stamp; then truncate log."""
    from backupd.runs.backup import run_backup

    with house.opened(config) as opened, progress.shown() as report:
        outcome = run_backup(house.one(opened, database, report), backup_type, dry_run=dry_run)
    answer = {"database": database, **outcome.to_json()} if dry_run else outcome.to_json()
    if as_json:
        output.print_json(answer)
    else:
        title = f"would make one {answer['type']} backup of {database}" if dry_run else ""
        backup_facts.print_backup(answer, title=title)
    return 0 if dry_run else ENDED_BADLY.get(str(outcome.state), 0)
