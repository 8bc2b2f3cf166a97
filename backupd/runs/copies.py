"""Acts on the pair: suspend, resume, seed."""

from __future__ import annotations

from backupd.journal.records import RunKind
from backupd.model.pair import CopyState
from backupd.model.states import RunState
from backupd.runs.context import RunContext
from backupd.runs.one_run import one_run
from backupd.runs.recover import recover_under_lease
from backupd.runs.seed import seed_from_archive, seed_passive

_POLL_SECONDS = 0.25


def suspend(context: RunContext, comment: str) -> str:
    """Stop copying and replaying; the active runs on and its log is held. Answers with a sentence."""
    context.writer.suspend(comment)
    until = f"backupctl copy resume {context.database}"
    return f"the passive of {context.database} is suspended; its log is held until: {until}"


def resume(context: RunContext) -> str:
    """End a suspension. Answers with a sentence."""
    context.writer.resume()
    return f"the passive of {context.database} catches up"


def seed(context: RunContext, wait_seconds: float = 600.0, *, source: str = "best") -> tuple[str, ...]:
    """Make the passive anew, and wait for it up to ``wait_seconds``.

    ``source``: ``best`` (the archive where the engine can go on from there, else the active), ``archive`` (nothing
    of the active is read, or nothing is done) or ``active``.

    Raises:
        Refused: it cannot be seeded from the source that was named.
        Busy: another run works on the database.
        NotHealthy: the active cannot be read.
    """
    with one_run(context, f"seed of {context.database}"):
        notes = list(recover_under_lease(context))
        run = context.journal.begin_run(database=context.database, kind=RunKind.SEED)
        try:
            notes.extend(_seed(context, run.id, source))
            with context.writer.replication():
                state = _await_healthy(context, wait_seconds)
        except BaseException as error:
            context.journal.finish(run.id, RunState.FAILED, f"{type(error).__name__}: {error}")
            raise
        if state is CopyState.HEALTHY:
            notes.append(f"the passive of {context.database} was seeded and is healthy")
        else:
            notes.append(
                f"the passive of {context.database} {state.says}; watch it: backupctl status {context.database}"
            )
        notes.append(f"take a full if a new history began: backupctl backup {context.database} --type full")
        context.journal.finish(run.id, RunState.COMPLETE, notes[-2])
        return tuple(notes)


def _seed(context: RunContext, run_id: str, source: str) -> tuple[str, ...]:
    if source == "archive":
        return seed_from_archive(context, run_id)
    if source == "active":
        context.writer.seed()
        return ()
    return seed_passive(context, run_id)


def _await_healthy(context: RunContext, wait_seconds: float) -> CopyState:
    began = context.clock.monotonic()
    while True:
        passive = context.writer.pair().passive
        waited = context.clock.monotonic() - began
        if passive.state is CopyState.HEALTHY or waited > wait_seconds:
            return passive.state
        context.tell(f"the passive {passive.state.says}", state="seeding")
        context.clock.sleep(_POLL_SECONDS)
