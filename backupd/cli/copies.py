"""backupctl copy: suspend, resume or seed the passive copy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from backupd.cli import house, output, progress
from backupd.cli.later import not_yet
from backupd.cli.options import ConfigOption, DatabaseArgument, DryRunOption, JsonOption

SUSPEND_EXAMPLES = ("backupctl copy suspend orders --comment 'moving the disk'",)
RESUME_EXAMPLES = ("backupctl copy resume orders",)
SEED_EXAMPLES = (
    "backupctl copy seed orders",
    "backupctl copy seed orders --from archive   # nothing of the active is read",
)
SWITCHOVER_EXAMPLES = ("backupctl copy switchover orders",)


def suspend(
    database: DatabaseArgument,
    comment: Annotated[str, typer.Option("--comment", help="Why; status shows it.")] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Stop copying and replay until they are resumed; log is kept meanwhile, and backups are refused."""
    from backupd.runs import copies

    with house.opened(config) as opened:
        context = house.one(opened, database)
        done = "replication would be suspended" if dry_run else copies.suspend(context, comment)
    return _tell(database, (done,), as_json=as_json, dry_run=dry_run)


def resume(
    database: DatabaseArgument, dry_run: DryRunOption = False, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Let copying and replay go on after a suspend."""
    from backupd.runs import copies

    with house.opened(config) as opened:
        context = house.one(opened, database)
        done = "replication would be resumed" if dry_run else copies.resume(context)
    return _tell(database, (done,), as_json=as_json, dry_run=dry_run)


class SeedSource(StrEnum):
    """Where the passive is made from."""

    BEST = "best"
    ARCHIVE = "archive"
    ACTIVE = "active"


def seed(
    database: DatabaseArgument,
    source: Annotated[
        SeedSource,
        typer.Option("--from", help="best: the archive where that can be, else the active; or only one of them."),
    ] = SeedSource.BEST,
    wait: Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for its end.")] = 600.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Make the passive anew, and watch it until it is healthy; the active's users do not notice."""
    from backupd.runs import copies

    with house.opened(config) as opened, progress.shown() as report:
        context = house.one(opened, database, report)
        passive = context.writer.pair().passive
        if dry_run:
            done: tuple[str, ...] = (
                f"the passive copy {passive.name} ({passive.path}) would be made anew{_SAID[source]}",
            )
        else:
            done = tuple(copies.seed(context, wait, source=source.value))
    return _tell(database, done, as_json=as_json, dry_run=dry_run)


_SAID = {SeedSource.BEST: "", SeedSource.ARCHIVE: " from the archive", SeedSource.ACTIVE: " from the active"}


def switchover(
    database: DatabaseArgument, dry_run: DryRunOption = False, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Exchange the roles of the two copies (comes in a later version)."""
    del dry_run, as_json, config
    raise not_yet(
        "copy switchover",
        because="in this version the active of a SQLite pair stays where it is",
        instead=f"backupctl status {database}",
    )


def _tell(database: str, done: tuple[str, ...], *, as_json: bool, dry_run: bool) -> int:
    if as_json:
        output.print_json({"database": database, "dry_run": dry_run, "done": list(done)})
    else:
        output.print_line(output.Cell(database, output.STRONG))
        output.print_sentences(done)
    return 0
