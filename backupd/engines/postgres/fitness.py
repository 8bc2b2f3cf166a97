"""Judges whether a passive may be backed up now, soon, or only after a person has acted; pure, from facts."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.facts import ServerFacts, Streaming

_BACKUP_CLIENTS = ("backupd", "pg_basebackup", "pg_receivewal")


@dataclass(frozen=True, slots=True)
class UnfitReason:
    """Why not now: a stable code, a sentence, and whether it can pass by itself."""

    code: str
    sentence: str
    passes: bool

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Fitness:
    """Whether the passive may be backed up.

    ``may_wait``: every reason can pass by itself; ``progress`` is the LSN that was
    replayed, so whoever waits sees whether it moves.  ``notes`` say what a run
    tells but does not stop at.  The lags are None where they cannot be known.
    """

    reasons: tuple[UnfitReason, ...]
    notes: tuple[str, ...] = ()
    progress: int = 0
    lag_bytes: int | None = None
    lag_seconds: float | None = None

    @property
    def fit(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    @property
    def may_wait(self) -> bool:
        """It is not fit, and may become so without anybody's doing."""
        return bool(self.reasons) and all(reason.passes for reason in self.reasons)


def judge_passive(
    active: ServerFacts | None, passive: ServerFacts | None, options: PgOptions, *, our_pause: bool = False
) -> Fitness:
    """Whether ``passive`` may be backed up.

    Args:
        active: what the active says; None when it does not answer.
        passive: what the passive says; None when it does not answer.
        options: the policy's limits.
        our_pause: a pause of ours stands there (its marker says so); a pause without one is somebody else's.
    """
    if passive is None:
        return Fitness((UnfitReason("passive-away", "the passive does not answer", passes=True),))
    bytes_behind, seconds_behind = lag_bytes(active, passive), lag_seconds(active, passive)
    reasons = [
        *_pause_reasons(passive, our_pause=our_pause),
        *_stream_reasons(active, passive),
        *_lag_reasons(bytes_behind, seconds_behind, options),
        *(_active_reasons(active, passive, options) if active else ()),
    ]
    notes = [] if active is None else _notes(active, passive, options)
    return Fitness(tuple(reasons), tuple(notes), passive.replay_lsn or 0, bytes_behind, seconds_behind)


def lag_bytes(active: ServerFacts | None, passive: ServerFacts) -> int | None:
    """Log that the active has flushed and the passive has not replayed."""
    if active is None or active.flush_lsn is None or passive.replay_lsn is None:
        return None
    return max(0, active.flush_lsn - passive.replay_lsn)


def lag_seconds(active: ServerFacts | None, passive: ServerFacts) -> float | None:
    """Age of the newest commit that was replayed; 0 when all there is was replayed; None when not known.

    An idle active commits nothing, so the age alone would grow for ever: without the
    active nothing is known.  Both times are the active's own; the hosts' clocks may differ.
    """
    if active is None or active.flush_lsn is None or passive.replay_lsn is None:
        return None
    if passive.replay_lsn >= active.flush_lsn:
        return 0.0
    if passive.last_xact_replay_at is None:
        return None
    return max(0.0, (active.clock_at - passive.last_xact_replay_at).total_seconds())


def stream_of(active: ServerFacts, passive: ServerFacts) -> Streaming | None:
    """The active's stream to this passive: by the slot that its receiver uses, its name, or because it is the only one.

    None when there is none, or several that could be it.
    """
    streams = [each for each in active.streams if each.application_name not in _BACKUP_CLIENTS]
    slot = passive.receiver.slot if passive.receiver else ""
    by_slot = [each for each in streams if slot and each.slot == slot]
    by_name = [each for each in streams if f"application_name={each.application_name} " in _words_of(passive)]
    for found in (by_slot, by_name, streams):
        if len(found) == 1:
            return found[0]
    return None


def _words_of(passive: ServerFacts) -> str:
    return passive.primary_conninfo.replace("'", "").replace(" = ", "=") + " "


