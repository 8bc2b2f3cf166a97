"""backupctl explain: the reasons behind truncation, retention and the schedule."""

from __future__ import annotations

from datetime import UTC, datetime

from backupd.cli import house, human, output
from backupd.cli.evidence import evidence_facts
from backupd.cli.options import ArchiveOption, ConfigOption, DatabaseArgument, JsonOption, Which
from backupd.cli.prune import print_plan
from backupd.cli.truncate import print_truncation

TRUNCATION_EXAMPLES = ("backupctl explain truncation orders",)
RETENTION_EXAMPLES = ("backupctl explain retention orders",)
SCHEDULE_EXAMPLES = ("backupctl explain schedule orders",)


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
    from backupd.decide.schedule import decide, next_slot
    from backupd.runs.schedule_view import schedule_json
    from backupd.runs.slot_evidence import attempts_here, known_since

    now = datetime.now(UTC)
    with house.opened(config) as opened:
        context = house.one(opened, database)
        if as_json:
            output.print_json({"database": database, **schedule_json(context)})
            return 0
        rules = context.policy.schedule_rules()
        attempts = attempts_here(opened.journal, database, rules, now)
        known = known_since(context, remember=False)
    answer = decide(rules, now, attempts, database=database, known_since=known)
    due, coming = answer.due, next_slot(rules, now, database=database)
    output.print_line((output.Cell(database, output.STRONG), f"  schedule in {rules.timezone}"))
    last = max(attempts, key=lambda one: one.at, default=None)
    output.print_facts(
        (
            ("due now", f"{due.task}, for the slot {due.slot.local}" if due else "nothing"),
            (
                "next",
                f"{coming.task}, {coming.local} ({human.ago(coming.at, now)})" if coming else "nothing is scheduled",
            ),
            (
                "last run",
                f"{last.task}, {last.outcome}, {human.clock_time(last.at)} ({human.ago(last.at, now)})"
                if last
                else "none yet",
            ),
        ),
        indent=2,
    )
    given_up = [
        f"the {slot.task} of {slot.local} failed too often and waits for its next slot" for slot in answer.given_up
    ]
    output.print_sentences([*map(str, due.reasons if due else ()), *map(str, answer.waiting), *given_up])
    return 0
