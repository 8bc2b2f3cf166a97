"""The second archive as ``status`` shows it: what waits to be copied, and what keeps it from being copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.errors import BackupdError, NotFound
from backupd.journal.records import JsonValue, RunKind
from backupd.model.alarm import Alarm
from backupd.model.states import RunState
from backupd.runs.alarms import of_findings
from backupd.runs.archive_view import remembered
from backupd.runs.context import RunContext

if TYPE_CHECKING:  # status is quick: what reads records is imported when there is something to copy
    from backupd.runs.second_archive import CopyQueue


def second_status(context: RunContext, alarms: list[Alarm]) -> dict[str, JsonValue] | None:
    """Its place, how many archives must hold a backup, and the copy queue; None when the policy names none.

    What a person has to do something about is added to ``alarms``. Never raises for what the world did.
    """
    second, options = context.second, context.policy.second_archive
    if second is None or options is None:
        return None
    answer: dict[str, JsonValue] = {
        "place": options.url,
        "archives_min": options.archives_min,
        "state": "whole",
        "waiting": [],
        "waiting_bytes": 0,
    }
    seen = remembered(second)
    if seen is not None and seen.archive == options.url:
        alarms.extend(of_findings(context.database, seen.findings, archive="the second archive"))
    try:
        first = _record_labels(context)
    except BackupdError:
        return {**answer, "state": "not known"}  # the first archive is away: that is an alarm already
    try:
        # Names are enough while the second archive has all of them: then no record is read.
        queue = _queue(context) if first - _record_labels(second) else None
    except NotFound:
        return answer  # nothing was ever backed up
    except BackupdError as error:
        sentence = f"the second archive: {error.problem} ({error.because})"
        alarms.append(Alarm(context.database, "second-archive-away", sentence, next_step=error.next_step))
        return {**answer, "state": "not known"}
    if queue is None or not (queue.waiting or queue.stuck):
        return answer
    alarms.extend(_queue_alarms(context, queue))
    return {
        **answer,
        "state": "behind",
        "waiting": [backup.record.id for backup in queue.waiting],
        "waiting_bytes": sum(backup.record.stored_bytes for backup in queue.waiting),
    }


def _queue(context: RunContext) -> CopyQueue:
    from backupd.runs.second_archive import copy_queue

    return copy_queue(context)


def _record_labels(context: RunContext) -> frozenset[str]:
    """The labels of all records, by a listing alone. Raises ArchiveUnreachable."""
    dbid = names.database_id(context.database, context.engine)
    return frozenset(names.label_in(each.name) for each in context.open_store().list(names.records_prefix(dbid)))


def _queue_alarms(context: RunContext, queue: CopyQueue) -> list[Alarm]:
    """Nothing is wrong with a queue while a run works on the database, for it ends with a copy."""
    from backupd.runs.second_archive import queue_words

    database, copy = context.database, f"backupctl copy-archive {context.database}"
    alarms = [
        Alarm(database, "second-archive-stuck", f"backup {id_} is not in the second archive: {because}", id_)
        for id_, because in queue.stuck.items()
    ]
    dead = {run.id for run in context.journal.abandoned(database)}
    if not queue.waiting or any(run.id not in dead for run in context.journal.in_progress(database)):
        return alarms
    last = next(iter(context.journal.runs(database, RunKind.COPY_ARCHIVE, limit=1)), None)
    because = last.facts.get("because") if last is not None and last.state is RunState.FAILED else None
    said = f"; the last copy failed: {because}" if isinstance(because, str) else ""
    sentence = f"{queue_words(queue.waiting)}: {copy}{said}"
    return [*alarms, Alarm(database, "second-archive-behind", sentence, next_step=copy)]
