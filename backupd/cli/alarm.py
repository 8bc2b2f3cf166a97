"""backupctl alarms and alarm test: what stands now and who was told, and whether anybody would hear."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backupd.cli import house, human, output
from backupd.cli.options import ConfigOption, JsonOption
from backupd.cli.output import Cell
from backupd.errors import ArchiveUnreachable

if TYPE_CHECKING:
    from backupd.policy.alarms import AlarmOptions
    from backupd.service.send import Sent

EXAMPLES = ("backupctl alarms", "backupctl alarms --json")
TEST_EXAMPLES = ("backupctl alarm test", "backupctl alarm test --json")


def alarms(as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """List the alarms that stand as the service knows them: since when, and who was told."""
    from backupd.service.told import read_told

    with house.opened(config) as opened:
        told = read_told(opened.config.state_dir)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for target, standing in told.items():
        for one in standing:
            row = found.setdefault(one.alarm.key, {**one.alarm.to_json(), "since": one.since.isoformat(), "told": {}})
            if one.told_at is not None:
                row["told"][target] = one.told_at.isoformat()
    rows = [found[key] for key in sorted(found)]
    if as_json:
        output.print_json({"alarms": rows})
        return 0
    if not rows:
        output.print_line("no alarms stand, as far as the service knows; backupctl status looks now")
        return 0
    now = datetime.now(UTC)
    table = output.Table(("DATABASE", "SEVERITY", "SINCE", "TOLD", "WHAT"), last_wraps=True)
    for row in rows:
        since = human.as_time(row["since"]) or now
        style = output.BAD if row["severity"] == "critical" else output.WARN
        who = ", ".join(sorted(row["told"])) or "nobody yet"
        helps = f" (next: {row['next_step']})" if row["next_step"] else ""
        severity = Cell(str(row["severity"]), style)
        table.add(row["database"] or "-", severity, human.ago(since, now), who, f"{row['sentence']}{helps}")
    output.print_table(table)
    return 0


def alarm_test(as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """Send a test message to every target and a ping to the dead man's switch, and say who took it."""
    with house.opened(config) as opened:
        options, node = opened.config.alarms, opened.config.node
    answers = _send_all(options, node)
    taken = any(one.taken for one in answers)
    if as_json:
        rows = [{"target": one.target, "taken": one.taken, "because": one.because} for one in answers]
        output.print_json({"targets": rows, "taken": taken})
    elif not answers:
        output.print_line("nobody is told: [alarms] of the service config has neither targets nor a ping")
    for one in () if as_json else answers:
        said = Cell("taken", output.GOOD) if one.taken else Cell(f"not taken: {one.because}", output.BAD)
        output.print_line((f"{one.target}  ", said))
    return 0 if taken else ArchiveUnreachable.exit_status


def _send_all(options: AlarmOptions, node: str) -> list[Sent]:
    from backupd.service.ping import ping
    from backupd.service.send import send

    subject, lines = f"backupd on {node}: a test", ["This is a test; nothing is wrong.", "  next: nothing"]
    answers = [send(target, subject, lines, bad=False) for target in options.targets]
    if options.ping.url is not None:
        answers.append(ping(options.ping.url, "", "", options.ping.timeout_seconds))
    return answers
