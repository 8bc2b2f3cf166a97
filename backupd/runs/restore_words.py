"""What a restore would do to its target, what would be lost and what stands in the way, in sentences."""

from __future__ import annotations

from datetime import datetime

from backupd.decide.restore_path import RestorePath
from backupd.model.amounts import size_text
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup
from backupd.ports import TargetFacts
from backupd.runs.context import RunContext

# What the offset of a position counts.
_UNITS = {"sqlite": "entries", "postgres": "bytes"}


def present(facts: TargetFacts) -> str:
    """What is at the target now."""
    if facts.given_up:
        return f"what a restore in place has left is at {facts.path}; no server starts there"
    if not facts.exists:
        return f"nothing is at {facts.path} now"
    where = f", at position {facts.position}" if facts.position else ""
    return f"{facts.path} is there now, {size_text(facts.size_bytes)}{where}"


def lost(
    context: RunContext,
    facts: TargetFacts,
    route: RestorePath,
    backups: tuple[ArchivedBackup, ...],
    commits: int | None = None,
    *,
    in_place: bool = False,
) -> tuple[str, ...]:
    """What the target has and the restored state has not, in position, transactions (if they were counted) and time."""
    if facts.role == "directory":
        return (f"the file {facts.path} would be replaced",) if facts.exists else ()
    if not facts.exists:
        return ()
    sentences: list[str] = []
    if in_place:
        sentences.append(
            "the way back: what is there is given up before the new is whole, and only a restore ends that"
        )
    end, here = route.until or route.end, facts.position
    if here is None:
        sentences.append("everything that is there now and not in the restored state; its position is not known")
    elif not here.same_history(end):
        sentences.append(
            f"all that was committed in history {here.history}, which the restored state does not belong to"
        )
    elif here > end and route.at is None:
        unit = _UNITS.get(context.engine, "entries")
        sentences.append(f"{here.offset - end.offset} {unit} of log: it stands at {here}, the restored state at {end}")
    elif route.at is not None:
        sentences.append(f"every commit after {route.at.isoformat()} (it stands at {here})")
    if commits:
        sentences.append("one transaction" if commits == 1 else f"{commits:,} transactions that were committed since")
    moment = route.at or _known_until(end, backups) or _not_before(route)
    if moment is not None and (here is None or here != end):
        sentences.append(
            f"up to {_spell((context.clock.now() - moment).total_seconds())} of changes, back to {moment.isoformat()}"
        )
    return tuple(sentences)


def _known_until(end: Position, backups: tuple[ArchivedBackup, ...]) -> datetime | None:
    """The newest moment at which the restored state is known to have been the whole state."""
    moments = [backup.record.covers_until for backup in backups if backup.record.log_end == end]
    return max(moments, default=None)


def _not_before(route: RestorePath) -> datetime | None:
    """The newest moment that the restored state is known not to be older than, by the times of commits in its log."""
    last = route.logs[-1].log if route.logs else None
    if last is None or (route.until is not None and last.start >= route.until):
        return None
    earlier = [stored.log.last_commit_at for stored in route.logs[:-1] if stored.log.last_commit_at is not None]
    return max([*earlier, *([last.first_commit_at] if last.first_commit_at else [])], default=None)


def _spell(seconds: float) -> str:
    """A length of time as a person says it."""
    whole = max(0, round(seconds))
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if whole >= 2 * size:
            return f"{whole // size} {name}s"
    return f"{whole} seconds"


def blockers(context: RunContext, facts: TargetFacts, needed_bytes: int) -> tuple[str, ...]:
    """Why a restore would be refused as things stand; empty when it would not."""
    sentences = []
    if facts.free_bytes < needed_bytes:
        needed, free = size_text(needed_bytes), size_text(facts.free_bytes)
        sentences.append(f"{needed} are needed beside {facts.path}, and {free} are free")
    if facts.users and not context.policy.restore.stop_command:
        named = ", ".join(f"{user.command} (pid {user.pid})" for user in facts.users)
        sentences.append(f"{facts.path} is open in {named}, and the policy has no stop command")
    return tuple(sentences)


def steps(context: RunContext, facts: TargetFacts, route: RestorePath, *, in_place: bool = False) -> tuple[str, ...]:
    """What a restore does, step by step."""
    live = facts.role != "directory"
    sentences = []
    if live and context.policy.restore.stop_command:
        sentences.append(f"run the policy's stop command: {' '.join(context.policy.restore.stop_command)}")
    if live:
        sentences.append("suspend replication")
    backup = f"{route.full.record.type} {route.full.record.id}"
    if in_place:
        sentences.append(f"give up what is at {facts.path}: its files become the beginning of the restored ones")
        sentences.append(f"fetch those pages of {backup} that are not there, verified")
    else:
        sentences.append(f"fetch the pages of {backup} beside {facts.path}, verified")
    if route.logs:
        stop = route.at.isoformat() if route.at else str(route.until or route.end)
        sentences.append(f"replay {len(route.logs)} log files up to {stop}")
    sentences.append("check the result with the engine")
    sentences.append(f"put it in place at {facts.path}")
    if live and context.policy.restore.start_command:
        sentences.append(f"run the policy's start command: {' '.join(context.policy.restore.start_command)}")
    if live:
        sentences.append("begin a new history, and seed the passive; a new full is due")
    return tuple(sentences)
