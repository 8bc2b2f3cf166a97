"""The numbers for Prometheus, from the board: names with units, one family for each thing that may alarm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from backupd import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Status = Mapping[str, Any]

# Every family: name, what it says, and its labels besides the database.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "database_info": ("The engine of a database; always 1.", ("engine",)),
    "seen_timestamp_seconds": ("When the database was looked at last.", ()),
    "last_success_timestamp_seconds": ("When the last backup of a type was complete.", ("type",)),
    "last_backup_duration_seconds": ("How long the last complete backup of a type took.", ("type",)),
    "last_backup_read_bytes": ("What the last complete backup of a type read.", ("type",)),
    "last_backup_stored_bytes": ("What the last complete backup of a type stored.", ("type",)),
    "last_backup_frozen_seconds": ("How long replay stood still for the last complete backup of a type.", ("type",)),
    "expected_interval_seconds": ("The longest pause that the schedule plans between two runs of a type.", ("type",)),
    "next_run_timestamp_seconds": ("When the schedule plans the next run.", ("type",)),
    "run_in_progress": ("1 while a run holds the database's lease, on whatever host.", ()),
    "recovery_window_start_timestamp_seconds": ("The first moment of the newest recovery window.", ()),
    "recovery_point_timestamp_seconds": ("The last moment that can be restored.", ()),
    "recovery_point_age_seconds": ("How much would be lost if both copies were lost now.", ()),
    "copy_healthy": ("1 when the copy is healthy.", ("copy", "role")),
    "copy_state": ("The copy's state, as a label; always 1.", ("copy", "role", "state")),
    "copy_queue_logs": ("Log files closed on the active that the passive has not received.", ("copy",)),
    "replay_queue_logs": ("Log files that the passive has received and not replayed.", ("copy",)),
    "copy_queue_bytes": ("Log that the passive has not received, where the engine knows bytes.", ("copy",)),
    "replay_queue_bytes": ("Log that the passive has not replayed, where the engine knows bytes.", ("copy",)),
    "lag_seconds": ("How old the passive's state is, where the engine knows it.", ("copy",)),
    "held_log_bytes": ("Log that a copy keeps until the archive has it.", ("copy", "role")),
    "held_log_files": ("Log files that a copy keeps until the archive has them.", ("copy", "role")),
    "held_log_age_seconds": ("How old the oldest log is that a copy keeps.", ("copy", "role")),
    "held_log_budget_bytes": ("From this much held log on an alarm is raised.", ()),
    "slot_state": ("The state of the replication slot on a server, as a label; always 1.", ("copy", "role", "state")),
    "holds": ("Named reasons why log must stay.", ()),
    "last_drill_timestamp_seconds": ("When the last drill ended: a backup was restored for practice.", ()),
    "last_drill_sound": ("1 when the last drill passed.", ()),
    "last_proven_timestamp_seconds": ("When the last drill passed that proved the newest state.", ()),
    "last_proven_point_timestamp_seconds": ("The moment of the newest state that a drill proved restorable.", ()),
    "expected_restore_seconds": ("How long a restore may take, by the last drills.", ()),
    "archived_bytes": ("What the archive's backups name in all.", ()),
    "verified_bytes": ("How much of that was read back and found sound.", ()),
    "oldest_verified_timestamp_seconds": ("When the byte was read that was not read for longest.", ()),
    "alarms": ("Alarms that last now.", ("severity",)),
    "alarm": ("An alarm that lasts now; always 1.", ("code", "subject", "severity")),
}


class BoardCollector:
    """Reads what it is given at each scrape; keeps nothing.

    Args:
        rows: for each database its status, as ``status --json`` says it, and when it was seen.
        now: the moment.
    """

    def __init__(self, rows: Iterable[tuple[Status, datetime]], now: datetime) -> None:
        self._rows, self._now = rows, now

    def collect(self) -> Iterator[Metric]:
        """Every family, with or without values."""
        families = {
            name: GaugeMetricFamily(f"backupd_{name}", says, labels=("database", *labels))
            for name, (says, labels) in FAMILIES.items()
        }
        info = GaugeMetricFamily("backupd_info", "The version of backupd; always 1.", labels=("version",))
        info.add_metric((__version__,), 1)
        for status, seen_at in self._rows:
            for name, labels, value in (*_of_database(status, seen_at, self._now), *_of_copies(status)):
                families[name].add_metric((str(status["name"]), *labels), value)
        yield info
        yield from families.values()


def metrics_text(rows: Iterable[tuple[Status, datetime]], now: datetime) -> bytes:
    """All of it in Prometheus' text form."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BoardCollector(rows, now))
    return generate_latest(registry)