def _pause_reasons(passive: ServerFacts, *, our_pause: bool) -> list[UnfitReason]:
    reasons = []
    if passive.paused and not our_pause:
        sentence = f"replay is paused on the passive ({passive.replay_pause_state}), and not by backupd"
        reasons.append(UnfitReason("paused-by-others", sentence, passes=False))
    if passive.recovery_min_apply_delay_seconds > 0:
        sentence = f"the passive is delayed on purpose by {passive.recovery_min_apply_delay_seconds:g} s"
        reasons.append(UnfitReason("delayed-on-purpose", sentence, passes=False))
    return reasons


def _stream_reasons(active: ServerFacts | None, passive: ServerFacts) -> list[UnfitReason]:
    if active is None:
        return [UnfitReason("active-away", "the active does not answer", passes=True)]
    if passive.receiver is None or passive.receiver.status != "streaming":
        sentence = "the passive does not stream from the active"
        if passive.receiver is not None:
            sentence += f": its receiver is {passive.receiver.status}"
        return [UnfitReason("not-streaming", sentence, passes=True)]
    if passive.timeline != active.timeline:
        sentence = f"the passive is still on timeline {passive.timeline}; the active writes {active.timeline}"
        return [UnfitReason("older-timeline", sentence, passes=True)]
    stream = stream_of(active, passive)
    if not active.streams or (stream is not None and stream.state not in {"streaming", "catchup"}):
        return [UnfitReason("not-streaming", "the active does not stream to the passive", passes=True)]
    if stream is not None and stream.state == "catchup":
        return [UnfitReason("catching-up", "the passive is catching up with the active", passes=True)]
    return []


def _lag_reasons(bytes_behind: int | None, seconds_behind: float | None, options: PgOptions) -> list[UnfitReason]:
    reasons = []
    if bytes_behind is not None and bytes_behind > options.lag_bytes_max:
        sentence = f"the passive is {_mib(bytes_behind)} of log behind; the policy allows {_mib(options.lag_bytes_max)}"
        reasons.append(UnfitReason("lag-bytes", sentence, passes=True))
    if seconds_behind is not None and seconds_behind > options.lag_seconds_max:
        sentence = f"the passive is {seconds_behind:.0f} s behind; the policy allows {options.lag_seconds_max:g} s"
        reasons.append(UnfitReason("lag-seconds", sentence, passes=True))
    return reasons


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"


def _active_reasons(active: ServerFacts, passive: ServerFacts, options: PgOptions) -> list[UnfitReason]:
    reasons = []
    if not active.full_page_writes:
        sentence = "full_page_writes is off on the active, so a backup of its standby could not be recovered"
        reasons.append(UnfitReason("full-page-writes-off", sentence, passes=False))
    if active.synchronous_commit == "remote_apply" or active.remote_apply_somewhere:
        stream = stream_of(active, passive)
        # Which stream is the passive's may be unclear; then any synchronous one could be.
        maybe = [stream] if stream is not None else list(active.streams)
        waits = any(each.sync_state in {"sync", "quorum"} for each in maybe)
        if waits and not options.allow_remote_apply:
            sentence = (
                "the active's commits wait until the passive has replayed them (synchronous_commit = remote_apply), "
                "so a freeze would stop them; allow_remote_apply in the policy accepts that"
            )
            reasons.append(UnfitReason("remote-apply", sentence, passes=False))
    return reasons


def _notes(active: ServerFacts, passive: ServerFacts, options: PgOptions) -> list[str]:
    notes = []
    if not passive.data_checksums:
        notes.append("data checksums are off: pages are stored unchecked")
    for role, facts in (("active", active), ("passive", passive)):
        slot = facts.slot(options.slot)
        if slot is None:
            notes.append(f"the {role} has no slot {options.slot} yet; a run makes it")
        elif slot.wal_status == "lost":
            notes.append(f"slot {options.slot} of the {role} has lost its log; the next backup is a full")
    return notes
