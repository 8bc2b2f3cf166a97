"""backupctl recover: finishes or undoes what a dead process left."""

from __future__ import annotations

from typing import Any

from backupd.cli import house, human, output, progress
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, DryRunOption, JsonOption

EXAMPLES = ("backupctl recover",)


def recover(
    database: AnyDatabaseArgument = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Finish or undo what a dead process left: thaw, snapshots, half-written backups, half-done restores.

    Where this node's own book (journal.db, the view of the archive) was lost, it is made anew from the archive.
    """
    from backupd.runs.recover import run_recover

    answers: list[dict[str, Any]] = []
    with house.opened(config) as opened:
        for name in house.chosen(opened, database):
            if dry_run:
                done = tuple(
                    f"{run.kind} {run.label or run.id} of {human.clock_time(run.started_at)} stopped at {run.state}: "
                    "it would be finished or undone"
                    for run in opened.journal.abandoned(name)
                )
            else:
                with progress.shown() as report:
                    done = tuple(run_recover(house.one(opened, name, report), patient=True))
            answers.append({"database": name, "dry_run": dry_run, "done": list(done)})
            if not as_json:
                output.print_line((output.Cell(name, output.STRONG), "" if done else "  nothing was left over"))
                output.print_sentences(done)
    if as_json:
        output.print_json({"databases": answers})
    return 0
