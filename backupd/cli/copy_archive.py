"""backupctl copy-archive: copies backups to the policy's second archive, and verifies them there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from backupd.cli import house, human, output, progress
from backupd.cli.options import ConfigOption, DatabaseArgument, DryRunOption, JsonOption
from backupd.errors import DamageFound

EXAMPLES = (
    "backupctl copy-archive orders --dry-run",
    "backupctl copy-archive orders",
    "backupctl copy-archive orders 20261122T010000Z-F-1a2b3c4d   # this one, with what it builds on",
)


def copy_archive(
    database: DatabaseArgument,
    backups: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BACKUP]...", help="Backups to copy; all that the second archive lacks when left out."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Copy what the second archive lacks, and read it back there; what was copied before does not go over again."""
    from backupd.runs.copy_archive import run_copy_archive

    with house.opened(config) as opened, progress.shown() as report:
        outcome = run_copy_archive(house.one(opened, database, report), backups or (), dry_run=dry_run)
    if as_json:
        output.print_json({"dry_run": dry_run, **outcome.to_json()})
    elif dry_run:
        print_plan(database, outcome.plan)
    else:
        _print(database, outcome)
    harm = _harm(outcome)
    if harm is None or dry_run:
        return 0
    output.print_error(harm, as_json=False)
    return harm.exit_status


def print_plan(database: str, plan: Any) -> None:
    """What would go over, backup by backup."""
    what = f"  {human.count(len(plan.items), 'backup')} to copy, {human.size(plan.missing_bytes)}"
    output.print_line((output.Cell(database, output.STRONG), what))
    output.print_facts((("from", plan.first), ("to", plan.second)), indent=2)
    table = output.Table(("BACKUP", "TYPE", ">OBJECTS", ">TO COPY", ">THERE ALREADY"))
    for item in plan.items:
        record = item.backup.record
        sizes = (human.size(item.missing_bytes), human.size(item.there_bytes))
        table.add(record.id, record.type.value, f"{item.missing_objects:,}", *sizes)
    output.print_table(table, indent=2)
    output.print_sentences((f"{id_} cannot be copied: {because}" for id_, because in plan.stuck), style=output.BAD)


def _print(database: str, outcome: Any) -> None:
    copied = human.count(len(outcome.copied), "backup")
    what = f"  {copied} copied and verified there, {human.size(outcome.copied_bytes)}"
    output.print_line((output.Cell(database, output.STRONG), what, f" in {human.duration(outcome.seconds)}"))
    output.print_facts((("from", outcome.plan.first), ("to", outcome.plan.second)), indent=2)
    table = output.Table(("BACKUP", ">COPIED", ">THERE ALREADY", ">READ BACK"))
    for one in outcome.copied:
        table.add(one.backup_id, *(human.size(size) for size in (one.copied_bytes, one.kept_bytes, one.verified_bytes)))
    output.print_table(table, indent=2)
    output.print_sentences(outcome.notes)
    output.print_sentences(
        (f"{id_} was not copied: {harm.problem}: {harm.because}" for id_, harm in outcome.failed), style=output.BAD
    )
    output.print_sentences(
        (f"{id_} cannot be copied: {because}" for id_, because in outcome.plan.stuck), style=output.BAD
    )


def _harm(outcome: Any) -> DamageFound | None:
    """The first damage that kept a backup from being copied."""
    if outcome.failed:
        harm: DamageFound = outcome.failed[0][1]
        return harm
    if not outcome.plan.stuck:
        return None
    id_, because = outcome.plan.stuck[0]
    return DamageFound(
        f"the backup {id_} cannot be copied",
        because=because,
        next_step="take a new full, which is copied by itself: backupctl backup DATABASE --type full",
    )
