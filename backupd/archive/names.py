"""The names of everything in an archive, and nothing else (pure)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd.model.records import BackupType

REPOSITORY = "repo.json"
_LETTER = {
    BackupType.FULL: "F",
    BackupType.INCREMENTAL: "I",
    BackupType.DIFFERENTIAL: "D",
    BackupType.COPY: "C",
    BackupType.EXPRESS: "E",
}
_TYPE = {letter: backup_type for backup_type, letter in _LETTER.items()}
_LABEL = re.compile(r"(\d{8}T\d{6}Z)-([FIDCE])-([0-9a-f]{8})")
_HOLD = re.compile(r"(.+)-([0-9a-f]{8})\.json")
_NAME = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_TERM = re.compile(r"db/[^/]+/lease/([0-9a-f]{16})\.json")
_TIME = "%Y%m%dT%H%M%SZ"
_COPY = ".copy-"


@dataclass(frozen=True, slots=True)
class Label:
    """What a backup's label says: when it began (UTC, whole seconds), its type, and 8 hex digits."""

    at: datetime
    type: BackupType
    suffix: str


def is_object_name(name: str) -> bool:
    """Whether ``name`` may name an object: parts of ``[A-Za-z0-9._-]`` with ``/`` between, none of them dots only."""
    return bool(_NAME.fullmatch(name)) and all(part.strip(".") for part in name.split("/"))


def database_id(name: str, engine: str) -> str:
    """The prefix of a database: a slug of its name and 8 hex digits of engine and name; always the same."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "database"
    return f"{slug}-{hashlib.sha256(f'{engine}:{name}'.encode()).hexdigest()[:8]}"


def new_label(at: datetime, backup_type: BackupType, suffix: str) -> str:
    """A backup's label, which is its id: ``20261122T010000Z-F-1a2b3c4d``; labels sort by time."""
    label = f"{at.astimezone(UTC).strftime(_TIME)}-{_LETTER[backup_type]}-{suffix}"
    if not _LABEL.fullmatch(label):
        raise ValueError(f"not a label: {label!r}")
    return label


def parse_label(label: str) -> Label:
    """Read a label.

    Raises:
        ValueError: it is not one.
    """
    match = _LABEL.fullmatch(label)
    if not match:
        raise ValueError(f"not a backup's id: {label!r} (one looks like 20261122T010000Z-F-1a2b3c4d)")
    at = datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
    return Label(at, _TYPE[match[2]], match[3])


def is_label(text: str) -> bool:
    """Whether ``text`` is a backup's label."""
    try:
        parse_label(text)
    except ValueError:
        return False
    return True


KEYS = "keys/"


def key_name(kid: str) -> str:
    """What is known of a recipient; ``kid`` is its id."""
    return f"{KEYS}{kid}.json"


def database_prefix(dbid: str) -> str:
    """Everything about one database begins so."""
    return f"db/{dbid}/"


def identity_name(dbid: str) -> str:
    """The object that says whose database this is."""
    return f"db/{dbid}/identity.json"


def intents_prefix(dbid: str) -> str:
    """All intents begin so."""
    return f"db/{dbid}/intent/"


def intent_name(dbid: str, label: str) -> str:
    """The object that says: this backup is being made."""
    return f"db/{dbid}/intent/{label}.json"


def copy_intent_name(dbid: str, label: str, suffix: str) -> str:
    """The object that says: this backup is being copied here from another archive; each try has a suffix of its own."""
    return f"db/{dbid}/intent/{label}{_COPY}{suffix}.json"


def is_copy_intent(name: str) -> bool:
    """Whether an intent is about a copy from another archive and not about a backup that is being made."""
    return _COPY in name.rpartition("/")[2]


def data_prefix(dbid: str, label: str = "") -> str:
    """All segments of one backup, or of all, begin so."""
    return f"db/{dbid}/data/{label}/" if label else f"db/{dbid}/data/"


def segment_name(dbid: str, label: str, number: int) -> str:
    """A segment; numbers count from 0 in a backup."""
    return f"db/{dbid}/data/{label}/{number:06d}"


def maps_prefix(dbid: str, label: str = "") -> str:
    """The maps of one backup, or of all, begin so."""
    return f"db/{dbid}/map/{label}"


def map_name(dbid: str, label: str, file_number: int = 0) -> str:
    """The page map of a file; the first file's is named like the backup."""
    return f"db/{dbid}/map/{label}" + (f".{file_number}" if file_number else "")


def logs_prefix(dbid: str, history: str = "") -> str:
    """The log files of one history, or of all, begin so."""
    return f"db/{dbid}/log/{history}/" if history else f"db/{dbid}/log/"


def log_name(dbid: str, history: str, number: int, suffix: str = "") -> str:
    """A log file; ``suffix`` gives it another name than one that a deletion may still be after."""
    return f"db/{dbid}/log/{history}/{number:016x}" + (f".{suffix}" if suffix else "")


