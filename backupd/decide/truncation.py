"""Decides up to where log may leave the copies: never past what the archive, both copies and every hold allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backupd.decide.reasons import Reason
from backupd.model.pair import CopyState
from backupd.model.position import Position
from backupd.model.records import Hold
from backupd.model.states import RunState

# A run in one of these states leaves no doubt about what the archive holds: it ended
# well, or it ended before it stored anything.
_SETTLED_STATES = frozenset({RunState.STAMPED, RunState.COMPLETE, RunState.REFUSED, RunState.ABORTED})


@dataclass(frozen=True, slots=True)
class SecondEnd:
    """What the second archive holds, where the policy wants both archives to hold a backup before its log goes.

    ``end`` is up to where, without a gap, None when nothing; ``lacks`` are the ids of
    backups that the first archive holds beyond it; ``because`` says why it could not be asked.
    """

    place: str
    end: Position | None
    lacks: tuple[str, ...] = ()
    because: str = ""


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """Everything that speaks for or against removing log (design: truncation); None means not known.

    Attributes:
        database: the database's name, for the sentences.
        enabled: whether the policy allows truncation at all.
        history: the history that both copies are in now.
        oldest_held: where the oldest log that any copy still holds begins; None when none is held.
        archive_end: the newest position up to which the archive has proven backups without a gap back to a full.
        last_backup: the newest backup run's id; None when there never was one.
        last_backup_state: the state that it is in.
        passive_state: the passive's state, a word of ``CopyState``.
        passive_because: why it is in that state; may be empty.
        passive_replayed: what the passive has replayed.
        passive_checkpointed: what the passive's data file has durably passed.
        active_checkpointed: what the active's data file has durably passed.
        holds: the holds on this database's log.
        age_seconds: how long ago the copies were asked.
        age_seconds_max: how old that answer may be.
        archived_ended: for each ended history that the archive has backups of, the offset up to which it has it
            without a gap; the log after that is in no backup and stays.
        second: the second archive, where both archives must hold a backup before its log goes; else None.
    """

    database: str
    enabled: bool
    history: str | None
    oldest_held: Position | None
    archive_end: Position | None
    last_backup: str | None
    last_backup_state: RunState | None
    passive_state: str
    passive_because: str
    passive_replayed: Position | None
    passive_checkpointed: Position | None
    active_checkpointed: Position | None
    holds: tuple[Hold, ...]
    age_seconds: float
    age_seconds_max: float
    archived_ended: Mapping[str, int] = field(default_factory=dict)
    second: SecondEnd | None = None


@dataclass(frozen=True, slots=True)
class TruncateBefore:
    """Log files that end at or before ``position`` may go, oldest first."""

    position: Position
    reasons: tuple[Reason, ...]

    @property
    def blocked_by(self) -> tuple[dict[str, str], ...]:
        """Nothing blocks."""
        return ()


@dataclass(frozen=True, slots=True)
class KeepLog:
    """All log stays; every blocker is among the reasons, not only the first."""

    reasons: tuple[Reason, ...]

    @property
    def blocked_by(self) -> tuple[dict[str, str], ...]:
        """The reasons as the JSON output shows them."""
        return tuple(reason.as_json() for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class _Limit:
    """One position that log must not be removed past; ``unknown`` is said when it is not known.

    ``more`` is said after the position.
    """

    code: str
    what: str
    position: Position | None
    unknown: str = ""
    more: str = ""

    @property
    def sentence(self) -> str:
        """What it is, and where."""
        return f"{self.what} {self.position}{self.more}"


def decide_truncation(evidence: LogEvidence) -> TruncateBefore | KeepLog:
    """Whether log may be removed, and before which position.

    Promise: the answer is never past the archive's gap-free end (of both archives
    where the policy wants both to hold a backup), never past what the passive
    has replayed and checkpointed, never past what the active has checkpointed, and
    never past a hold.  Anything unknown, old, unhealthy or of
    another history keeps all log.  Never raises.
    """
    limits = _limits(evidence)
    blockers = [*_policy_blockers(evidence), *_health_blockers(evidence), *_history_blockers(evidence, limits)]
    if blockers:
        return KeepLog(tuple(blockers))
    known = [(limit, limit.position) for limit in limits if limit.position is not None]
    target = min((position for _, position in known), key=lambda position: position.offset)
    oldest = evidence.oldest_held
    if oldest is None:
        return KeepLog((Reason("nothing-to-remove", "nothing to remove: the copies hold no closed log"),))
    if target.offset <= oldest.offset:
        stuck = [limit for limit, position in known if position.offset <= oldest.offset]
        return KeepLog(tuple(_stuck_reason(limit, oldest) for limit in stuck))
    return TruncateBefore(target, tuple(Reason(limit.code, limit.sentence) for limit, _ in known))


def _limits(evidence: LogEvidence) -> list[_Limit]:
    limits = [
        _Limit(
            "archive-end",
            "the archive holds proven backups without a gap up to",
            evidence.archive_end,
            "the archive has no proven full of the history that the copies are in; a full begins it",
        ),
        _Limit(
            "passive-replayed",
            "the passive has replayed up to",
            evidence.passive_replayed,
            "it is not known what the passive has replayed",
        ),
        _Limit(
            "passive-checkpointed",
            "the passive's data is checkpointed up to",
            evidence.passive_checkpointed,
            "it is not known how much of the log the passive's data durably holds",
        ),
        _Limit(
            "active-checkpointed",
            "the active's data is checkpointed up to",
            evidence.active_checkpointed,
            "it is not known how much of the log the active's data durably holds",
        ),
    ]
    if evidence.second is not None:
        limits.insert(1, _second_limit(evidence.second))
    limits.extend(
        _Limit("hold", f"{hold.holder} holds the log ({hold.reason}) from", hold.needs_from) for hold in evidence.holds
    )
    return limits


def _second_limit(second: SecondEnd) -> _Limit:
    archive = f"the second archive, {second.place},"
    lacks = f"; it lacks {', '.join(second.lacks)}: backupctl copy-archive" if second.lacks else ""
    unknown = f"{archive} holds no proven full of the history that the copies are in{lacks}"
    if second.because:
        unknown = f"what {archive} holds is not known: {second.because}"
    what = f"{archive} holds proven backups without a gap up to"
    return _Limit("second-archive-end", what, second.end, unknown, lacks)


def _policy_blockers(evidence: LogEvidence) -> list[Reason]:
    blockers = []
    if not evidence.enabled:
        blockers.append(Reason("disabled", "the policy has truncation switched off"))
    state, backup = evidence.last_backup_state, evidence.last_backup
    if backup is None or state is None:
        blockers.append(Reason("no-backup", f"there is no backup of {evidence.database} yet"))
    elif state == RunState.PENDING:
        blockers.append(Reason("backup-pending", f"backup {backup} waits for its stamp to be seen on the passive"))
    elif state == RunState.FAILED:
        blockers.append(Reason("backup-failed", f"the last backup, {backup}, failed; its log is all there is"))
    elif state not in _SETTLED_STATES:
        blockers.append(Reason("backup-not-proven", f"backup {backup} is {state} and not yet proven and stamped"))
    return blockers


def _health_blockers(evidence: LogEvidence) -> list[Reason]:
    blockers = []
    if evidence.passive_state != CopyState.HEALTHY:
        code = "passive-" + evidence.passive_state.replace(" ", "-")
        because = f": {evidence.passive_because}" if evidence.passive_because else ""
        blockers.append(Reason(code, f"the passive is {evidence.passive_state}, not healthy{because}"))
    # Written so that a NaN and a clock that went back block too.
    if not 0 <= evidence.age_seconds <= evidence.age_seconds_max:
        blockers.append(
            Reason(
                "evidence-old",
                f"the copies were last seen {evidence.age_seconds:.0f} s ago; "
                f"at most {evidence.age_seconds_max:.0f} s are allowed",
            )
        )
    return blockers


def _history_blockers(evidence: LogEvidence, limits: list[_Limit]) -> list[Reason]:
    blockers = [Reason(f"{limit.code}-unknown", limit.unknown) for limit in limits if limit.position is None]
    if evidence.history is None:
        return [Reason("history-unknown", "it is not known which history the copies are in"), *blockers]
    places = [(limit.what, limit.position) for limit in limits]
    places.append(("the oldest held log begins at", evidence.oldest_held))
    blockers.extend(
        Reason("histories-differ", f"{what} {position}, but the copies are in history {evidence.history}")
        for what, position in places
        if position is not None and position.history != evidence.history
    )
    return blockers


def _stuck_reason(limit: _Limit, oldest: Position) -> Reason:
    if limit.code == "archive-end":
        sentence = f"nothing to remove: {limit.sentence}, and the oldest held log begins at {oldest}"
        return Reason("nothing-to-remove", sentence)
    return Reason(limit.code, f"{limit.sentence}; the oldest held log begins at {oldest}")
