"""Both copies as they can be seen from outside: by their sockets, or by their files. Light imports only."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backupd.disk_room import free_room_bytes
from backupd.durable import read_json
from backupd.engines.sqlite.control import ControlClient
from backupd.engines.sqlite.layout import CopyLayout, PairLayout
from backupd.engines.sqlite.marker import Marker, read_marker
from backupd.engines.sqlite.pairfile import PairState
from backupd.engines.sqlite.passive_file import foreign
from backupd.errors import BackupdError
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.position import Position

ASK_SECONDS = 0.4
_LOG_NAME = re.compile(r"([0-9a-f]{16})\.wlog")
_OFFSETS_AT = slice(48, 64)  # start and end offset in a log file's header (logheader)


@dataclass(frozen=True, slots=True)
class HeldLogs:
    """The closed logs that a copy holds, over all histories."""

    count: int
    size_bytes: int
    oldest_seconds: float
    numbers: Mapping[str, tuple[int, int]]


def held_logs(root: Path) -> HeldLogs:
    """Look into a copy's log directory; names and sizes only."""
    count = size = 0
    oldest: float | None = None
    numbers: dict[str, tuple[int, int]] = {}
    for history in _names(root):
        found = sorted(int(match[1], 16) for match in map(_LOG_NAME.fullmatch, _names(root / history)) if match)
        if not found:
            continue
        numbers[history] = (found[0], found[-1])
        for number in found:
            with contextlib.suppress(OSError):
                facts = os.stat(log_path(root, history, number))
                count, size = count + 1, size + facts.st_size
                oldest = facts.st_mtime if oldest is None else min(oldest, facts.st_mtime)
    return HeldLogs(count, size, 0.0 if oldest is None else max(0.0, time.time() - oldest), numbers)


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def log_path(root: Path, history: str, number: int) -> Path:
    """Where a copy keeps a log file (see logdir)."""
    return root / history / f"{number:016x}.wlog"


