"""What both copies say about their log, and letting go of what was decided on: two slots, moved on and read back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.replay_pause import Replay, look, role_changed
from backupd.engines.postgres.slots import UNRESERVED, advance, slot_facts, slots_of
from backupd.engines.postgres.timelines import Ancestry, segment_history
from backupd.engines.postgres.wal_names import lsn_text, parse_lsn, parse_segment_name, segment_name, segment_start
from backupd.model.position import Position, rebase
from backupd.ports import Truncated, TruncationEvidence
from backupd.steps import step

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where in the log the pair is: its timeline, where that came from, the size of a segment, and our slot's name."""

    history: str
    ancestry: Ancestry
    segment_bytes: int
    slot: str


def evidence(
    active: Server, passive: Server, place: LogPlace, *, passive_state: str, passive_because: str, seen_at: datetime
) -> TruncationEvidence:
    """What the copies say about their log now; what one of them does not say is None.

    A slot that is missing or lost holds nothing: ``oldest_held`` is then None, so
    that nothing is let go on the other copy either, until a backup has made it anew.

    Raises:
        NotHealthy: a server does not answer.
    """
    checkpointed = [_checkpointed(server, place) for server in (active, passive)]
    return TruncationEvidence(
        history=place.history,
        oldest_held=oldest_held(active, passive, place),
        passive_state=passive_state,
        passive_because=passive_because,
        passive_replayed=_replayed(passive, place),
        passive_checkpointed=checkpointed[1],
        active_checkpointed=checkpointed[0],
        seen_at=seen_at,
        passive_log_from=log_from(passive, place),
        ancestry=place.ancestry,
    )


def oldest_held(active: Server, passive: Server, place: LogPlace) -> Position | None:
    """Where the log that our slots hold begins, a segment's start; None when a slot is missing or lost."""
    held = [slot_facts(server, place.slot) for server in (active, passive)]
    starts = [slot.held_from for slot in held if slot is not None and slot.held_from is not None]
    if len(starts) < len(held):
        return None
    return Position(place.history, segment_start(min(starts), place.segment_bytes))


def _checkpointed(server: Server, place: LogPlace) -> Position | None:
    """The REDO of the last checkpoint, or on a standby of the last restartpoint: the files have durably passed it."""
    row = server.row("SELECT redo_lsn::text AS redo, timeline_id FROM pg_control_checkpoint()")
    return rebase(Position(str(row["timeline_id"]), parse_lsn(row["redo"])), place.history, place.ancestry)


def _replayed(passive: Server, place: LogPlace) -> Position | None:
    row = passive.row(
        "SELECT pg_last_wal_replay_lsn()::text AS replayed, "
        "(SELECT received_tli FROM pg_stat_wal_receiver) AS receiving, "
        "(SELECT min_recovery_end_timeline FROM pg_control_recovery()) AS recovering, "
        "(SELECT timeline_id FROM pg_control_checkpoint()) AS checkpointed"
    )
    timeline = row["receiving"] or row["recovering"] or row["checkpointed"]
    if row["replayed"] is None:
        return None
    return rebase(Position(str(timeline), parse_lsn(row["replayed"])), place.history, place.ancestry)


def log_from(server: Server, place: LogPlace) -> Position | None:
    """Where the log on this copy's disk begins that goes on without a gap to where it has replayed.

    That may be older than what the slot holds: right after a failover the new
    passive's slot is young, but its files are still there.  None when there is none.
    """
    size = place.segment_bytes
    here = server.value("SELECT pg_last_wal_replay_lsn()::text")
    if here is None:
        return None
    names = set(_segments(server, size))
    segno = parse_lsn(here) // size
    oldest: int | None = None
    while segno >= 0:
        owner = int(segment_history(segno, size, place.history, place.ancestry))
        if segment_name(owner, segno, size) in names:
            oldest = segno
        elif segno < parse_lsn(here) // size:  # the one that is replayed may just not be begun
            break
        segno -= 1
    return None if oldest is None else Position(place.history, oldest * size)


def _segments(server: Server, segment_bytes: int) -> dict[str, int]:
    """The whole segments in pg_wal: name and number. Files that wait to be used again have numbers that are to come."""
    found = {}
    for row in server.rows("SELECT name FROM pg_ls_waldir()"):
        parsed = parse_segment_name(str(row["name"]), segment_bytes)
        if parsed is not None:
            found[str(row["name"])] = parsed[1]
    return found


