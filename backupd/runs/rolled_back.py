"""Asks the database's stamps and this node's journal whether the archive has lost its newest backups."""

from __future__ import annotations

from collections.abc import Collection

from backupd.archive import names
from backupd.decide.reasons import Reason
from backupd.decide.rolled_back import missing_backups
from backupd.errors import BackupdError
from backupd.journal.records import RunKind
from backupd.model.records import Stamps
from backupd.model.states import RunState
from backupd.runs.context import RunContext

_RUNS_LOOKED_AT = 50


def rolled_back(context: RunContext, held: Collection[str]) -> tuple[Reason, ...]:
    """A reason for each backup that is known here, and newer than all of ``held``, the ids that the archive lists."""
    try:
        stamps = context.writer.stamps()
    except BackupdError:
        stamps = Stamps()  # no copy answers: the journal is asked alone
    complete = context.journal.runs(context.database, RunKind.BACKUP, RunState.COMPLETE, limit=_RUNS_LOOKED_AT)
    booked = [run.label for run in complete if run.label and names.is_label(run.label)]
    moving = [label for label in booked if names.parse_label(label).type.moves_stamp]
    return missing_backups(stamps, moving, held)
