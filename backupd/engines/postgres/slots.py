"""The physical slots that hold the log on both copies: made, moved on and read back; the only way log is let go."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import BackupdError, ConfigInvalid, NotFound, NotHealthy
from backupd.steps import step

# wal_status in the server's words: "extended" holds more than max_wal_size, "unreserved" goes at the next checkpoint.
LOST, UNRESERVED = "lost", "unreserved"

_EXISTS, _NONE_FREE, _IN_USE = "42710", "53400", "55006"
_SAYS_WHY = 170000  # the server's version


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """One replication slot as its server shows it.

    ``restart_lsn`` is where the log that it holds begins: None when it never held any
    or has lost it.  ``safe_bytes`` is how much more log may be written before the slot
    is lost (may be negative); None when nothing limits it.
    """

    name: str
    physical: bool
    active: bool
    restart_lsn: int | None
    wal_status: str
    safe_bytes: int | None
    reason: str = ""

    @property
    def lost(self) -> bool:
        """Whether the log that it held is gone, or is not held any more: only a new slot and a full help."""
        return self.wal_status == LOST

    @property
    def held_from(self) -> int | None:
        """Where the log begins that it really holds; None when it holds none."""
        return None if self.lost else self.restart_lsn

    @property
    def why_lost(self) -> str:
        """Why the server took it away, as far as it says (from version 17 on)."""
        if self.reason == "idle_timeout":
            return "idle_replication_slot_timeout passed"
        return "more log was written than max_slot_wal_keep_size lets it hold"


def slots_of(server: Server) -> tuple[SlotFacts, ...]:
    """Every replication slot of a server, by name."""
    reason = "invalidation_reason" if server.version_number >= _SAYS_WHY else "''"
    rows = server.rows(
        "SELECT slot_name, slot_type, active, restart_lsn::text AS restart_lsn, wal_status, safe_wal_size, "
        f"{reason} AS reason FROM pg_replication_slots ORDER BY slot_name"
    )
    return tuple(
        SlotFacts(
            name=str(row["slot_name"]),
            physical=row["slot_type"] == "physical",
            active=bool(row["active"]),
            restart_lsn=parse_lsn(row["restart_lsn"]) if row["restart_lsn"] else None,
            wal_status=str(row["wal_status"] or ""),
            safe_bytes=row["safe_wal_size"],
            reason=str(row["reason"] or ""),
        )
        for row in rows
    )


def slot_facts(server: Server, name: str) -> SlotFacts | None:
    """The slot ``name``, or None when the server has none of that name."""
    return next((slot for slot in slots_of(server) if slot.name == name), None)


def ensure_slots(active: Server, passive: Server, name: str) -> tuple[str, ...]:
    """See to it that both copies hold their log by the slot ``name``; may be repeated, also after a failover.

    A new slot holds the log from the server's last checkpoint on.  One that is lost is
    made anew too: it holds nothing, and whether the log has a gap now is seen by its files.

    Returns:
        What was done, in sentences; empty when both were there.

    Raises:
        ConfigInvalid: a slot of that name is not ours, or our role may not make one.
        NotHealthy: the server has no room for another slot.
    """
    notes = [ensure_slot(server, name) for server in (active, passive)]
    return tuple(note for note in notes if note)


def ensure_slot(server: Server, name: str) -> str:
    """The same for one copy: what was done, empty when the slot was there. Raises ConfigInvalid, NotHealthy."""
    slot = slot_facts(server, name)
    if slot is not None and not slot.physical:
        raise ConfigInvalid(
            f"the slot {name} of {server.words} cannot hold log for backups",
            because="it is a logical slot, made by somebody else",
            next_step="name another slot in the policy",
        )
    if slot is not None and slot.lost:
        return reset_lost_slot(server, name)
    if slot is not None and slot.held_from is not None:
        return ""
    if slot is not None:
        drop_slot(server, name)  # made without holding log from the start: it holds nothing and cannot be moved
    _create(server, name)
    return f"made the slot {name} on {server.words}: its log is held from the last checkpoint on"


def _create(server: Server, name: str) -> None:
    step("pg.log.create_slot")
    try:
        server.run("SELECT pg_create_physical_replication_slot(%s, immediately_reserve => true)", name)
    except NotHealthy as error:
        if error.details.get("sqlstate") == _EXISTS:
            return
        if error.details.get("sqlstate") == _NONE_FREE:
            raise NotHealthy(
                f"{server.words} has no room for the slot {name}",
                because=error.because,
                next_step="raise max_replication_slots there and restart it, or drop a slot that nobody uses",
            ) from error
        raise


def drop_slot(server: Server, name: str) -> bool:
    """Drop the slot: from now on the server lets its log go as it likes. False when there was none.

    Raises:
        NotHealthy: somebody streams with it.
    """
    if slot_facts(server, name) is None:
        return False
    step("pg.log.drop_slot")
    server.run("SELECT pg_drop_replication_slot(%s)", name)
    return True


def reset_lost_slot(server: Server, name: str) -> str:
    """Make a lost slot anew; answers what was done in a sentence, "" when it was not lost.

    What it held is gone, or goes at the next checkpoint.
    """
    slot = slot_facts(server, name)
    if slot is None or not slot.lost:
        return ""
    drop_slot(server, name)
    _create(server, name)
    return f"the slot {name} on {server.words} was lost and is made anew; the log that it held is gone"


def advance(server: Server, name: str, to_lsn: int) -> int:
    """Let the log before ``to_lsn`` go, and answer where the slot then holds from, read back from the server.

    It never goes back: a slot that is further stays there.  The server may go less
    far than asked, and forgets the move in a crash before its next checkpoint; both
    only keep more log.

    Raises:
        NotFound: there is no such slot.
        NotHealthy: it is lost or holds nothing, or somebody streams with it.
    """
    slot = _usable(server, name)
    if slot.restart_lsn is not None and slot.restart_lsn >= to_lsn:
        return slot.restart_lsn
    step("pg.log.advance")
    try:
        server.run("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", name, lsn_text(to_lsn))
    except BackupdError as error:
        _usable(server, name)  # lost meanwhile: say that
        if error.details.get("sqlstate") == _IN_USE:
            raise NotHealthy(
                f"the slot {name} of {server.words} cannot be moved on",
                because=error.because,
                next_step="give whatever streams with it a slot of its own; this one is for backups",
            ) from error
        raise
    held = _usable(server, name).restart_lsn
    return held if held is not None else 0


def _usable(server: Server, name: str) -> SlotFacts:
    slot = slot_facts(server, name)
    if slot is None:
        raise NotFound(
            f"{server.words} has no slot {name}",
            because="it was dropped, or the copy was made anew since the last backup",
            next_step="run a backup: it makes the slot",
        )
    if slot.held_from is None:
        raise NotHealthy(
            f"the slot {name} of {server.words} holds no log",
            because=f"it is lost: {slot.why_lost}" if slot.lost else "it was made without reserving log",
            next_step="run a full: it makes the slot anew and begins a new chain",
        )
    return slot