def truncate(active: Server, passive: Server, before: Position, place: LogPlace, *, seconds_max: float) -> Truncated:
    """Let go of the segments that end at or before ``before``, on both copies, and read back what is left.

    Our slots are moved to ``before``, on the active not past the slot that the passive
    streams with; then both are asked for a checkpoint, which removes the files and makes
    the move durable.  A crash in between only keeps more log.

    Args:
        active: a connection that may move slots and ask for a checkpoint.
        passive: the same on the other copy.
        before: what ``decide_truncation`` allows; a segment's start.
        place: where the pair is.
        seconds_max: for each checkpoint, and for the passive to replay the active's.

    Raises:
        NotFound, NotHealthy: a slot is missing or lost, or a server does not do it.
    """
    kept: list[str] = []
    limit = segment_start(before.offset, place.segment_bytes)
    held_before = {server: _older(server, limit, place.segment_bytes) for server in (active, passive)}
    upstream = _streaming_slot(active, passive)
    to_active = limit
    if upstream is not None and upstream[1] < limit:
        to_active = segment_start(upstream[1], place.segment_bytes)
        kept.append(f"{active.words} keeps log from {lsn_text(upstream[1])} for the passive's slot {upstream[0]}")
    advance(active, place.slot, to_active)
    advance(passive, place.slot, limit)
    checkpoint_active(active, seconds_max)
    if _wait_replayed(active, passive, seconds_max):
        step("pg.log.checkpoint_passive")
        with passive.patient(seconds_max):
            passive.run("CHECKPOINT")
    else:
        kept.append(f"{passive.words} had not replayed the checkpoint after {seconds_max:g} s: its log goes later")
    removed = 0
    for server, names in held_before.items():
        left = _older(server, limit, place.segment_bytes)
        removed += len(names - left)
        if left:
            kept.append(_why_kept(server, left, limit))
    return Truncated(
        removed_logs=removed,
        removed_bytes=removed * place.segment_bytes,
        oldest_held=oldest_held(active, passive, place),
        kept=tuple(kept),
    )


def checkpoint_active(active: Server, seconds_max: float) -> None:
    """Ask the active for a checkpoint; one is written also when nothing has changed."""
    step("pg.log.checkpoint_active")
    with active.patient(seconds_max):
        active.run("CHECKPOINT")


def _older(server: Server, limit: int, segment_bytes: int) -> frozenset[str]:
    """The segments on this copy's disk that end at or before ``limit``."""
    return frozenset(
        name for name, segno in _segments(server, segment_bytes).items() if (segno + 1) * segment_bytes <= limit
    )


def _streaming_slot(active: Server, passive: Server) -> tuple[str, int] | None:
    """The slot of the active that the passive streams with, and what it holds; None when it uses none."""
    name = passive.value("SELECT slot_name FROM pg_stat_wal_receiver") or passive.value(
        "SELECT nullif(setting, '') FROM pg_settings WHERE name = 'primary_slot_name'"
    )
    slot = slot_facts(active, str(name)) if name else None
    return None if slot is None or slot.held_from is None else (slot.name, slot.held_from)


def _wait_replayed(active: Server, passive: Server, seconds_max: float) -> bool:
    """Whether the passive replays within so long all that the active has written by now.

    Raises NotHealthy: it was promoted, and will never replay it.
    """
    target = parse_lsn(active.value("SELECT pg_current_wal_lsn()::text"))
    ends = time.monotonic() + seconds_max
    while True:
        now = look(passive)
        if now.replay is Replay.ENDED:
            raise role_changed(passive.words)
        if now.replayed >= target:
            return True
        if time.monotonic() >= ends:
            return False
        time.sleep(_POLL_SECONDS)


def _why_kept(server: Server, left: frozenset[str], limit: int) -> str:
    reasons = [
        f"the slot {slot.name} holds it from {lsn_text(slot.held_from)}"
        for slot in slots_of(server)
        if slot.held_from is not None and slot.held_from < limit
    ]
    because = "; ".join(reasons) or "wal_keep_size, an archive_command that fails, or a checkpoint to come"
    return f"{server.words} still has {len(left)} segments before {lsn_text(limit)}: {because}"


def slot_alarms(active: Server, passive: Server, place: LogPlace) -> tuple[str, ...]:
    """Sentences about our slots that are missing, lost, or will be at the next checkpoint; empty when both are well."""
    found = []
    for server in (active, passive):
        slot = slot_facts(server, place.slot)
        if slot is None:
            found.append(f"{server.words} has no slot {place.slot}")
        elif slot.lost:
            found.append(f"the slot {place.slot} of {server.words} is lost ({slot.why_lost}): the next is a full")
        elif slot.wal_status == UNRESERVED:
            found.append(f"the slot {place.slot} of {server.words} is lost at the next checkpoint (unreserved)")
    return tuple(found)
