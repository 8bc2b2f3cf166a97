"""How a backup is shown: as a row of the list, and whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backupd.cli import human, output
from backupd.cli.output import Cell

Row = Mapping[str, Any]


WIDE_COLUMNS = 92


def table_of(rows: Sequence[Row]) -> output.Table:
    """One line a backup, the newest last; what became of the log is shown where there is room."""
    heads = ["BACKUP", "TYPE", "STATE", "FINISHED (LOCAL)", ">STORED", "LOG"]
    wide = output.width() >= WIDE_COLUMNS
    table = output.Table(heads if wide else heads[:-1])
    for row in rows:
        truncation = row.get("truncation") or {}
        cells: list[Cell | str] = [
            str(row["id"]),
            str(row["type"]),
            output.state(str(row["state"])),
            human.short_time(row.get("finished_at"))[: None if wide else -3],
            human.size(row.get("stored_bytes")),
            output.state(str(truncation.get("state", "none")).replace("none", "-")),
        ]
        table.add(*(cells if wide else cells[:-1]))
    return table


def print_backup(row: Row, *, title: str = "") -> None:
    """Everything about one backup that a person asks for."""
    head = title or f"{row.get('type')} backup of {row.get('database')}"
    named = ("  ", str(row["id"]), "  ", output.state(str(row.get("state")))) if row.get("id") else ()
    output.print_line((Cell(head, output.STRONG), *named))
    output.print_facts(_facts(row), indent=2)
    notes = list(row.get("notes") or ())
    if notes:
        output.print_line(Cell("  notes", output.DIM))
        output.print_sentences(notes, indent=4)


def _facts(row: Row) -> list[tuple[str, Cell | str]]:
    pages = row.get("checked_pages")
    read = row.get("read_bytes")
    return [
        ("source", _source(row)),
        ("started", human.clock_time(row["started_at"]) if row.get("started_at") else ""),
        ("finished", _finished(row)),
        ("frozen", _frozen(row.get("frozen_seconds"))),
        ("read", f"{human.size(read)}{f', {pages:,} pages checked' if pages else ''}" if read is not None else ""),
        ("stored", human.size(row["stored_bytes"]) if row.get("stored_bytes") is not None else ""),
        ("log", _log(row)),
        ("builds on", str(row.get("parent") or "")),
        ("policy", str(row.get("policy_commit") or "")),
        *truncation_facts(row.get("truncation")),
    ]


def _source(row: Row) -> str:
    if not row.get("source_copy"):
        return ""
    provider = row.get("provider")
    return f"copy {row['source_copy']} ({row.get('source_role')})" + (f", snapshot by {provider}" if provider else "")


def _frozen(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return human.duration(seconds) if seconds else "not at all: replay ran on"


def _finished(row: Row) -> str:
    if not row.get("finished_at"):
        return ""
    text = human.clock_time(row["finished_at"])
    started, finished = human.as_time(row.get("started_at")), human.as_time(row["finished_at"])
    if started and finished:
        text += f", after {human.duration((finished - started).total_seconds())}"
    return text


def _log(row: Row) -> str:
    start, end = row.get("log_start"), row.get("log_end")
    if not end:
        return f"from {start}" if start else ""
    return f"stands at {end}" if start in (None, end) else f"{start} -> {end}"


def truncation_facts(truncation: Row | None) -> list[tuple[str, Cell | str]]:
    """What became of the log on the copies: removed up to where, or kept and why."""
    if not truncation or truncation.get("state") in (None, "none"):
        return []
    word = str(truncation["state"])
    text = word + (f", log before {truncation['before']} is gone" if truncation.get("before") else "")
    facts: list[tuple[str, Cell | str]] = [("truncation", Cell(text, output.STATE_STYLES.get(word, "")))]
    facts += [("  because", reason) for reason in reasons_of(truncation.get("blocked_by"))]
    return facts


def reasons_of(reasons: Any) -> list[str]:
    """Sentences, whether they came as text or as ``{"code", "because"}``."""
    return [
        str(reason.get("because") or reason.get("code")) if isinstance(reason, Mapping) else str(reason)
        for reason in reasons or ()
    ]