Sample = tuple[str, tuple[str, ...], float]


def _of_database(status: Status, seen_at: datetime, now: datetime) -> Iterator[Sample]:
    yield "database_info", (str(status.get("engine")),), 1
    yield "seen_timestamp_seconds", (), seen_at.timestamp()
    for key in ("last_full", "last_incremental"):
        yield from _of_backup(key.removeprefix("last_"), status.get(key))
    for kind, seconds in (status.get("expected_interval_seconds") or {}).items():
        yield "expected_interval_seconds", (str(kind),), float(seconds)
    if coming := status.get("next_run"):
        yield "next_run_timestamp_seconds", (str(coming["type"]),), _moment(coming["at"])
    yield "run_in_progress", (), 1 if status.get("running") else 0
    if window := status.get("recovery_window"):
        end = _moment(window["to"])
        yield "recovery_window_start_timestamp_seconds", (), _moment(window["from"])
        yield "recovery_point_timestamp_seconds", (), end
        yield "recovery_point_age_seconds", (), max(0.0, now.timestamp() - end)
    yield "held_log_budget_bytes", (), float(status.get("held_log_bytes_warn") or 0)
    yield "holds", (), len(status.get("holds") or ())
    if drill := status.get("last_drill"):
        yield "last_drill_timestamp_seconds", (), _moment(drill["at"])
        yield "last_drill_sound", (), 1 if drill["sound"] else 0
    if proven := status.get("last_proven"):
        yield "last_proven_timestamp_seconds", (), _moment(proven["at"])
        if point := proven.get("point_at"):
            yield "last_proven_point_timestamp_seconds", (), _moment(point)
    if (expected := status.get("expected_restore_seconds")) is not None:
        yield "expected_restore_seconds", (), float(expected)
    if verified := status.get("verified"):
        yield "archived_bytes", (), float(verified["total_bytes"])
        yield "verified_bytes", (), float(verified["verified_bytes"])
        if oldest := verified.get("oldest_verified_at"):
            yield "oldest_verified_timestamp_seconds", (), _moment(oldest)
    yield from _of_alarms(status)


def _of_backup(kind: str, backup: Status | None) -> Iterator[Sample]:
    if not backup:
        return
    finished = _moment(backup["finished_at"])
    yield "last_success_timestamp_seconds", (kind,), finished
    if started := backup.get("started_at"):
        yield "last_backup_duration_seconds", (kind,), max(0.0, finished - _moment(started))
    for key in ("read_bytes", "stored_bytes", "frozen_seconds"):
        if backup.get(key) is not None:
            yield f"last_backup_{key}", (kind,), float(backup[key])


def _of_alarms(status: Status) -> Iterator[Sample]:
    details = status.get("alarm_details")
    if details is None:  # sentences alone do not say how much they matter
        yield "alarms", ("unknown",), len(status.get("alarms") or ())
        return
    for severity in ("warning", "critical"):
        yield "alarms", (severity,), sum(1 for one in details if one["severity"] == severity)
    kinds = dict.fromkeys((str(one["code"]), str(one["subject"]), str(one["severity"])) for one in details)
    for labels in kinds:
        yield "alarm", labels, 1


def _of_copies(status: Status) -> Iterator[Sample]:
    for copy in status.get("copies") or ():
        name, role, facts = str(copy["name"]), str(copy["role"]), copy.get("facts") or {}
        yield "copy_healthy", (name, role), 1 if copy["state"] == "healthy" else 0
        yield "copy_state", (name, role, str(copy["state"])), 1
        yield "held_log_bytes", (name, role), float(copy["held_log_bytes"])
        yield "held_log_files", (name, role), float(copy["held_log_count"])
        yield "held_log_age_seconds", (name, role), float(copy["held_log_seconds"])
        if "slot" in facts:
            yield "slot_state", (name, role, str(facts["slot"]).rpartition(": ")[2]), 1
        if role != "passive":
            continue
        yield "copy_queue_logs", (name,), float(copy["copy_queue_logs"])
        yield "replay_queue_logs", (name,), float(copy["replay_queue_logs"])
        for fact in ("copy_queue_bytes", "replay_queue_bytes", "lag_seconds"):
            if (value := _number(facts.get(fact))) is not None:
                yield fact, (name,), value


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None  # an engine's word for an amount that it does not know


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
