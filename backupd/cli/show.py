"""backupctl show: one backup, whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from backupd.cli import backup_facts, house, human, origin, output
from backupd.cli.options import ConfigOption, JsonOption
from backupd.cli.origin import EndpointOption, FromOption
from backupd.errors import NotFound

EXAMPLES = ("backupctl show 20261122T010000Z-F-1a2b3c4d",)


def show(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="A backup's id, from: backupctl list")],
    place: FromOption = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Show one backup: what it holds, how it came to be, and what verify said about it."""
    with origin.opened(origin.Words(place, None, endpoint_url), config) as opened:
        answer = _find(opened, backup)
    if as_json:
        output.print_json(answer)
        return 0
    record = answer.get("record") or {}
    more = {"provider": record.get("provider"), "parent": record.get("parent")}
    if answer.get("history"):
        more["notes"] = ()  # the diary below has them, with their times
    backup_facts.print_backup({**answer, **more})
    _print_encryption(record.get("encryption"))
    _print_content(record)
    _print_history(answer.get("history") or ())
    verdicts = answer.get("verdicts") or ()
    output.print_line()
    if (answer.get("verified") or {}).get("total_bytes"):
        output.print_facts((("verified", human.coverage(answer["verified"], datetime.now(UTC))),))
    output.print_line(output.Cell("verdicts", output.STRONG) if verdicts else "no verify has looked at it yet")
    for verdict in verdicts:
        sound = bool(verdict["sound"])
        output.print_line(
            (
                f"  {human.clock_time(verdict['at'])}  {verdict['kind']} {_extent(verdict)}  ",
                output.Cell(_found(verdict), output.GOOD if sound else output.BAD),
            )
        )
        output.print_sentences([str(finding) for finding in verdict["findings"]], indent=4)
    return 0


def _print_encryption(encryption: dict[str, Any] | None) -> None:
    if encryption:
        whom = ", ".join(encryption["recipients"])
        output.print_facts((("encrypted", f"{encryption['cipher']}, to the keys {whom}"),))


def _found(verdict: Mapping[str, Any]) -> str:
    """A drill may fail for reasons that are no damage."""
    if verdict["kind"] == "drill":
        return "passed" if verdict["sound"] else "FAILED"
    return "sound" if verdict["sound"] else "DAMAGED"


def _extent(verdict: Mapping[str, Any]) -> str:
    """``data`` or ``data, a part``: a sample, or a look that was cut off."""
    partial = verdict["level"] == "data" and not verdict["whole"] and verdict["sound"]
    return f"{verdict['level']}, a part" if partial else str(verdict["level"])


def _find(opened: Any, backup: str) -> dict[str, Any]:
    from backupd.runs.listing import show_backup

    names = house.chosen(opened, None)
    last: NotFound | None = None
    for name in names:
        try:
            return dict(show_backup(house.one(opened, name), backup))
        except NotFound as error:
            last = error
    if last is not None and len(names) == 1:
        raise last
    raise NotFound(
        f"no backup is called {backup!r}",
        because=f"none of the archives of {', '.join(names)} holds it",
        next_step="backupctl list",
    )


def _print_content(record: dict[str, Any]) -> None:
    for file in record.get("files") or ():
        output.print_line()
        output.print_line((output.Cell("file ", output.STRONG), str(file.get("path"))))
        output.print_facts(
            (
                ("size", f"{human.size(file.get('size_bytes'))}, {_pages(file)}"),
                ("blake3", str(file.get("blake3", ""))),
                ("segments", f"{len(file.get('segments') or ()):,}"),
            ),
            indent=2,
        )
    logs = record.get("logs") or ()
    if not logs:
        return
    output.print_line()
    stored = sum(int(log.get("stored_bytes", 0)) for log in logs)
    output.print_line(
        (output.Cell("log ", output.STRONG), f"{human.count(len(logs), 'file')}, {human.size(stored)} stored")
    )


def _pages(file: dict[str, Any]) -> str:
    """How many pages, and of an express full how many of them are stored in it."""
    pages = f"{file.get('page_count', 0):,} pages"
    express = file.get("express")
    return f"{pages}, {express['stored_pages']:,} of them stored here" if express else pages


def _print_history(history: Any) -> None:
    if not history:
        return
    output.print_line()
    output.print_line(output.Cell("how it came to be", output.STRONG))
    table = output.Table(("TIME (LOCAL)", "STATE", "WHAT HAPPENED"), last_wraps=True)
    for move in history:
        noted = move.get("event") == "note"
        table.add(human.short_time(move.get("at")), "" if noted else str(move.get("state")), str(move.get("says")))
    output.print_table(table, indent=2)
