"""Facts of servers that were never started, for decisions that are pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.facts import Receiver, ServerFacts, SlotSeen, Streaming
from backupd.errors import NotHealthy

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SEGMENT = 16 << 20
END = 100 * SEGMENT + 4096

SLOT = SlotSeen("backupd", "physical", False, 98 * SEGMENT, "reserved", None)
STREAM = Streaming("b", "10.0.0.2", "streaming", "async", END, END, END, END, "node_b")
COPIES = (
    PgCopy("a", "host=a", Path("/data/a")),
    PgCopy("b", "host=b", Path("/data/b")),
)
DOWN = NotHealthy("cannot connect to copy", because="connection refused", next_step="start the server")

_BOTH: dict[str, Any] = {
    "version_num": 160014,
    "version": "16.14",
    "system_identifier": "7710868905645438905",
    "timeline": 1,
    "history_text": "",
    "clock_at": NOW,
    "started_at": NOW - timedelta(days=3),
    "checkpoint_lsn": 99 * SEGMENT,
    "recovery_min_apply_delay_seconds": 0.0,
    "full_page_writes": True,
    "data_checksums": True,
    "wal_log_hints": False,
    "wal_segment_bytes": SEGMENT,
    "block_bytes": 8192,
    "data_directory": "/data",
    "port": 5432,
    "max_slot_wal_keep_bytes": None,
    "synchronous_commit": "on",
    "synchronous_standby_names": "",
    "remote_apply_somewhere": False,
    "archive_mode": "off",
    "log_directory": "log",
    "primary_conninfo": "host=a application_name=b",
    "slots": (SLOT,),
    "tablespaces": (),
    "restore_settings": {},
    "slot_oldest_at": NOW - timedelta(minutes=10),
}


def primary(**other: Any) -> ServerFacts:
    """A healthy primary that streams to ``b``."""
    facts = ServerFacts(
        **_BOTH,
        in_recovery=False,
        insert_lsn=END,
        flush_lsn=END,
        receive_lsn=None,
        replay_lsn=None,
        last_xact_replay_at=None,
        replay_pause_state="",
        receiver=None,
        streams=(STREAM,),
    )
    return replace(facts, **other)


def standby(**other: Any) -> ServerFacts:
    """Its healthy standby, which has replayed everything."""
    facts = ServerFacts(
        **_BOTH,
        in_recovery=True,
        insert_lsn=None,
        flush_lsn=None,
        receive_lsn=END,
        replay_lsn=END,
        last_xact_replay_at=NOW - timedelta(hours=5),
        replay_pause_state="not paused",
        receiver=Receiver("streaming", 1, "node_b", "10.0.0.1:5432"),
        streams=(),
    )
    return replace(facts, **other)
