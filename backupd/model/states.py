"""The life of a run as one table: states, events, and a sentence for every edge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RunState(StrEnum):
    """Where a backup run stands (design: a backup, state by state)."""

    PLANNED = "planned"
    PREPARED = "prepared"
    FROZEN = "frozen"
    CAPTURED = "captured"
    THAWED = "thawed"
    CHECKED = "checked"
    STORED = "stored"
    PROVEN = "proven"
    STAMPED = "stamped"
    COMPLETE = "complete"
    PENDING = "pending"
    REFUSED = "refused"
    ABORTED = "aborted"
    FAILED = "failed"


class RunEvent(StrEnum):
    """What happens to a run."""

    PREPARE = "prepare"
    FREEZE = "freeze"
    CAPTURE = "capture"
    THAW = "thaw"
    CHECK = "check"
    STORE = "store"
    PROVE = "prove"
    STAMP = "stamp"
    COMPLETE = "complete"
    POSTPONE = "postpone"
    REFUSE = "refuse"
    ABORT = "abort"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Edge:
    """One allowed move: the state it leads to, and the sentence that the log and the picture show."""

    to: RunState
    says: str


class IllegalMove(RuntimeError):
    """The run asked for a move that the table does not have; the caller has a bug."""


_S, _E = RunState, RunEvent

EDGES: dict[RunState, dict[RunEvent, Edge]] = {
    _S.PLANNED: {
        _E.PREPARE: Edge(_S.PREPARED, "the active closed its log and the passive has replayed past it"),
        _E.REFUSE: Edge(_S.REFUSED, "a rule refused the run before anything was touched"),
        _E.ABORT: Edge(_S.ABORTED, "preparing failed; holds released"),
    },
    _S.PREPARED: {
        _E.FREEZE: Edge(_S.FROZEN, "replay paused, the passive's files are quiet"),
        _E.CHECK: Edge(_S.CHECKED, "log files only: every one verified, without a gap"),
        _E.ABORT: Edge(_S.ABORTED, "freezing failed; replay runs; holds released"),
        _E.FAIL: Edge(_S.FAILED, "a log file is damaged or missing; nothing was stored"),
    },
    _S.FROZEN: {
        _E.CAPTURE: Edge(_S.CAPTURED, "snapshot taken, the writer's facts read"),
        _E.ABORT: Edge(_S.ABORTED, "no snapshot; thawed; holds released"),
    },
    _S.CAPTURED: {
        _E.THAW: Edge(_S.THAWED, "replay runs again; the freeze held for the whole snapshot"),
        _E.ABORT: Edge(_S.ABORTED, "the freeze did not hold; thawed; snapshot discarded"),
    },
    _S.THAWED: {
        _E.CHECK: Edge(_S.CHECKED, "every page of the snapshot verified, as many as expected"),
        _E.ABORT: Edge(_S.ABORTED, "interrupted; snapshot discarded"),
        _E.FAIL: Edge(_S.FAILED, "a page of the snapshot is bad; passive marked suspect, prune holds the older chain"),
    },
    _S.CHECKED: {
        _E.STORE: Edge(_S.STORED, "every object written to the archive"),
        _E.FAIL: Edge(_S.FAILED, "storing failed; objects without a record are swept later"),
    },
    _S.STORED: {
        _E.PROVE: Edge(_S.PROVEN, "read back what was stored; log from start to end is complete; record committed"),
        _E.FAIL: Edge(_S.FAILED, "what was read back is not what was stored; no record was committed"),
    },
    _S.PROVEN: {
        _E.STAMP: Edge(_S.STAMPED, "stamp written on the active and seen on the passive"),
        _E.COMPLETE: Edge(_S.COMPLETE, "a copy or differential moves no stamp; snapshot discarded, holds released"),
        _E.POSTPONE: Edge(_S.PENDING, "the passive has not seen the stamp yet; no further increment until it has"),
    },
    _S.STAMPED: {
        _E.COMPLETE: Edge(_S.COMPLETE, "listed; snapshot discarded, holds released"),
        _E.POSTPONE: Edge(_S.PENDING, "interrupted between stamp and end; the next recover completes it"),
    },
    _S.PENDING: {
        _E.STAMP: Edge(_S.STAMPED, "the stamp arrived on the passive after all"),
        _E.COMPLETE: Edge(_S.COMPLETE, "a later stamp of the chain covers this one; nothing is left to wait for"),
    },
    _S.COMPLETE: {},
    _S.REFUSED: {},
    _S.ABORTED: {},
    _S.FAILED: {},
}

FROZEN_STATES = frozenset({RunState.FROZEN, RunState.CAPTURED})
FINAL_STATES = frozenset(state for state, edges in EDGES.items() if not edges)


def next_state(state: RunState, event: RunEvent) -> Edge:
    """The edge for ``event`` out of ``state``.

    Raises:
        IllegalMove: the table has no such edge; nothing has changed.
    """
    try:
        return EDGES[state][event]
    except KeyError:
        raise IllegalMove(f"a run that is {state} cannot {event}") from None
