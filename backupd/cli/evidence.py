"""The evidence about the log in human words, from what is archived to how fresh the answers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backupd.cli import human

UNKNOWN = "not known"


def evidence_facts(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines that ``explain truncation`` shows; none when nothing could be asked."""
    if not evidence:
        return []
    return [
        ("policy", "archived log is removed" if evidence["enabled"] else "truncation is switched off"),
        ("last backup", _with(evidence["last_backup"], evidence["last_backup_state"]) or "none yet"),
        ("archived, without a gap, up to", evidence["archive_end"] or "nothing of this history yet"),
        *_second(evidence.get("second_archive")),
        ("history of the copies", evidence["history"] or UNKNOWN),
        ("oldest log that is held", evidence["oldest_held"] or "none"),
        ("the passive", _with(evidence["passive_state"], evidence["passive_because"])),
        ("the passive has replayed up to", evidence["passive_replayed"] or UNKNOWN),
        ("the passive's data is durable up to", evidence["passive_checkpointed"] or UNKNOWN),
        ("the active's data is durable up to", evidence["active_checkpointed"] or UNKNOWN),
        ("holds", "; ".join(map(_hold, evidence["holds"])) or "none"),
        ("the copies were asked", _age(evidence)),
    ]


def _second(second: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How far the second archive reaches, where both must hold a backup before its log goes."""
    if not second:
        return []
    lacks = f", lacks {', '.join(second['lacks'])}" if second["lacks"] else ""
    known = UNKNOWN if second["because"] else "nothing of this history yet"
    return [("in the second archive, without a gap, up to", f"{second['end'] or known}{lacks} ({second['place']})")]


def _with(word: str | None, more: str | None) -> str:
    return (word or "") + (f" ({more})" if word and more else "")


def _hold(hold: Mapping[str, Any]) -> str:
    return f"{hold['holder']} needs the log from {hold['needs_from']} on, because {hold['reason']}"


def _age(evidence: Mapping[str, Any]) -> str:
    limit = human.duration(float(evidence["age_seconds_max"]))
    return f"{human.duration(float(evidence['age_seconds']))} ago; at most {limit} count"
