"""backupctl list: the backups of the archive."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from backupd.cli import backup_facts, house, human, origin, output
from backupd.cli.options import AnyDatabaseArgument, ArchiveOption, ConfigOption, JsonOption, Which
from backupd.cli.origin import EndpointOption, FromOption

EXAMPLES = (
    "backupctl list orders",
    "backupctl list --json | jq -r '.backups[].id'",
    "backupctl list --from s3://bucket/orders   # when nothing but the archive is left",
)


def list_backups(
    database: AnyDatabaseArgument = None,
    failed: Annotated[bool, typer.Option("--failed", help="Also the runs that left no backup, and why.")] = False,
    archive: ArchiveOption = Which.FIRST,
    place: FromOption = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """List backups, the oldest first."""
    from backupd.runs import listing

    rows: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    with origin.opened(origin.Words(place, database, endpoint_url), config) as opened:
        names = house.chosen(opened, database)
        for name in names:
            context = house.one(opened, name, archive=archive)
            rows += listing.list_backups(context)
            if failed:
                without += listing.failed_runs(context)
    if as_json:
        output.print_json({"backups": rows, **({"failed_runs": without} if failed else {})})
        return 0
    for name in names:
        own = [row for row in rows if row["database"] == name]
        if len(names) > 1:
            output.print_line(output.Cell(name, output.STRONG))
        output.print_table(backup_facts.table_of(own), indent=2 if len(names) > 1 else 0)
        if not own:
            output.print_line("no backups yet")
    if failed:
        _print_failed(without)
    return 0


def _print_failed(runs: list[dict[str, Any]]) -> None:
    output.print_line()
    output.print_line(output.Cell(f"{human.count(len(runs), 'run')} without a backup", output.STRONG))
    table = output.Table(("STARTED (LOCAL)", "TYPE", "STATE", "BECAUSE"), last_wraps=True)
    for run in runs:
        table.add(
            human.short_time(run["started_at"]),
            str(run["type"]),
            output.state(str(run["state"])),
            str(run["because"]),
        )
    output.print_table(table, indent=2)
