"""What one server says of itself at one moment: role, history, positions, replication, slots, settings.

Reading it takes the role ``pg_monitor``; what else a run needs, and how to grant it, is in ``rights``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backupd.engines.postgres import facts_query
from backupd.engines.postgres.cluster import SLOT_NAME
from backupd.errors import ConfigInvalid

if TYPE_CHECKING:
    from backupd.engines.postgres.connect import Server

MAJOR_MIN, MAJOR_MAX = 14, 18


@dataclass(frozen=True, slots=True)
class Streaming:
    """One client that streams log from this server (``pg_stat_replication``); LSNs are None where it never said."""

    application_name: str
    client: str
    state: str
    sync_state: str
    sent_lsn: int | None
    write_lsn: int | None
    flush_lsn: int | None
    replay_lsn: int | None
    slot: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """The stream that this standby receives (``pg_stat_wal_receiver``)."""

    status: str
    timeline: int | None
    slot: str
    sender: str


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """One replication slot of this server; ``restart_lsn`` is the oldest log kept, None when lost or unused."""

    name: str
    kind: str
    active: bool
    restart_lsn: int | None
    wal_status: str
    safe_wal_bytes: int | None


@dataclass(frozen=True, slots=True)
class Tablespace:
    """A tablespace that lies outside the data directory (or in ``pg_tblspc`` itself)."""

    oid: int
    name: str
    location: str


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server, seen at ``clock_at`` (its own clock); LSNs are numbers, None where the role has no such thing.

    ``timeline`` of a standby is the newest that it is known to follow: received,
    recovered, or checkpointed.  ``checkpoint_lsn`` is the REDO that a crash would
    start from.  ``history_text`` is the file that says where ``timeline`` came
    from, "" for the first or where our role may not read it.
    ``slot_oldest_at`` is when the oldest segment that slot ``backupd`` keeps was last written.
    """

    version_num: int
    version: str
    in_recovery: bool
    system_identifier: str
    timeline: int
    history_text: str
    clock_at: datetime
    started_at: datetime
    insert_lsn: int | None
    flush_lsn: int | None
    receive_lsn: int | None
    replay_lsn: int | None
    checkpoint_lsn: int
    last_xact_replay_at: datetime | None
    replay_pause_state: str
    recovery_min_apply_delay_seconds: float
    full_page_writes: bool
    data_checksums: bool
    wal_log_hints: bool
    wal_segment_bytes: int
    block_bytes: int
    data_directory: str
    port: int
    max_slot_wal_keep_bytes: int | None
    synchronous_commit: str
    synchronous_standby_names: str
    remote_apply_somewhere: bool
    archive_mode: str
    log_directory: str
    primary_conninfo: str = field(repr=False)  # may hold a password
    receiver: Receiver | None
    streams: tuple[Streaming, ...]
    slots: tuple[SlotSeen, ...]
    tablespaces: tuple[Tablespace, ...]
    restore_settings: Mapping[str, str]
    slot_oldest_at: datetime | None

    @property
    def major(self) -> int:
        """The major version."""
        return self.version_num // 10000

    @property
    def history(self) -> str:
        """The timeline as positions name it."""
        return str(self.timeline)

    @property
    def end_lsn(self) -> int:
        """How far the log of this server surely goes: flushed on a primary, received or replayed on a standby."""
        return max(self.flush_lsn or 0, self.receive_lsn or 0, self.replay_lsn or 0)

    @property
    def paused(self) -> bool:
        """Whether somebody wants replay to stand, or it stands."""
        return self.replay_pause_state not in {"", "not paused"}

    def slot(self, name: str) -> SlotSeen | None:
        """The slot of that name."""
        return next((slot for slot in self.slots if slot.name == name), None)


def read_facts(server: Server, slot: str = SLOT_NAME) -> ServerFacts:
    """Ask a server for all of it: one round trip, two where the timeline is not the first.

    Raises:
        ConfigInvalid: a version that backupd does not know, or our role may not read it.
        NotHealthy: the server does not answer in time, or changes its role this very moment.
    """
    _check_version(server)
    seen = server.row(facts_query.ASK, list(facts_query.SETTINGS), slot)
    settings: dict[str, str] = seen["settings"]
    timeline = _timeline(seen)
    text = server.value(facts_query.HISTORY, f"{timeline:08X}") if timeline > 1 else None
    return ServerFacts(
        timeline=timeline,
        history_text=text or "",
        checkpoint_lsn=seen["control"][0]["redo_lsn"],
        recovery_min_apply_delay_seconds=int(settings.get("recovery_min_apply_delay", 0)) / 1000,
        full_page_writes=settings["full_page_writes"] == "on",
        data_checksums=settings["data_checksums"] == "on",
        wal_log_hints=settings["wal_log_hints"] == "on",
        wal_segment_bytes=int(settings["wal_segment_size"]),
        block_bytes=int(settings["block_size"]),
        data_directory=_privileged(server, settings, "data_directory"),
        port=int(settings["port"]),
        max_slot_wal_keep_bytes=_budget(int(settings["max_slot_wal_keep_size"])),
        synchronous_commit=settings["synchronous_commit"],
        synchronous_standby_names=settings["synchronous_standby_names"],
        archive_mode=settings["archive_mode"],
        log_directory=settings["log_directory"],
        primary_conninfo=settings.get("primary_conninfo", ""),
        receiver=next((Receiver(**each) for each in seen["receivers"]), None),
        streams=tuple(Streaming(**_texts(each)) for each in seen["streams"]),
        slots=tuple(SlotSeen(**each) for each in seen["slots"]),
        tablespaces=tuple(Tablespace(**each) for each in seen["tablespaces"]),
        restore_settings={name: settings[name] for name in facts_query.RESTORE_SETTINGS},
        **{name: seen[name] for name in _AS_THEY_COME},
    )


_AS_THEY_COME = (
    *("version_num", "version", "in_recovery", "system_identifier", "clock_at", "started_at", "slot_oldest_at"),
    *("insert_lsn", "flush_lsn", "receive_lsn", "replay_lsn", "last_xact_replay_at", "replay_pause_state"),
    "remote_apply_somewhere",
)


def _check_version(server: Server) -> None:
    major = server.major
    if not MAJOR_MIN <= major <= MAJOR_MAX:
        raise ConfigInvalid(
            f"{server.words} is PostgreSQL {major}",
            because=f"its version is {major}, and backupd knows {MAJOR_MIN} to {MAJOR_MAX}",
            next_step="upgrade the server" if major < MAJOR_MIN else "upgrade backupd",
        )


def _timeline(seen: Mapping[str, Any]) -> int:
    """A primary writes its own; a standby's control file lags behind a switch, and its stream may be down."""
    if seen["writing_timeline"]:
        return int(seen["writing_timeline"], 16)
    known = (
        *(each["timeline"] for each in seen["receivers"]),
        seen["recovered_timeline"],
        seen["control"][0]["timeline"],
    )
    return max(int(each or 0) for each in known)


def _privileged(server: Server, settings: Mapping[str, str], name: str) -> str:
    if name not in settings:
        raise ConfigInvalid(
            f"our role may not see all that backupd must know of {server.words}",
            because=f"it may not read the setting {name}",
            next_step="grant it pg_monitor",
        )
    return settings[name]


def _texts(stream: Mapping[str, Any]) -> dict[str, Any]:
    # Where a client is just connecting, the server does not know all of it yet.
    words = ("application_name", "client", "state", "sync_state", "slot")
    return {**stream, **{name: stream[name] or "" for name in words}}


def _budget(mebibytes: int) -> int | None:
    return None if mebibytes < 0 else mebibytes << 20
