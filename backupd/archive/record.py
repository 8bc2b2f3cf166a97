"""The record of a backup as bytes: COMMIT or ABORT, created once, the only thing that listing looks at."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backupd.archive.envelope import malformed, seal, unseal
from backupd.archive.sound_record import check_record
from backupd.model.position import Position
from backupd.model.records import (
    BackupRecord,
    BackupType,
    Encryption,
    ExpressFacts,
    LogFile,
    LogKind,
    RestorePoint,
    StoredFile,
    StoredLog,
    StoredMap,
    StoredSegment,
)

if TYPE_CHECKING:
    from backupd.pipeline.cipher import DataKey

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AbortRecord:
    """Stands where the commit record would: this backup never came to be, and cannot any more."""

    id: str
    reason: str
    at: datetime
    by: str


def encode_record(record: BackupRecord, *, object_name: str, repository: str) -> bytes:
    """The bytes of the COMMIT record."""
    return seal("record", object_name, repository, {"verdict": "commit", **record_to_json(record)})


def encode_abort(abort: AbortRecord, *, object_name: str, repository: str) -> bytes:
    """The bytes of the ABORT record."""
    content = {"verdict": "abort", "id": abort.id, "reason": abort.reason, "at": abort.at.isoformat(), "by": abort.by}
    return seal("record", object_name, repository, content)


def decode_record(object_name: str, data: bytes, repository: str | None) -> BackupRecord | AbortRecord:
    """Read a record.

    Raises:
        DamageFound: the bytes are not those that were written under this name.
    """
    content = unseal("record", object_name, data, repository)
    try:
        if content["verdict"] == "abort":
            at = datetime.fromisoformat(content["at"])
            return AbortRecord(str(content["id"]), str(content["reason"]), at, str(content["by"]))
        if content["verdict"] != "commit":
            raise ValueError(content["verdict"])
        record = _record(content)
        check_record(record, object_name)
        return record
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as problem:
        raise malformed(object_name, problem) from problem


def record_to_json(record: BackupRecord) -> Json:
    """The record as plain JSON values: times in ISO 8601, positions as ``history/offset``."""
    content = {field.name: _plain(getattr(record, field.name)) for field in fields(record)}
    content["files"] = [file_to_json(file) for file in record.files]
    content["logs"] = [{**_flat(stored), "log": log_to_json(stored.log)} for stored in record.logs]
    content["encryption"] = _flat(record.encryption) if record.encryption else None
    return content


def mac_of(record: BackupRecord, key: DataKey, *, object_name: str, repository: str) -> str:
    """The HMAC (hex) of an encrypted backup's record, bound to its place; what it says itself is left out."""
    content = record_to_json(record)
    content["encryption"] = {**content["encryption"], "mac": ""}
    return key.mac(seal("record", object_name, repository, content))


def file_to_json(file: StoredFile) -> Json:
    """A stored file as plain JSON values."""
    content = {**_flat(file), "segments": [_flat(segment) for segment in file.segments], "map": _flat(file.map)}
    del content["express"]
    if file.express is not None:
        content["express"] = {**_flat(file.express), "spans": [list(span) for span in file.express.spans]}
    return content


def log_to_json(log: LogFile) -> Json:
    """A log file's facts as plain JSON values; what nobody has looked for is not in them."""
    content = _flat(log)
    del content["restore_points"]
    if log.restore_points is not None:
        content["restore_points"] = [_flat(point) for point in log.restore_points]
    return content


def log_from_json(content: Json) -> LogFile:
    """The reverse of ``log_to_json``. Raises KeyError, ValueError, TypeError."""
    return LogFile(
        history=content["history"],
        number=content["number"],
        kind=LogKind(content["kind"]),
        start=Position.parse(content["start"]),
        end=Position.parse(content["end"]),
        size_bytes=content["size_bytes"],
        digest=content["digest"],
        previous_digest=content["previous_digest"],
        first_commit_at=_time(content["first_commit_at"]),
        last_commit_at=_time(content["last_commit_at"]),
        ancestry=content.get("ancestry", ""),
        restore_points=_points(content.get("restore_points")),
    )


def _points(content: list[Json] | None) -> tuple[RestorePoint, ...] | None:
    if content is None:
        return None
    return tuple(
        RestorePoint(one["name"], Position.parse(one["position"]), Position.parse(one["after"]), _time(one["at"]))
        for one in content
    )


def _flat(value: Any) -> Json:
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Position):
        return str(value)
    if isinstance(value, (BackupType, LogKind)):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value] if all(isinstance(item, str) for item in value) else []
    return value


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _record(content: Json) -> BackupRecord:
    known = {field.name for field in fields(BackupRecord)}
    simple = {key: value for key, value in content.items() if key in known}
    simple |= {
        "type": BackupType(content["type"]),
        "started_at": datetime.fromisoformat(content["started_at"]),
        "finished_at": datetime.fromisoformat(content["finished_at"]),
        "covers_until": datetime.fromisoformat(content["covers_until"]),
        "log_start": Position.parse(content["log_start"]),
        "log_end": Position.parse(content["log_end"]),
        "files": tuple(_file(item) for item in content["files"]),
        "logs": tuple(StoredLog(**{**item, "log": log_from_json(item["log"])}) for item in content["logs"]),
        "notes": tuple(content["notes"]),
        "encryption": _encryption(content.get("encryption")),
    }
    return BackupRecord(**simple)


def _encryption(content: Json | None) -> Encryption | None:
    return Encryption(**{**content, "recipients": tuple(content["recipients"])}) if content else None


def _file(content: Json) -> StoredFile:
    segments = tuple(StoredSegment(**item) for item in content["segments"])
    express = content.get("express")
    if express is not None:
        express = ExpressFacts(**{**express, "spans": tuple((first, last) for first, last in express["spans"])})
    return StoredFile(**{**content, "segments": segments, "map": StoredMap(**content["map"]), "express": express})
