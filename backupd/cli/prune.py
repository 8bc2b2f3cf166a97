"""backupctl prune: removes backups that no rule keeps from the archive."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import house, human, output, progress
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, DryRunOption, JsonOption, Which
from backupd.cli.question import agreed
from backupd.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.bootstrap import House
    from backupd.runs.context import RunContext

EXAMPLES = ("backupctl prune orders --dry-run", "backupctl prune --yes", "backupctl prune orders --archive second")


def prune(
    *,
    database: AnyDatabaseArgument = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="Answer the question with yes, also when more than a quarter of the backups would go.",
            show_default=False,
        ),
    ] = False,
    archive: Annotated[
        Which | None,
        typer.Option("--archive", help="Only this one of the policy's archives; each by its retention when left out."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", hidden=True, help="The older word for --yes.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Remove the backups that the policy's retention no longer keeps; the plan is shown first on a terminal.

    More than a quarter of the backups at once only goes with --yes; one chain and two backups more are always free.
    """
    from backupd.runs.prune import plan_prune, run_prune

    yes = yes or force
    answers: list[dict[str, Any]] = []
    with house.opened(config) as opened:
        for name, which in _archives(opened, house.chosen(opened, database), archive):
            in_it = f"{name} (second archive)" if which is Which.SECOND else name
            may_be_empty = database is None or (archive is None and which is Which.SECOND)
            if may_be_empty and not _has_archive(house.one(opened, name, archive=which)):
                output.say(f"{in_it}  has no backup yet")
                continue
            said = False
            if not dry_run and not yes and not as_json and sys.stdin.isatty():
                plan = plan_prune(house.one(opened, name, archive=which))
                print_plan(in_it, plan)
                if plan.retention.drop and not agreed(f"remove {human.count(len(plan.retention.drop), 'backup')}?"):
                    output.print_line("nothing was removed")
                    continue
                said = bool(plan.retention.drop)
            with progress.shown() as report:
                context = house.one(opened, name, report, archive=which)
                outcome = run_prune(context, dry_run=dry_run, yes=yes or said)
            answers.append({"database": name, "archive": which.value, "dry_run": dry_run, **outcome.to_json()})
            if not as_json:
                _print(in_it, outcome, dry_run=dry_run)
    if as_json:
        output.print_json({"databases": answers})
    return 0


def _archives(opened: House, names: Sequence[str], only: Which | None) -> list[tuple[str, Which]]:
    """Each database with each of its archives, or with the one that was asked for."""
    if only is not None:
        return [(name, only) for name in names]
    both = (Which.FIRST, Which.SECOND)
    return [(name, which) for name in names for which in both[: 2 if house.one(opened, name).second else 1]]


def _has_archive(context: RunContext) -> bool:
    """Whether the archive holds anything of the database."""
    try:
        context.archive()
    except NotFound:
        return False
    return True


def print_plan(database: str, plan: Any) -> None:
    """Which backups stay and which go, each with its reasons."""
    retention = plan.retention
    output.print_line(
        (
            output.Cell(database, output.STRONG),
            f"  {human.count(len(retention.keep), 'backup')} to keep, {len(retention.drop)} to drop",
        )
    )
    table = output.Table(("", "BACKUP", "COVERS UNTIL (LOCAL)", "BECAUSE"), last_wraps=True)
    for word, entries in (("keep", retention.keep), ("drop", retention.drop)):
        for entry in entries:
            until = human.short_time(entry.record.covers_until)
            table.add(output.state(word), entry.id, until, "; ".join(map(str, entry.reasons)))
    output.print_table(table, indent=2)
    if retention.spare:
        spare = human.count(sum(map(len, retention.spare.values())), "log file")
        fulls = human.count(len(retention.spare), "full")
        output.print_line(f"  {spare} before {fulls} would go too: no kept backup leads along them")


def _print(name: str, outcome: Any, *, dry_run: bool) -> None:
    if dry_run:
        print_plan(name, outcome.plan)
        return
    backups, logs = human.count(len(outcome.deleted), "backup"), human.count(outcome.removed_logs, "log file")
    removed = f"  {backups} and {logs} removed, {human.size(outcome.removed_bytes)}"
    output.print_line((output.Cell(name, output.STRONG), removed))
    output.print_sentences(outcome.deleted)