def log_offsets(path: Path) -> tuple[int, int] | None:
    """Start and end offset of a log file, from its header alone; None when it is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            raw = file.read(64)[_OFFSETS_AT]
    except OSError:
        return None
    if len(raw) < 16:
        return None
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def ask(socket: Path, who: str) -> dict[str, Any] | None:
    """The status that a process gives of itself; None when nobody answers quickly."""
    try:
        with ControlClient(socket, who=who, timeout_seconds=ASK_SECONDS) as client:
            return client.call("status", timeout_seconds=ASK_SECONDS)
    except BackupdError:
        return None


def pair_status(
    database: str, layout: PairLayout, pair: PairState, copies: Mapping[str, Path], alarms: tuple[str, ...] = ()
) -> PairStatus:
    """Both copies, seen now."""
    active_files = layout.copy(pair.active, copies[pair.active])
    passive_files = layout.copy(pair.passive, copies[pair.passive])
    facts = ask(active_files.capture_socket, "the capture process")
    remembered = facts or read_json(active_files.capture_state) or {}
    active = _active_status(active_files, pair, remembered, lives=facts is not None)
    passive = _passive_status(passive_files, remembered)
    found = [*alarms, *_alarms(active, passive, remembered)]
    history = remembered.get("history")
    return PairStatus(database, "sqlite", active, passive, str(history) if history else None, tuple(found))


def _active_status(files: CopyLayout, pair: PairState, facts: dict[str, Any], *, lives: bool) -> CopyStatus:
    held = held_logs(files.logs)
    history = str(facts.get("history", "")) or None
    state, because = _active_state(files, pair, facts, lives=lives)
    return CopyStatus(
        name=files.name,
        role=CopyRole.ACTIVE,
        state=state,
        path=str(files.path),
        because=because,
        held_log_bytes=held.size_bytes,
        held_log_seconds=held.oldest_seconds,
        held_log_count=held.count,
        log_disk_free_bytes=free_room_bytes(files.logs),
        closed=Position(history, int(facts.get("offset", 0))) if history else None,
        checkpointed=_position(facts.get("checkpointed")),
        seen_at=_when(facts.get("at_us")),
        facts=tuple((name, str(facts[name])) for name in ("wal_bytes", "pid", "exposed") if name in facts),
    )


def _active_state(files: CopyLayout, pair: PairState, facts: dict[str, Any], *, lives: bool) -> tuple[CopyState, str]:
    if pair.restoring:
        return CopyState.RESTORING, f"restore {pair.restoring} has the file in hand"
    if not files.path.exists():
        return CopyState.MISSING, f"{files.path} does not exist"
    state, because = str(facts.get("state", "")), str(facts.get("because", ""))
    if state == "failed":
        return CopyState.FAILED, because
    if not lives:
        return CopyState.STOPPED, "no backupd service captures its log"
    names = {"healthy": CopyState.HEALTHY, "seeding": CopyState.SEEDING}
    return names.get(state, CopyState.INITIALIZING), because


def _passive_status(files: CopyLayout, active: dict[str, Any]) -> CopyStatus:
    marker = read_marker(files.marker) or Marker()
    held = held_logs(files.logs)
    facts = ask(files.replay_socket, "the replay process")
    state, because = _passive_state(files, marker, facts)
    history = str(active.get("history", "")) or marker.history
    if state is CopyState.HEALTHY and marker.history != history:
        state, because = CopyState.SEEDING, f"it still stands in history {marker.history}; the active writes {history}"
    inspected = held.numbers.get(history, (0, 0))[1]
    if marker.history == history:
        inspected = max(inspected, marker.number)
    replayed = marker.number if marker.history == history else 0
    return CopyStatus(
        name=files.name,
        role=CopyRole.PASSIVE,
        state=state,
        path=str(files.path),
        because=because,
        copy_queue_logs=max(0, int(active.get("number", 0)) - inspected),
        replay_queue_logs=max(0, inspected - replayed),
        held_log_bytes=held.size_bytes,
        held_log_seconds=held.oldest_seconds,
        held_log_count=held.count,
        log_disk_free_bytes=free_room_bytes(files.logs),
        inspected=_inspected_position(files, history, inspected, marker),
        replayed=marker.position,
        checkpointed=marker.position if marker.applying is None else None,
        seen_at=datetime.now(UTC),
        facts=(("last_inspected_log", str(inspected)), ("last_replayed_log", str(replayed))),
    )


def _inspected_position(files: CopyLayout, history: str, number: int, marker: Marker) -> Position | None:
    if marker.history == history and marker.number == number:
        return marker.position
    offsets = log_offsets(log_path(files.logs, history, number)) if history and number else None
    return Position(history, offsets[1]) if offsets else None


def _passive_state(files: CopyLayout, marker: Marker, facts: dict[str, Any] | None) -> tuple[CopyState, str]:
    # A seed may have come into place after the marker was read; the marker as it is now knows of it.
    if foreign(files.path, marker) and (because := foreign(files.path, read_marker(files.marker))):
        return CopyState.FAILED, because
    if marker.state in (CopyState.SUSPECT, CopyState.FAILED, CopyState.MUST_SEED):
        return marker.state, marker.because
    suspended = read_json(files.directory / "suspended.json")
    if suspended is not None:
        return CopyState.SUSPENDED, str(suspended.get("comment", "")) or "suspended by a person"
    if marker.state is CopyState.HEALTHY and not files.path.exists():
        return CopyState.MISSING, f"{files.path} does not exist"
    if facts is None:
        return CopyState.STOPPED, "no backupd service replays its log"
    if facts.get("state") == CopyState.FAILED:  # what only the process knows: a disk that refuses, tried again later
        return CopyState.FAILED, str(facts.get("because", ""))
    return marker.state, marker.because


def _alarms(active: CopyStatus, passive: CopyStatus, facts: dict[str, Any]) -> list[str]:
    found = [
        f"copy {copy.name} ({copy.role}) is {copy.state}: {copy.because}"
        for copy in (active, passive)
        if copy.state not in (CopyState.HEALTHY, CopyState.INITIALIZING, CopyState.SEEDING)
    ]
    if facts.get("exposed"):
        found.append("the passive has not acknowledged log for a while: the active lets go of log that only it holds")
    wal_bytes, warn = int(facts.get("wal_bytes", 0)), int(facts.get("wal_bytes_warn", 0))
    if warn and wal_bytes > warn:
        found.append(f"the active's -wal holds {wal_bytes >> 20} MiB in use: a long read keeps it from starting over")
    return found


def _position(value: object) -> Position | None:
    if isinstance(value, list) and len(value) == 2:
        return Position(str(value[0]), int(value[1]))
    return None


def _when(unix_us: object) -> datetime | None:
    return datetime.fromtimestamp(unix_us / 1e6, UTC) if isinstance(unix_us, int) else None
