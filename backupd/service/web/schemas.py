"""The shapes of the API's answers, as JSON Schema; a test holds real answers against them."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
AMOUNT: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
ANYTHING: Schema = {"type": "object"}
TEXTS: Schema = {"type": "array", "items": TEXT}


def or_null(schema: Schema) -> Schema:
    """The same, or nothing."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """One of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(schema: Schema) -> Schema:
    """Any number of them."""
    return {"type": "array", "items": schema}


def record(properties: Schema, optional: Schema | None = None) -> Schema:
    """An object with these keys, and those that may be missing; later versions may add others."""
    return {"type": "object", "required": list(properties), "properties": {**properties, **(optional or {})}}


_LAST_BACKUP = record(
    {"id": TEXT, "finished_at": TIME, "covers_until": TIME, "log_end": TEXT, "stored_bytes": COUNT},
    {"type": TEXT, "started_at": TIME, "read_bytes": COUNT, "frozen_seconds": or_null(AMOUNT)},
)
_DRILL = record(
    {"backup": TEXT, "at": TIME, "sound": BOOLEAN, "seconds": AMOUNT},
    {
        "backups": TEXTS,
        "started_at": TIME,
        "host": TEXT,
        "run": TEXT,
        "position": TEXT,
        "point_at": or_null(TIME),
        "restore_seconds": AMOUNT,
        "restored_bytes": COUNT,
        "checks": list_of(record({"name": TEXT, "passed": BOOLEAN})),
        "failed_in": or_null(TEXT),
        "because": TEXT,
    },
)
_SLOT = record({"at": TIME, "type": TEXT, "local": TEXT})
_HISTORY = list_of(record({"at": TIME, "event": TEXT, "state": TEXT, "says": TEXT}))
_BACKUP = {
    "id": TEXT,
    "database": TEXT,
    "type": TEXT,
    "state": TEXT,
    "source_copy": TEXT,
    "source_role": TEXT,
    "started_at": TIME,
    "finished_at": TIME,
    "log_start": TEXT,
    "log_end": TEXT,
    "frozen_seconds": or_null(AMOUNT),
    "read_bytes": COUNT,
    "stored_bytes": COUNT,
    "checked_pages": COUNT,
    "policy_commit": or_null(TEXT),
    "truncation": record({"state": TEXT, "before": or_null(TEXT), "blocked_by": TEXTS}),
    "provider": or_null(TEXT),
}
_RUN = {
    "run": TEXT,
    "database": TEXT,
    "kind": TEXT,
    "type": TEXT,
    "state": TEXT,
    "backup": or_null(TEXT),
    "started_at": TIME,
    "finished_at": or_null(TIME),
    "running": BOOLEAN,
    "because": TEXT,
}
_DONE = {"database": TEXT, "done": TEXTS}
_BACKUP_HOLD = {"backup_id": TEXT, "id": TEXT, "reason": TEXT, "by": TEXT, "at": or_null(TIME)}

SCHEMAS: dict[str, Schema] = {
    "Error": record(
        {"error": record({"problem": TEXT, "because": TEXT, "next": TEXT}, {"exit_status": COUNT, "details": ANYTHING})}
    ),
    "Health": record({"state": {"enum": ["fresh", "not fresh"]}, "because": TEXT}),
    "Copy": record(
        {
            "name": TEXT,
            "role": {"enum": ["active", "passive"]},
            "state": TEXT,
            "because": TEXT,
            "path": TEXT,
            "copy_queue_logs": COUNT,
            "replay_queue_logs": COUNT,
            "held_log_bytes": COUNT,
            "held_log_seconds": AMOUNT,
            "held_log_count": COUNT,
            "last_inspected": or_null(TEXT),
            "last_replayed": or_null(TEXT),
            "facts": {"type": "object", "additionalProperties": TEXT},
        }
    ),
    "Alarm": record(
        {"code": TEXT, "subject": TEXT, "severity": {"enum": ["warning", "critical"]}, "sentence": TEXT},
        {"database": TEXT, "next_step": TEXT},
    ),
    "Database": record(
        {"name": TEXT, "seen_at": or_null(TIME)},
        {
            "engine": TEXT,
            "history": or_null(TEXT),
            "copies": list_of(ref("Copy")),
            "last_full": or_null(_LAST_BACKUP),
            "last_incremental": or_null(_LAST_BACKUP),
            "recovery_window": or_null(record({"from": TIME, "to": TIME, "from_position": TEXT, "to_position": TEXT})),
            "verified": or_null(ANYTHING),
            "last_drill": or_null(_DRILL),
            "last_proven": or_null(_DRILL),
            "expected_restore_seconds": or_null(AMOUNT),
            "archive_seen_at": or_null(TIME),
            "second_archive": or_null(ANYTHING),
            "held_log_bytes_warn": COUNT,
            "expected_interval_seconds": {"type": "object", "additionalProperties": AMOUNT},
            "next_run": or_null(_SLOT),
            "running": or_null(ANYTHING),
            "holds": list_of(ANYTHING),
            "alarms": TEXTS,
            "alarm_details": list_of(ref("Alarm")),
        },
    ),
    "Databases": record({"databases": list_of(ref("Database"))}),
    "Backup": record(_BACKUP),
    "Backups": record({"backups": list_of(ref("Backup"))}),
    "WholeBackup": record(
        {
            **_BACKUP,
            "notes": TEXTS,
            "record": ANYTHING,
            "history": _HISTORY,
            "verdicts": list_of(ANYTHING),
            "verified": ANYTHING,
        }
    ),
    "Run": record(_RUN),
    "Runs": record({"runs": list_of(ref("Run"))}),
    "WholeRun": record({**_RUN, "facts": ANYTHING, "history": _HISTORY}),
    "Timeline": record(
        {
            "from": or_null(TIME),
            "to": or_null(TIME),
            "windows": list_of(record({"from": TIME, "to": TIME, "because": TEXT})),
            "gaps": list_of(record({"from": TIME, "to": TIME, "because": TEXT})),
            "moments": list_of(record({"at": TIME, "kind": TEXT, "says": TEXT, "backup": TEXT, "sound": BOOLEAN})),
        }
    ),
    "Holds": record(
        {
            "holds": list_of(
                record(
                    {
                        "database": TEXT,
                        "holder": TEXT,
                        "needs_from": TEXT,
                        "reason": TEXT,
                        "placed_at": TIME,
                        "age_seconds": {"type": "number"},
                    }
                )
            ),
            "backup_holds": list_of(record({"database": TEXT, **_BACKUP_HOLD})),
        }
    ),
    "Explanation": record({"database": TEXT}),
    "RunBegun": record({**_DONE, "type": TEXT}),
    "Done": record({**_DONE, "dry_run": BOOLEAN}),
    "HoldDone": record({"backup": TEXT, "hold": record(_BACKUP_HOLD), "dry_run": BOOLEAN}),
}
