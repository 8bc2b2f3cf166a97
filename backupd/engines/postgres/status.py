"""The status of a pair, from what its servers say and what backupd has noted; pure."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.engines.postgres.alarms import pair_alarms
from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.facts import ServerFacts
from backupd.engines.postgres.fitness import Fitness, UnfitReason, judge_passive
from backupd.engines.postgres.marks import NO_MARKS, CopyMark, Marks
from backupd.engines.postgres.roles import PgPair, Seen, judge_pair
from backupd.errors import BackupdError
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.position import Position

ENGINE = "postgres"

# What passes by itself is a copy on its way; what a person wanted is a suspension; the rest is a failure.
_WANTED = frozenset({"paused-by-others", "delayed-on-purpose"})


def pair_status(
    database: str, copies: Sequence[PgCopy], seen: Seen, options: PgOptions, marks: Marks = NO_MARKS
) -> PairStatus:
    """Both copies as they are now.

    Never raises: servers that are not one pair are shown as failed, with the
    reason as an alarm (``judge_pair`` raises it for a run).

    Args:
        database: its name in the policy.
        copies: both, as the policy says.
        seen: their answers (``look.read_copies``).
        options: the policy's limits.
        marks: what backupd has noted about them.
    """
    try:
        pair = judge_pair(database, seen, must_seed=marks.passive is not None)
    except BackupdError as error:
        return _no_pair(database, copies, seen, error, marks)
    directories = {copy.name: copy for copy in copies}
    fitness = judge_passive(pair.active_facts, pair.passive_facts, options, our_pause=marks.our_pause)
    active = _active_status(directories[pair.active], pair, options, marks)
    passive = _passive_status(directories[pair.passive], pair, fitness, options, marks)
    alarms = pair_alarms(pair, (active, passive), options)
    return PairStatus(database, ENGINE, active, passive, pair.history, alarms, pair.ancestry)


def _no_pair(database: str, copies: Sequence[PgCopy], seen: Seen, error: BackupdError, marks: Marks) -> PairStatus:
    statuses = []
    # What is noted of a copy stands while nobody answers; such a copy was the passive.
    for role, copy in zip(CopyRole, sorted(copies, key=lambda each: each.name in marks.copies), strict=True):
        answer, mark = seen[copy.name], marks.copies.get(copy.name)
        because = answer.because if isinstance(answer, BackupdError) else error.because
        state, because = (mark.state, mark.because) if mark is not None else (CopyState.FAILED, because)
        statuses.append(CopyStatus(copy.name, role, state, str(copy.data_directory), because))
    active, passive = statuses
    return PairStatus(database, ENGINE, active, passive, None, (f"{error.problem}: {error.because}",))


def _active_status(copy: PgCopy, pair: PgPair, options: PgOptions, marks: Marks) -> CopyStatus:
    facts = pair.active_facts
    if facts is None:
        because = pair.errors[copy.name].because
        return CopyStatus(copy.name, CopyRole.ACTIVE, CopyState.FAILED, str(copy.data_directory), because)
    mark = marks.copies.get(copy.name)
    held = _held(facts, options)
    return CopyStatus(
        name=copy.name,
        role=CopyRole.ACTIVE,
        state=CopyState.HEALTHY if mark is None or mark.state is CopyState.SUSPENDED else mark.state,
        path=str(copy.data_directory),
        because="" if mark is None or mark.state is CopyState.SUSPENDED else mark.because,
        held_log_bytes=held[0],
        held_log_count=held[1],
        held_log_seconds=held[2],
        closed=Position(facts.history, _floor(facts.end_lsn, facts)),
        checkpointed=Position(facts.history, facts.checkpoint_lsn),
        seen_at=facts.clock_at,
        facts=(("role", "active"), *_server_facts(facts, options)),
    )


def _passive_status(copy: PgCopy, pair: PgPair, fitness: Fitness, options: PgOptions, marks: Marks) -> CopyStatus:
    facts, active = pair.passive_facts, pair.active_facts
    mark = marks.passive or marks.copies.get(copy.name)
    if facts is None:
        state, because = (mark.state, mark.because) if mark else (CopyState.FAILED, pair.errors[copy.name].because)
        return CopyStatus(copy.name, CopyRole.PASSIVE, state, str(copy.data_directory), because)
    state, because = _passive_state(mark, fitness)
    received, replayed = max(facts.receive_lsn or 0, facts.replay_lsn or 0), facts.replay_lsn or 0
    size, held = facts.wal_segment_bytes, _held(facts, options)
    flushed = received if active is None else max(active.end_lsn, received)
    lags = (("lag_bytes", fitness.lag_bytes), ("lag_seconds", fitness.lag_seconds))
    return CopyStatus(
        name=copy.name,
        role=CopyRole.PASSIVE,
        state=state,
        path=str(copy.data_directory),
        because=because,
        copy_queue_logs=flushed // size - received // size,
        replay_queue_logs=received // size - replayed // size,
        held_log_bytes=held[0],
        held_log_count=held[1],
        held_log_seconds=held[2],
        inspected=Position(facts.history, _floor(received, facts)),
        replayed=Position(facts.history, replayed),
        checkpointed=Position(facts.history, facts.checkpoint_lsn),
        seen_at=facts.clock_at,
        facts=(
            ("role", "passive"),
            *(
                (name, f"{value:.1f}" if isinstance(value, float) else str(value))
                for name, value in lags
                if value is not None
            ),
            ("copy_queue_bytes", str(flushed - received)),
            ("replay_queue_bytes", str(received - replayed)),
            ("replay", facts.replay_pause_state),
            *_server_facts(facts, options),
        ),
    )


def _passive_state(mark: CopyMark | None, fitness: Fitness) -> tuple[CopyState, str]:
    if mark is not None:
        return mark.state, mark.because
    if fitness.fit:
        return CopyState.HEALTHY, ""
    lasting = [reason for reason in fitness.reasons if not reason.passes]
    because = "; ".join(reason.sentence for reason in lasting or fitness.reasons)
    return _state_of(lasting), because


def _state_of(lasting: Sequence[UnfitReason]) -> CopyState:
    if not lasting:
        return CopyState.INITIALIZING
    return CopyState.SUSPENDED if all(reason.code in _WANTED for reason in lasting) else CopyState.FAILED


def _floor(lsn: int, facts: ServerFacts) -> int:
    return lsn - lsn % facts.wal_segment_bytes


def _held(facts: ServerFacts, options: PgOptions) -> tuple[int, int, float]:
    """Bytes, closed segments and age of the log that our slot keeps on this copy."""
    slot, size = facts.slot(options.slot), facts.wal_segment_bytes
    if slot is None or slot.restart_lsn is None:
        return 0, 0, 0.0
    seconds = 0.0
    if facts.slot_oldest_at is not None:
        seconds = max(0.0, (facts.clock_at - facts.slot_oldest_at).total_seconds())
    return max(0, facts.end_lsn - slot.restart_lsn), max(0, facts.end_lsn // size - slot.restart_lsn // size), seconds


def _server_facts(facts: ServerFacts, options: PgOptions) -> tuple[tuple[str, str], ...]:
    slot = facts.slot(options.slot)
    budget = facts.max_slot_wal_keep_bytes
    return (
        ("server", f"PostgreSQL {facts.version}"),
        ("timeline", facts.history),
        ("slot", f"{options.slot}: {slot.wal_status or 'unused'}" if slot else "none"),
        ("checksums", "on" if facts.data_checksums else "off"),
        ("full_page_writes", "on" if facts.full_page_writes else "off"),
        ("log_budget_bytes", "unlimited" if budget is None else str(budget)),
    )
