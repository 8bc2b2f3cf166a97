"""A desk with made-up databases in every state, for tests and pictures of the page; all else about it is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from backupd.errors import ArchiveUnreachable, NotFound
from backupd.model.kinds import BackupType
from backupd.service.board import Board, Seen

NOW = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def backup(kind: str, at: datetime, database: str, **more: Any) -> dict[str, Any]:
    letter = {"full": "F", "incremental": "I", "express": "E"}.get(kind, "C")
    size = 4_800_000_000 if kind == "full" else 61_000_000
    return {
        "id": f"{at:%Y%m%dT%H%M%SZ}-{letter}-1a2b3c4d",
        "database": database,
        "type": kind,
        "state": "complete",
        "source_copy": "b",
        "source_role": "passive",
        "started_at": (at - timedelta(seconds=95)).isoformat(),
        "finished_at": at.isoformat(),
        "log_start": "5f3a9c21d0e47b86/100",
        "log_end": "5f3a9c21d0e47b86/4711",
        "frozen_seconds": 0.41 if kind == "full" else None,
        "read_bytes": size * 2,
        "stored_bytes": size,
        "checked_pages": 1_220_703 if kind == "full" else 0,
        "policy_commit": "4b1f9e0c",
        "truncation": {"state": "truncated", "before": "5f3a9c21d0e47b86/4700", "blocked_by": []},
        "provider": "btrfs" if kind == "full" else None,
    } | more


def copy(name: str, role: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "state": "healthy",
        "because": "",
        "path": f"/srv/{name}/app.db",
        "copy_queue_logs": 0,
        "replay_queue_logs": 0,
        "held_log_bytes": 48_000_000,
        "held_log_seconds": 5400.0,
        "held_log_count": 12,
        "last_inspected": "5f3a9c21d0e47b86/4711",
        "last_replayed": "5f3a9c21d0e47b86/4711",
        "facts": {"role": role, "slot": "backupd: reserved", "lag_seconds": "0.4"},
    } | more


def last(row: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("id", "type", "started_at", "finished_at", "log_end", "read_bytes", "stored_bytes", "frozen_seconds")
    return {key: row[key] for key in keys} | {"covers_until": row["finished_at"]}


def healthy(name: str, now: datetime = NOW, **more: Any) -> dict[str, Any]:
    full = backup("full", now - timedelta(days=5, hours=12), name)
    newest = backup("incremental", now - timedelta(minutes=35), name)
    drill = {
        "backup": full["id"],
        "backups": [full["id"]],
        "host": "db1",
        "run": "20261120T040000Z-drill-00000001",
        "at": (now - 2 * DAY).isoformat(),
        "started_at": (now - 2 * DAY).isoformat(),
        "sound": True,
        "position": full["log_end"],
        "point_at": full["finished_at"],
        "seconds": 210.0,
        "restore_seconds": 180.0,
        "restored_bytes": 9_000_000_000,
        "checks": [],
        "failed_in": None,
        "because": "",
    }
    return {
        "name": name,
        "engine": "postgres",
        "history": "5f3a9c21d0e47b86",
        "copies": [copy("a", "active"), copy("b", "passive", replay_queue_logs=1)],
        "last_full": last(full),
        "last_incremental": last(newest),
        "recovery_window": {
            "from": (now - 26.5 * DAY).isoformat(),
            "to": newest["finished_at"],
            "from_position": "5f3a9c21d0e47b86/100",
            "to_position": "5f3a9c21d0e47b86/4711",
        },
        "verified": {
            "verified_bytes": 9_000_000_000,
            "total_bytes": 20_000_000_000,
            "verified_share": 0.45,
            "oldest_verified_at": None,
        },
        "last_drill": drill,
        "last_proven": drill,
        "expected_restore_seconds": 190.0,
        "archive_seen_at": now.isoformat(),
        "second_archive": None,
        "held_log_bytes_warn": 2**30,
        "expected_interval_seconds": {"any": 86400.0, "full": 604800.0},
        "next_run": {
            "at": (now + timedelta(hours=11, minutes=55)).isoformat(),
            "type": "incremental",
            "local": "Mon 2026-11-23 02:00 UTC",
        },
        "running": None,
        "holds": [],
        "alarms": [],
        "alarm_details": [],
    } | more


def alarm(name: str, code: str, sentence: str, severity: str = "critical", next_step: str = "") -> dict[str, str]:
    return {
        "database": name,
        "code": code,
        "subject": "",
        "severity": severity,
        "sentence": sentence,
        "next_step": next_step,
    }


def overdue(name: str, now: datetime = NOW) -> dict[str, Any]:
    told = [
        alarm(
            name,
            "backup-overdue",
            "the last backup ended 2 d 3 h ago, and one is expected every day",
            next_step=f"look at why: backupctl explain schedule {name}",
        ),
        alarm(
            name,
            "held-log",
            "the active copy a holds 1.4 GiB of log (warning at 1.0 GiB); the blocker: the passive copy b is suspended",
            "warning",
            next_step=f"backupctl copy resume {name}",
        ),
    ]
    late = backup("incremental", now - timedelta(days=2, hours=3), name)
    return healthy(name, now) | {
        "copies": [
            copy("a", "active", held_log_bytes=1_500_000_000, held_log_count=360, held_log_seconds=183_000.0),
            copy("b", "passive", state="suspended", because="a person said: disk exchange", copy_queue_logs=360),
        ],
        "last_incremental": last(late),
        "recovery_window": {
            **healthy(name, now)["recovery_window"],
            "from": (now - 12.4 * DAY).isoformat(),
            "to": late["finished_at"],
        },
        "alarms": [one["sentence"] for one in told],
        "alarm_details": told,
    }


def warned(name: str, now: datetime = NOW) -> dict[str, Any]:
    told = [
        alarm(name, "drill-due", "no backup was restored for practice for 40 d", "warning", f"backupctl drill {name}")
    ]
    return healthy(name, now) | {
        "alarms": [told[0]["sentence"]],
        "alarm_details": told,
        "last_drill": None,
        "last_proven": None,
    }


def history(name: str, *, broken: bool, now: datetime = NOW) -> list[dict[str, Any]]:
    rows = [backup("full", now - (5.5 + 7 * week) * DAY, name) for week in range(4)]
    begin = now - 26.5 * DAY
    rows += [
        backup("incremental", begin + number * DAY / 4, name)
        for number in range(106)
        if not (broken and (44 < number < 58 or number > 97))
    ]
    rows.sort(key=lambda row: row["finished_at"])
    if broken:
        rows[-3]["state"] = "damaged"
    return rows


def timeline(rows: Sequence[Mapping[str, Any]], *, broken: bool, now: datetime = NOW) -> dict[str, Any]:
    if not rows:
        return {"from": None, "to": None, "windows": [], "gaps": [], "moments": []}
    first, end = rows[0]["finished_at"], rows[-1]["finished_at"]
    moments = [
        {
            "at": row["finished_at"],
            "kind": row["type"],
            "says": f"{row['type']} backup {row['id']}",
            "backup": row["id"],
            "sound": row["state"] != "damaged",
        }
        for row in rows
    ]
    drill = {"kind": "drill", "says": f"drill: backup {rows[0]['id']} was restored, opened and sound"}
    moments.append({**moments[0], **drill, "at": (now - 2 * DAY).isoformat()})
    says = f"stamp: the passive knows {rows[-1]['id']} as the last {rows[-1]['type']}"
    moments.append({**moments[0], "kind": "stamp", "at": end, "says": says, "backup": rows[-1]["id"]})
    says = "restore point 'before <b>4.2</b>': backupctl restore orders --to-name 'before <b>4.2</b>'"
    moments.append({**moments[0], "kind": "point", "at": (now - 3.5 * DAY).isoformat(), "says": says, "backup": ""})
    windows = [{"from": first, "to": end, "because": ""}]
    gaps = [{"from": end, "to": now.isoformat(), "because": "no backup holds this time yet"}]
    if broken:
        hole = [(now - 15.4 * DAY).isoformat(), (now - 12.4 * DAY).isoformat()]
        windows = [{"from": first, "to": hole[0], "because": ""}, {"from": hole[1], "to": end, "because": ""}]
        gaps.insert(0, {"from": hole[0], "to": hole[1], "because": "the log of this time is in no backup"})
        says = "a new history, 8 after 7: a failover, or a restore to the active"
        moments.append({**moments[0], "kind": "failover", "at": hole[1], "says": says})
        says = f"the active was restored to all of it, from {rows[0]['id']}"
        moments.append({**moments[0], "kind": "restore", "at": (now - 12.0 * DAY).isoformat(), "says": says})
    moments.sort(key=lambda one: one["at"])
    return {"from": first, "to": now.isoformat(), "windows": windows, "gaps": gaps, "moments": moments}


class ShowDesk:
    """Answers from made-up rows; orders are noted in ``orders``."""

    def __init__(self, statuses: Sequence[dict[str, Any]], *, now: datetime = NOW) -> None:
        self.board, self.at = Board(), now
        self.orders: list[tuple[str, ...]] = []
        self.archive_away = False
        self.names = tuple(sorted(str(one["name"]) for one in statuses))
        for status in statuses:
            self.board.put(Seen(str(status["name"]), now - timedelta(seconds=12), status))

    def now(self) -> datetime:
        return self.at

    def version(self) -> int:
        return self.board.version

    def wait_newer(self, version: int, timeout_seconds: float) -> int:
        return self.board.wait_newer(version, timeout_seconds)

    def databases(self) -> tuple[str, ...]:
        return self.names

    def all_seen(self) -> tuple[Seen, ...]:
        return self.board.all()

    def seen(self, database: str) -> Seen | None:
        self._known(database)
        return self.board.seen(database)

    def next_runs(self, database: str) -> list[dict[str, Any]]:
        coming = self.board.seen(database)
        first: Any = coming.status["next_run"] if coming else None
        if first is None:
            return []
        at = datetime.fromisoformat(first["at"])
        return [
            first | {"at": (at + number * DAY).isoformat(), "local": f"{at + number * DAY:%a %d %b %H:%M} UTC"}
            for number in range(4)
        ]

    def _broken(self, database: str) -> bool:
        seen = self.board.seen(database)
        return seen is not None and bool(seen.status.get("alarms"))

    def runs(self, database: str, limit: int) -> list[dict[str, Any]]:
        self._known(database)
        rows = [
            {
                "run": f"{datetime.fromisoformat(row['started_at']):%Y%m%dT%H%M%SZ}-backup-{number:08x}",
                "database": database,
                "kind": "backup",
                "type": row["type"],
                "state": "complete",
                "backup": row["id"],
                "started_at": row["started_at"],
                "finished_at": row["finished_at"],
                "running": False,
                "because": "",
            }
            for number, row in enumerate(history(database, broken=self._broken(database), now=self.at)[-8:][::-1])
        ]
        if self._broken(database):
            rows[0] |= {"state": "refused", "because": "the passive copy b is suspended: a person said: disk exchange"}
            rows[1] |= {
                "state": "failed",
                "because": "page 4711 of app.db is damaged: its checksum is not that of its bytes",
            }
        return rows[:limit]

    def run(self, database: str, run_id: str) -> dict[str, Any]:
        for row in self.runs(database, 100):
            if row["run"] == run_id:
                diary = [
                    {"at": row["started_at"], "event": "begin", "state": "planned", "says": "backup begins"},
                    {
                        "at": row["finished_at"],
                        "event": "end",
                        "state": row["state"],
                        "says": row["because"] or "listed",
                    },
                ]
                return row | {"facts": {"provider": "btrfs"}, "history": diary}
        raise NotFound(f"there is no run {run_id}", because="the journal has none", next_step="backupctl status")

    def backups(self, database: str) -> list[dict[str, Any]]:
        self._known(database)
        if self.archive_away:
            raise ArchiveUnreachable("the archive cannot be read", because="connection refused", next_step="start it")
        return history(database, broken=self._broken(database), now=self.at)

    def backup(self, database: str, backup_id: str) -> dict[str, Any]:
        for row in self.backups(database):
            if row["id"] == backup_id:
                return row | {"notes": [], "record": {}, "history": [], "verdicts": [], "verified": {}}
        raise NotFound(f"there is no backup {backup_id}", because="the archive has none", next_step="backupctl list")

    def timeline(self, database: str) -> dict[str, Any]:
        return timeline(self.backups(database), broken=self._broken(database), now=self.at)

    def holds(self, database: str) -> dict[str, Any]:
        self._known(database)
        held = [
            {
                "database": database,
                "backup_id": order[2],
                "id": "0a1b2c3d",
                "reason": order[3],
                "by": "the page of db1",
                "at": self.at.isoformat(),
            }
            for order in self.orders
            if order[:2] == ("hold", database)
        ]
        return {"holds": [], "backup_holds": held}

    def explain(self, database: str, what: str) -> dict[str, Any]:
        self._known(database)
        if what == "truncation":
            return {
                "database": database,
                "state": "kept",
                "before": None,
                "blocked_by": [{"code": "passive-suspended", "because": "the passive copy b is suspended"}],
                "reasons": ["the archive holds the log up to 1/50331648"],
                "evidence": {"archived_end": "1/50331648"},
                "removed_logs": 0,
                "removed_bytes": 0,
            }
        if what == "retention":
            row = {
                "id": "20261101T010000Z-F-1a2b3c4d",
                "type": "full",
                "covers_until": self.at.isoformat(),
                "codes": ["days"],
            }
            kept = row | {"reasons": ["a point of the last 28 days needs it"]}
            return {
                "database": database,
                "keep": [kept],
                "drop": [],
                "bare": {},
                "drop_logs_count": 0,
                "drop_share": 0.0,
                "needs_yes": False,
            }
        if what == "schedule":
            return {"database": database, "timezone": "UTC", "due": None, "next": None, "attempts": []}
        raise NotFound(f"nothing explains {what!r}", because="there are others", next_step="see /openapi.json")

    def run_now(self, database: str, backup_type: BackupType) -> str:
        return self._order("run", database, backup_type.value, says=f"a {backup_type} backup of {database} begins")

    def hold(self, database: str, backup_id: str, reason: str) -> dict[str, Any]:
        self.backup(database, backup_id)
        self._order("hold", database, backup_id, reason)
        held = {"backup_id": backup_id, "id": "0a1b2c3d", "reason": reason, "by": "the page", "at": self.at.isoformat()}
        return {"backup": backup_id, "hold": held}

    def release(self, database: str, backup_id: str, hold_id: str) -> dict[str, Any]:
        self.backup(database, backup_id)
        self._order("release", database, backup_id, hold_id)
        held = {"backup_id": backup_id, "id": hold_id, "reason": "", "by": "the page", "at": self.at.isoformat()}
        return {"backup": backup_id, "hold": held}

    def suspend(self, database: str, comment: str) -> str:
        return self._order("suspend", database, comment, says=f"the passive of {database} is suspended")

    def resume(self, database: str) -> str:
        return self._order("resume", database, says=f"the passive of {database} catches up")

    def _order(self, *order: str, says: str = "") -> str:
        self._known(order[1])
        self.orders.append(order)
        return says

    def _known(self, database: str) -> None:
        if database not in self.names:
            raise NotFound(
                f"no database is called {database!r}", because="no policy names it", next_step="backupctl status"
            )


def showroom(count: int, *, broken: bool, now: datetime = NOW) -> ShowDesk:
    """So many databases: all well, or a few of them not."""
    names = [
        f"{word}-{number:03d}" if number else word
        for number in range(-(-count // 5))
        for word in ("orders", "ledger", "stock", "users", "mail")
    ]
    statuses = [healthy(name, now) for name in names[:count]]
    if broken:
        statuses[0] = overdue(names[0], now)
        for number in (3, 17, 29):
            if number < count:
                statuses[number] = warned(names[number], now)
    return ShowDesk(statuses, now=now)
