"""What a run asks of the servers before it reads: of both, or of the active alone where that stands in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.prepare import close_log, prepare
from backupd.engines.postgres.slots import ensure_slot, ensure_slots
from backupd.model.pair import CopyRole
from backupd.ports import Prepared, ReportProgress

if TYPE_CHECKING:
    from backupd.engines.postgres.writer import PostgresWriter


def prepare_source(writer: PostgresWriter, *, checkpoint: bool, seconds_max: float, report: ReportProgress) -> Prepared:
    """See ``ports.Writer.prepare``; the slots that hold the log are made first, where they are missing."""
    pair = writer.judged()
    pair.need(writer.source_role)
    if writer.source_role is CopyRole.ACTIVE:
        with connect(writer.copies[pair.active].conninfo, copy=pair.active) as server:
            made_one = ensure_slot(server, writer.options.slot)  # backup mode itself holds no log
            closed = close_log(server, writer.restore_point())
        notes = ("the active is read: it pays for this backup", made_one)
        return Prepared(closed.position, closed.at, tuple(filter(None, notes)))
    with writer.servers(pair) as (active, passive):
        made = ensure_slots(active, passive, writer.options.slot)
        prepared = prepare(
            active,
            passive,
            name=writer.restore_point(),
            checkpoint=checkpoint,
            seconds_max=seconds_max,
            report=report,
        )
    return replace(prepared, notes=made)
