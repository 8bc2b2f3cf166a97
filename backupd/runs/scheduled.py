"""Runs that a schedule asks for: one for each slot over all nodes, and none when the slot is served already."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from backupd.decide.schedule import BACKUPS
from backupd.decide.turns import not_our_turn
from backupd.errors import Refused
from backupd.model.records import BackupType
from backupd.model.rules import Task
from backupd.runs.archive_view import refuse_vanished
from backupd.runs.backup import run_backup
from backupd.runs.drill import run_drill
from backupd.runs.prune import run_prune
from backupd.runs.slot_evidence import served_by, slot_name
from backupd.runs.verify import run_verify

if TYPE_CHECKING:
    from backupd.runs.context import RunContext


class NotOurTurn(Refused):
    """The copy that this database is backed up from lives on another node."""


class AlreadyServed(Refused):
    """Another run, perhaps of the other node, has done meanwhile what a slot wanted."""


def run_scheduled(context: RunContext, task: Task, slot_at: datetime | None) -> str:
    """Do what a slot wants, now; answers with a sentence.

    Under the lease it is asked once more whether the slot is served: two services
    that find it due at the same moment take one backup.  None instead of a slot: a
    person wants it, whatever there is already.

    Raises:
        NotOurTurn: it is the other node's to do.
        AlreadyServed: there is nothing to do any more.
        ArchiveUnreachable: a verify could not read all; and whatever the run itself raises.
    """
    if slot_at is not None:
        _refuse_turn(context)
    if task in BACKUPS:
        made = run_backup(
            context,
            BackupType(task.value),
            reason=f"slot {slot_name(task, slot_at)}" if slot_at else "manual",
            unless=lambda: _refuse_served(context, task, slot_at),
        )
        return f"{made.record.type} {made.record.id} is {made.state}" if made.record else ""
    if task is Task.PRUNE:
        gone = len(run_prune(context).deleted)
        return f"{gone} backups removed"
    if task is Task.DRILL:
        return _drill(context, slot_at)
    verified = run_verify(context, rules=context.policy.verify_rules())
    if not verified.sound:
        return f"{len(verified.findings) + len(verified.known_damage)} findings: backupctl verify {context.database}"
    if verified.unreachable is not None:
        raise verified.unreachable
    return f"{verified.objects_checked} objects are sound"


def _drill(context: RunContext, slot_at: datetime | None) -> str:
    """A drill that does not pass is a run that failed: it is tried again, for a disk may have room by then."""
    _refuse_served(context, Task.DRILL, slot_at)
    drilled = run_drill(context)
    if drilled.failure is not None:
        raise drilled.failure
    return f"{drilled.backup_id} was restored to {drilled.facts.position} in {drilled.facts.restore_seconds:.1f} s"


def _refuse_turn(context: RunContext) -> None:
    nodes = {name: copy.node for name, copy in context.policy.copies.items()}
    if not any(nodes.values()):
        return
    reason = not_our_turn(context.writer.pair(), nodes, context.node, context.policy.source_rules().rule)
    if reason is not None:
        raise NotOurTurn(
            f"{context.database} is not run here now", because=reason.sentence, next_step="nothing: the other node does"
        )


def _refuse_served(context: RunContext, task: Task, slot_at: datetime | None) -> None:
    if slot_at is None:
        return
    refuse_vanished(context)
    served = served_by(context.archive(create=task in BACKUPS), task, slot_at)
    if served is not None:
        raise AlreadyServed(
            f"the {task} of {slot_at:%Y-%m-%d %H:%M:%SZ} is not begun",
            because=f"a {served.task} of {served.at:%H:%M:%SZ} serves it already",
            next_step="nothing",
        )
