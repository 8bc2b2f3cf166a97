"""backupctl policy: check the files, print their JSON Schema, show the calendar they make."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import house, human, output
from backupd.cli.options import AnyDatabaseArgument, ConfigOption, JsonOption
from backupd.errors import ConfigInvalid, NotFound

if TYPE_CHECKING:
    from backupd.policy.beside import Neighbours

CHECK_EXAMPLES = ("backupctl policy check", "backupctl policy check policies/*.toml   # for a pre-commit hook and CI")
SCHEMA_EXAMPLES = ("backupctl policy schema > policy.schema.json",)
PLAN_EXAMPLES = ("backupctl policy plan --days 14",)


def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Files or directories; else the config's policies.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Validate policy files and name every problem with its file and line; exit status 3 when there is one."""
    from backupd.policy.beside import Neighbours

    neighbours: dict[Path, Neighbours] = {}
    answers = [_look(path, neighbours.setdefault(path.parent, Neighbours())) for path in _files(paths or [], config)]
    bad = [answer for answer in answers if not answer["ok"]]
    if as_json:
        output.print_json({"ok": not bad, "files": answers})
    else:
        _print(answers)
    if not bad:
        return 0
    error = ConfigInvalid(
        f"{len(bad)} of {human.count(len(answers), 'policy file')} cannot be used",
        because=_sentence(bad[0]["problems"][0]),
        next_step=f"edit {bad[0]['problems'][0]['file']}, then: backupctl policy check {bad[0]['path']}",
    )
    output.print_error(error, as_json=False)
    return error.exit_status


def _print(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        verdict = output.state("ok") if answer["ok"] else output.Cell("invalid", output.BAD)
        about = ", with ".join([answer["database"] or "", *answer["includes"]])
        output.print_line((verdict, f"  {answer['path']}", f"  ({about})" if about else ""))
        output.print_sentences([_sentence(problem) for problem in answer["problems"]], indent=4, style=output.BAD)
        output.print_sentences([str(warning) for warning in answer["warnings"]], indent=4, style=output.WARN)


def _files(paths: list[Path], config: str | None) -> list[Path]:
    from backupd.policy.load import load_policies, load_service_config, policy_files

    if not paths:
        paths = [load_service_config(house.config_path(config)).policies_dir]
        if not paths[0].is_dir():
            load_policies(paths[0])  # says why it is not there: nothing was fetched yet, perhaps
    files: list[Path] = []
    for path in paths:
        files += policy_files(path) if path.is_dir() else [path]
    if not files:
        raise NotFound(
            "there is no policy file",
            because=f"{', '.join(map(str, paths))} holds no *.toml file",
            next_step="write one with: backupctl init DIR --database NAME --copy a=PATH --copy b=PATH --active a",
        )
    return files


def _look(path: Path, neighbours: Neighbours) -> dict[str, Any]:
    """What is wrong with one file, alone and beside the others of its folder that were looked at before it."""
    from backupd.policy.load import load_policy

    answer: dict[str, Any] = {
        "path": str(path),
        "database": None,
        "includes": [],
        "ok": True,
        "problems": [],
        "warnings": [],
    }
    try:
        loaded = load_policy(path)
    except ConfigInvalid as error:
        answer["ok"] = False
        answer["problems"] = error.details["problems"]
    else:
        answer["database"], answer["includes"] = loaded.policy.database, loaded.policy.include
        answer["warnings"] = list(loaded.warnings)
        if (shared := neighbours.add(loaded)) is not None:
            answer["ok"] = False
            answer["problems"] = [shared.as_json()]
    return answer


def _sentence(problem: dict[str, Any]) -> str:
    """As compilers say it, so that editors and CI can jump there."""
    where = f"{problem['file']}:{problem['line']}: " if problem["line"] else f"{problem['file']}: "
    place = f"{problem['place']}: " if problem["place"] else ""
    return f"{where}{place}{problem['problem']}"


def schema() -> int:
    """Print the JSON Schema of a policy file."""
    from backupd.policy.schema import policy_json_schema

    output.print_json(policy_json_schema())
    return 0


def plan(
    database: AnyDatabaseArgument = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How many days from now.")] = 7,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Show the calendar of runs that the policies make."""
    from backupd.decide.schedule import calendar

    now = datetime.now(UTC)
    with house.opened(config) as opened:
        slots = [
            (name, slot)
            for name in house.chosen(opened, database)
            for slot in calendar(house.one(opened, name).policy.schedule_rules(), now, days, database=name)
        ]
    slots.sort(key=lambda one: (one[1].at, one[0]))
    if as_json:
        rows = [{"database": name, "type": slot.task.value, "at": slot.at.isoformat()} for name, slot in slots]
        output.print_json({"days": days, "runs": rows})
        return 0
    if not slots:
        output.print_line(f"nothing is scheduled in the next {human.count(days, 'day')}")
        return 0
    table = output.Table(("WHEN", "DATABASE", "TYPE", "FROM NOW"))
    for name, slot in slots:
        table.add(slot.local, name, slot.task.value, human.ago(slot.at, now))
    output.print_table(table)
    return 0
