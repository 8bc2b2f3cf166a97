"""backupctl check: tries everything that a run needs, and names what to fix."""

from __future__ import annotations

from typing import Any

from backupd.cli import house, output, progress
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, JsonOption
from backupd.errors import BackupdError

EXAMPLES = ("backupctl check orders",)


def check(database: AnyDatabaseArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """Try everything that a run needs, end to end, and name what to fix; nothing is changed."""
    from backupd.runs.check import run_check

    answers: list[dict[str, Any]] = []
    troubles: list[BackupdError] = []
    status = 0
    with house.opened(config) as opened:
        for name in house.chosen(opened, database):
            with progress.shown() as report:
                result = run_check(house.one(opened, name, report))
            status = max(status, result.exit_status)
            answers.append({"database": name, **result.to_json()})
            troubles += [_trouble(name, finding) for finding in result.findings if not finding.ok]
            if not as_json:
                _print(name, result)
    if as_json:
        output.print_json({"ok": status == 0, "databases": answers})
    if troubles:
        output.print_error(troubles[0], as_json=False)
    return status


def _trouble(name: str, finding: Any) -> BackupdError:
    return BackupdError(
        f"{name} is not fit for a backup: {finding.name}", because=finding.because, next_step=finding.next_step
    )


def _print(name: str, result: Any) -> None:
    verdict = ("fit for a backup", output.GOOD) if result.ok else ("not fit yet", output.BAD)
    output.print_line((output.Cell(name, output.STRONG), "  ", output.Cell(*verdict)))
    table = output.Table(("", "WHAT", "FACT"), last_wraps=True)
    for finding in result.findings:
        table.add(output.state("ok" if finding.ok else "FIX"), finding.name, finding.because)
        if not finding.ok:
            table.add("", "", output.Cell(f"next: {finding.next_step}", output.STRONG))
    output.print_table(table, indent=2)
    output.print_line()
