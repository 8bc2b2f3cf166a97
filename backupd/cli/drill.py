"""backupctl drill: a restore into a scratch place that is opened, checked and thrown away."""

from __future__ import annotations

from typing import Any

from backupd.cli import house, human, keys, output, progress
from backupd.cli.keys import KeyOption, PassphraseFileOption
from backupd.cli.options import ConfigOption, DatabaseArgument, DryRunOption, JsonOption
from backupd.cli.output import Cell
from backupd.cli.wish import AtOption, BackupOption, read_wish
from backupd.errors import UsageProblem

EXAMPLES = (
    "backupctl drill orders                    # the newest state, with the policy's [[drill.checks]]",
    "backupctl drill orders --dry-run          # what it would read, and how much room it needs",
    "backupctl drill orders --at '2 days ago'",
)


def drill(
    database: DatabaseArgument,
    at: AtOption = None,
    backup: BackupOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    config: ConfigOption = None,
) -> int:
    """Restore into a scratch directory, start it, check it, measure it, throw it away, and keep the verdict.

    Nothing of the pair is touched. What was found lies beside the backup in the archive; status shows what was proven
    last and how long a restore takes. The exit status is that of what kept it from passing.
    """
    from backupd.runs.drill import plan_drill, run_drill

    if at is not None and backup is not None:
        raise UsageProblem(
            "--at and --backup do not go together",
            because="each of them names the state to restore",
            next_step="give only one of them, or none for the newest state",
        )
    wish, note = read_wish(at, backup)
    with (
        house.opened(config, keys.sources(key, passphrase_file, asks=not as_json)) as opened,
        progress.shown() as report,
    ):
        context = house.one(opened, database, report)
        if dry_run:
            answer = {"dry_run": True, **plan_drill(context, wish).to_json()}
        else:
            outcome = run_drill(context, wish)
            answer = outcome.to_json()
    if as_json:
        output.print_json(answer)
    elif dry_run:
        _print_plan(answer, note)
    else:
        _print_outcome(answer)
    failure = None if dry_run else outcome.failure
    if failure is not None and not as_json:
        output.print_error(failure, as_json=False)
    return 0 if failure is None else int(failure.exit_status)


def _print_plan(plan: dict[str, Any], note: str) -> None:
    output.print_line((Cell(f"drill of {plan['database']}", output.STRONG), f" in {plan['directory']}"))
    output.print_facts(
        (
            ("backups", ", ".join(plan["backups"])),
            ("up to", f"position {plan['position']}"),
            ("to read", f"{human.size(plan['pages_bytes'])} of pages, {human.size(plan['log_bytes'])} of log"),
            ("room", f"{human.size(plan['total_bytes'])} in all, {human.size(plan['free_bytes'])} free there"),
            ("own checks", ", ".join(plan["checks"]) or "none: [[drill.checks]] in the policy"),
        ),
        indent=2,
    )
    output.print_sentences([note] if note else [])
    if plan["blockers"]:
        output.print_line(Cell("  stands in the way", output.BAD))
        output.print_sentences(plan["blockers"], indent=4, bullet="!")


def _print_outcome(answer: dict[str, Any]) -> None:
    verdict = Cell("passed", output.GOOD) if answer["passed"] else Cell("FAILED", output.BAD)
    output.print_line((Cell(f"drill of {answer['database']}", output.STRONG), " ", verdict))
    spent = {name.replace("-", " "): human.duration(part) for name, part in answer["phases_seconds"].items()}
    output.print_facts(
        (
            ("backups", ", ".join(answer["backups"])),
            ("position", answer["position"] or "none was reached"),
            ("whole up to", human.clock_time(answer["point_at"]) if answer["point_at"] else "not known"),
            ("a restore takes", human.duration(answer["restore_seconds"]) if answer["passed"] else "not known"),
            ("time by phase", ", ".join(f"{name} {said}" for name, said in spent.items())),
            ("read", f"{human.size(answer['read_bytes'])}, for {human.size(answer['restored_bytes'])} restored"),
            ("engine checks", ", ".join(answer["engine_checks"]) or "none"),
            *((f"check {one['name']}", _check(one, answer["answers"])) for one in answer["checks"]),
            ("verdict", f"in the archive, beside {answer['backup']}"),
        ),
        indent=2,
    )
    output.print_sentences([*answer["notes"], *answer["cleaned_up"]])


def _check(check: dict[str, Any], answers: dict[str, str]) -> Cell:
    answered = answers.get(check["name"], "")
    if check["passed"]:
        return Cell(f"passed: {answered}", output.GOOD)
    return Cell(f"{check['says']}: {answered}", output.BAD)
