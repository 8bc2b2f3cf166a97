"""backupctl status: copies, roles, queues, last backups, recovery window, held log, next run, alarms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from backupd.cli import house, human, output
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, JsonOption
from backupd.cli.output import Cell

_IN_THE_TABLE = {"role"}

EXAMPLES = ("backupctl status", "backupctl status orders --json")


def status(database: AnyDatabaseArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> int:
    """Show each database: its copies, queues, last backups, recovery window, held log and alarms."""
    from backupd.runs.status import status_json, status_of

    with house.opened(config) as opened:
        rows = [status_of(house.one(opened, name)) for name in house.chosen(opened, database)]
    if as_json:
        output.print_json(status_json(rows))
        return 0
    now = datetime.now(UTC)
    for index, row in enumerate(rows):
        if index:
            output.print_line()
        _print(row, now)
    return 0


def _print(row: Mapping[str, Any], now: datetime) -> None:
    alarms = [str(alarm) for alarm in row["alarms"]]
    mood = Cell(human.count(len(alarms), "alarm"), output.BAD) if alarms else Cell("all well", output.GOOD)
    output.print_line((Cell(str(row["name"]), output.STRONG), f"  {row['engine']}  ", mood))
    table = output.Table(("COPY", "ROLE", "STATE", ">COPY QUEUE", ">REPLAY QUEUE", ">HELD LOG"))
    for copy in row["copies"]:
        passive = copy["role"] == "passive"
        table.add(
            str(copy["name"]),
            str(copy["role"]),
            output.state(str(copy["state"])),
            human.count(copy["copy_queue_logs"], "log") if passive else "-",
            human.count(copy["replay_queue_logs"], "log") if passive else "-",
            human.size(copy["held_log_bytes"]),
        )
    output.print_table(table, indent=2)
    output.print_facts([(f"copy {copy['name']}", _facts(copy)) for copy in row["copies"]], indent=2)
    output.print_line()
    window = row.get("recovery_window") or {}
    output.print_facts(
        (
            ("last full", _backup(row.get("last_full"), now)),
            ("last incremental", _backup(row.get("last_incremental"), now)),
            ("recovery window", _window(window)),
            *((("second archive", _second(row["second_archive"])),) if row.get("second_archive") else ()),
            *(
                (("verified", human.coverage(row["verified"], now)),)
                if (row.get("verified") or {}).get("total_bytes")
                else ()
            ),
            ("proven restorable", _proven(row, now)),
            *((("running", _running(row["running"])),) if row.get("running") else ()),
            *((("next due", _next(row["next_run"], now)),) if row.get("next_run") else ()),
        ),
        indent=2,
    )
    if alarms:
        output.print_line(Cell("  alarms", output.DIM))
        output.print_sentences(alarms, indent=4, bullet="!", style=output.BAD)


def _facts(copy: Mapping[str, Any]) -> str:
    """What the engine says about a copy beyond the table's columns, in one line: ``lag 3.20 s, slot wal_status ok``."""
    facts = copy.get("facts") or {}
    return ", ".join(_fact(str(name), str(value)) for name, value in facts.items() if name not in _IN_THE_TABLE)


def _fact(name: str, value: str) -> str:
    try:
        if name.endswith("_bytes"):
            return f"{name.removesuffix('_bytes').replace('_', ' ')} {human.size(float(value))}"
        if name.endswith("_seconds"):
            return f"{name.removesuffix('_seconds').replace('_', ' ')} {human.duration(float(value))}"
    except ValueError:
        pass  # an engine's word for an amount that it does not know
    return f"{name.replace('_', ' ')} {value}"


def _backup(backup: Any, now: datetime) -> Cell | str:
    if not backup:
        return Cell("none yet", output.WARN)
    if isinstance(backup, str):
        return backup
    finished = human.as_time(backup["finished_at"]) or now
    return f"{human.clock_time(finished)} ({human.ago(finished, now)})  {backup['id']}"


def _second(second: Mapping[str, Any]) -> Cell | str:
    waiting = second["waiting"]
    if second["state"] == "not known":
        return Cell(f"{second['place']}, not known what it holds", output.BAD)
    if not waiting:
        return f"{second['place']}, {'holds all' if second['state'] == 'whole' else 'lacks backups'}"
    size = human.size(second["waiting_bytes"])
    return Cell(f"{second['place']}, {human.count(len(waiting), 'backup')} to be copied, {size}", output.WARN)


def _window(window: Mapping[str, Any]) -> Cell | str:
    if not window.get("from"):
        return Cell("none: nothing can be restored yet", output.WARN)
    return f"{human.clock_time(window['from'])} to {human.clock_time(window.get('to'))}"


def _proven(row: Mapping[str, Any], now: datetime) -> Cell | str:
    """What the last drill that passed has proven, and how long a restore may take."""
    proven = row.get("last_proven")
    if not proven:
        return Cell("by no drill yet", output.DIM)
    at = human.as_time(proven["at"]) or now
    point = f"up to {human.clock_time(proven['point_at'])}" if proven.get("point_at") else proven["position"]
    seconds = row.get("expected_restore_seconds")
    takes = f"; a restore takes about {human.duration(seconds)}" if seconds is not None else ""
    return f"{point}, by the drill of {human.clock_time(at)} ({human.ago(at, now)}){takes}"


def _running(run: Mapping[str, Any]) -> str:
    """Times are of that host's clock, so no difference to ours is told."""
    since, renewed = human.clock_time(run["since"]), human.clock_time(run["renewed_at"])
    return f"{run['run']} on {run['host']}, process {run['pid']}, since {since}, its lease renewed {renewed}"


def _next(run: Any, now: datetime) -> str:
    if isinstance(run, str):
        return run
    at = human.as_time(run.get("at")) or now
    return f"{run.get('type')}, {human.clock_time(at)} ({human.ago(at, now)})"