def records_prefix(dbid: str) -> str:
    """All records begin so; listing looks at nothing else."""
    return f"db/{dbid}/backup/"


def record_name(dbid: str, label: str) -> str:
    """The COMMIT or ABORT record."""
    return f"db/{dbid}/backup/{label}"


def is_record(name: str) -> bool:
    """Whether an object of that name is the record of a backup."""
    parts = name.split("/")
    return len(parts) == 4 and parts[0] == "db" and parts[2] == "backup" and is_label(parts[3])


def tombs_prefix(dbid: str) -> str:
    """All tombs begin so."""
    return f"db/{dbid}/tomb/"


def tomb_name(dbid: str, label: str, mark: str = "") -> str:
    """The order to delete a backup.

    ``logs-…`` instead of a label orders the deletion of log files, ``abort-<label>`` that of an ABORT record.
    ``mark`` are 8 hex digits of the lease under which it is given: no two holders share an order.
    """
    return f"db/{dbid}/tomb/{label}.{mark}.json" if mark else f"db/{dbid}/tomb/{label}.json"


def order_in(tomb: str) -> tuple[str, str]:
    """What a tomb orders to delete, and the mark of its lease; the mark is empty when there was none."""
    label, _, mark = tomb.rpartition("/")[2].removesuffix(".json").partition(".")
    return label, mark


def leases_prefix(dbid: str) -> str:
    """All terms of the lease begin so."""
    return f"db/{dbid}/lease/"


def lease_name(dbid: str, number: int) -> str:
    """One term of the lease."""
    return f"db/{dbid}/lease/{number:016x}.json"


def term_number_in(name: str) -> int | None:
    """The number of the term that an object is; None when its name is not one of a term."""
    match = _TERM.fullmatch(name)
    return int(match[1], 16) if match else None


def verdicts_prefix(dbid: str, label: str = "") -> str:
    """The verdicts about one backup, or about all, begin so."""
    return f"db/{dbid}/verify/{label}/" if label else f"db/{dbid}/verify/"


def verdict_name(dbid: str, label: str, at: datetime, suffix: str) -> str:
    """What a verify or a drill found."""
    return f"db/{dbid}/verify/{label}/{at.astimezone(UTC).strftime(_TIME)}-{suffix}.json"


def verdict_time(name: str) -> datetime:
    """When the verdict of that name was written, to the second. Raises ValueError: it is none."""
    text = name.rpartition("/")[2].partition("-")[0]
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def holds_prefix(dbid: str, label: str = "") -> str:
    """The holds on one backup, or on all, begin so."""
    return f"db/{dbid}/hold/{label}-" if label else f"db/{dbid}/hold/"


def hold_name(dbid: str, label: str, hold_id: str) -> str:
    """The object that says: this backup stays."""
    return f"db/{dbid}/hold/{label}-{hold_id}.json"


def hold_id_in(name: str) -> str:
    """The hold's own 8 hex digits; empty when it is not the name of a hold."""
    match = _HOLD.fullmatch(name.rpartition("/")[2])
    return match[2] if match and is_label(match[1]) else ""


def gones_prefix(dbid: str) -> str:
    """All notes of deleted backups whose objects are kept for now begin so."""
    return f"db/{dbid}/gone/"


def gone_name(dbid: str, label: str) -> str:
    """The note that a backup was deleted, and that some of its objects go later."""
    return f"db/{dbid}/gone/{label}.json"


def bares_prefix(dbid: str) -> str:
    """All notes of bare fulls begin so."""
    return f"db/{dbid}/bare/"


def bare_name(dbid: str, label: str) -> str:
    """The object that says: the log before this full may be gone, for nothing leads along it any more."""
    return f"db/{dbid}/bare/{label}.json"


def label_in(name: str) -> str:
    """The label that an object of a backup, a log file apart, belongs to; empty when there is none."""
    parts = name.split("/")
    if len(parts) < 4:
        return ""
    hold = _HOLD.fullmatch(parts[3]) if parts[2] == "hold" else None
    part = hold[1] if hold else parts[3].split(".")[0]
    return part if is_label(part) else ""


def place_of(name: str) -> tuple[str, int]:
    """A segment's, map's or log file's kind (``data``, ``map``, ``log/<history>``) and its number there.

    Raises:
        ValueError: it is none of them.
    """
    match name.split("/"):
        case ["db", _, "data", _, number]:
            return "data", int(number)
        case ["db", _, "map", label]:
            return "map", int(label.partition(".")[2] or 0)
        case ["db", _, "log", history, number]:
            digits, _, suffix = number.partition(".")
            return f"log/{history}" + (f".{suffix}" if suffix else ""), int(digits, 16)
    raise ValueError(f"not a segment, map or log file: {name!r}")
