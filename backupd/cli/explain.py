"""backupctl explain: the reasons behind truncation, retention and the schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backupd.cli import house, human, output
from backupd.cli.evidence import evidence_facts
from backupd.cli.options import ArchiveOption, ConfigOption, DatabaseArgument, JsonOption, Which
from backupd.cli.prune import print_plan
from backupd.cli.truncate import print_truncation

if TYPE_CHECKING:
    from backupd.decide.schedule import Attempt
    from backupd.journal.journal import Journal

TRUNCATION_EXAMPLES = ("backupctl explain truncation orders",)
RETENTION_EXAMPLES = ("backupctl explain retention orders",)
SCHEDULE_EXAMPLES = ("backupctl explain schedule orders",)

ATTEMPTS_SHOWN_MAX = 200


def truncation(database: DatabaseArgument, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """Show the evidence as it is now, what would be decided from it, and each reason that keeps log."""
    from backupd.runs.truncate import explain_truncation

    with house.opened(config) as opened:
        outcome = explain_truncation(house.one(opened, database))
    if as_json:
        output.print_json({"database": database, **outcome.to_json()})
        return 0
    print_truncation(database, outcome)
    if facts := evidence_facts(outcome.evidence):
        output.print_line()
        output.print_line(output.Cell("  evidence", output.DIM))
        output.print_facts(facts, indent=4)
    return 0


def retention(
    database: DatabaseArgument,
    archive: ArchiveOption = Which.FIRST,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Show which backups stay and which may go, each with its reasons; nothing is removed."""
    from backupd.runs.prune import plan_prune

    with house.opened(config) as opened:
        plan = plan_prune(house.one(opened, database, archive=archive))
    if as_json:
        output.print_json({"database": database, **plan.to_json()})
    else:
        print_plan(database, plan)
    return 0


def schedule(database: DatabaseArgument, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """Show what is due now and why, the next run, and the runs that the answer rests on."""
    from backupd.decide import schedule as decide

    now = datetime.now(UTC)
    with house.opened(config) as opened:
        rules = house.one(opened, database).policy.schedule_rules()
        attempts = _attempts(opened.journal, database)
    due = decide.due(rules, now, attempts, database=database)
    coming = decide.next_slot(rules, now, database=database)
    if as_json:
        output.print_json(
            {
                "database": database,
                "timezone": rules.timezone,
                "due": {"type": due.type.value, "slot": due.slot.at.isoformat(), "reasons": list(map(str, due.reasons))}
                if due
                else None,
                "next": {"type": coming.type.value, "at": coming.at.isoformat()} if coming else None,
                "attempts": [{"type": one.type.value, "at": one.at.isoformat()} for one in attempts],
            }
        )
        return 0
    output.print_line((output.Cell(database, output.STRONG), f"  schedule in {rules.timezone}"))
    last = max(attempts, key=lambda one: one.at, default=None)
    output.print_facts(
        (
            ("due now", f"{due.type}, for the slot {due.slot.local}" if due else "nothing"),
            (
                "next",
                f"{coming.type}, {coming.local} ({human.ago(coming.at, now)})" if coming else "nothing is scheduled",
            ),
            (
                "last run",
                f"{last.type}, {human.clock_time(last.at)} ({human.ago(last.at, now)})" if last else "none yet",
            ),
        ),
        indent=2,
    )
    if due:
        output.print_sentences(map(str, due.reasons))
    output.print_line("  (backups run by hand or by cron for now: the service of this version keeps no schedule)")
    return 0


def _attempts(journal: Journal, database: str) -> list[Attempt]:
    from backupd.decide.schedule import Attempt
    from backupd.journal.records import RunKind
    from backupd.model.records import BackupType

    runs = journal.runs(database, RunKind.BACKUP, limit=ATTEMPTS_SHOWN_MAX)
    return [Attempt(BackupType(run.type), run.started_at) for run in runs if run.type]
