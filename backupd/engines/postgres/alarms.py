"""What a person should know of a pair at once, in plain sentences; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.facts import ServerFacts
from backupd.engines.postgres.roles import PgPair
from backupd.model.pair import CopyState, CopyStatus

BUDGET_SHARE_MAX = 0.8  # of max_slot_wal_keep_size: from here on it is told how much is left

_QUIET = frozenset({CopyState.HEALTHY, CopyState.INITIALIZING, CopyState.SEEDING})
_SLOT_SENTENCES = {
    "extended": "keeps more log than max_wal_size: no backup has let go of it for long",
    "unreserved": "is about to lose its log: it keeps more than max_slot_wal_keep_size, so take an incremental now",
    "lost": "has lost log that no backup holds: the next backup begins a new chain with a full",
}


def pair_alarms(pair: PgPair, statuses: Sequence[CopyStatus], options: PgOptions) -> tuple[str, ...]:
    """Every alarm of both copies."""
    found = [
        f"copy {status.name} ({status.role}) is {status.state}: {status.because}"
        for status in statuses
        if status.state not in _QUIET
    ]
    for status in statuses:
        facts = pair.facts.get(status.name)
        if facts is not None:
            found += _slot_alarms(status, facts, options)
    if any(not facts.data_checksums for facts in pair.facts.values()):
        found.append(
            "data checksums are off: backups cannot tell a bad page (pg_checksums --enable, both copies stopped)"
        )
    return tuple(found)


def _slot_alarms(status: CopyStatus, facts: ServerFacts, options: PgOptions) -> Iterator[str]:
    slot = facts.slot(options.slot)
    if slot is None:
        yield f"copy {status.name} has no slot {options.slot}: nothing keeps its log until a run makes it"
        return
    if slot.wal_status in _SLOT_SENTENCES:
        yield f"slot {options.slot} of copy {status.name} {_SLOT_SENTENCES[slot.wal_status]}"
    budget = facts.max_slot_wal_keep_bytes
    near = budget is not None and status.held_log_bytes > budget * BUDGET_SHARE_MAX
    if budget is not None and near and slot.wal_status in {"reserved", "extended"}:
        yield (
            f"slot {options.slot} of copy {status.name} keeps {status.held_log_bytes >> 20} MiB of log; "
            f"at {budget >> 20} MiB (max_slot_wal_keep_size) the server drops it"
        )
