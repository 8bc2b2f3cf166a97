"""--at and --backup: which state is asked for, in the words of restore and drill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backupd.decide.restore_wish import RestoreWish

AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The moment to go back to: ISO 8601, or '10 min ago'.")
]
BackupOption = Annotated[str | None, typer.Option("--backup", metavar="ID", help="Exactly what this backup holds.")]


def read_wish(at: str | None, backup: str | None) -> tuple[RestoreWish, str]:
    """What was asked for, by one of the two or by none of them, and a note on how a time was read.

    Raises:
        UsageProblem: the time cannot be read.
    """
    from backupd.decide.restore_wish import RestoreWish

    if at is not None:
        from backupd.cli.when import parse_when

        moment = parse_when(at, datetime.now(UTC))
        return RestoreWish.at_time(moment.at), moment.note
    return (RestoreWish.of_backup(backup) if backup is not None else RestoreWish.latest()), ""
