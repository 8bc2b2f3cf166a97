"""One backup run's way through the table of states, written into the journal at every move."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress

from backupd.errors import BackupdError, DamageFound, NotHealthy, Refused
from backupd.journal.records import JsonValue, Run
from backupd.model.pair import CopyRole
from backupd.model.states import EDGES, FINAL_STATES, RunEvent, RunState
from backupd.runs.context import RunContext

_MAY_HIDE_A_ROLE_CHANGE = frozenset({Refused.exit_status, NotHealthy.exit_status})


class Walk:
    """The run, the state it is in, its notes, and what must be undone however it ends.

    ``undo`` is unwound by the run when it ends, well or not; what is put on it
    last is undone first, so a freeze ends before its snapshot is discarded.
    ``storing`` is set before the first object goes to the archive: from then on the run leaves more than its intent.
    ``source_copy`` is the copy that the plan has chosen, empty before; ``writer.source_role`` is the role that it had.
    """

    def __init__(self, context: RunContext, run: Run, undo: ExitStack) -> None:
        self.context = context
        self.run = run
        self.label = run.label
        self.state = run.state
        self.undo = undo
        self.notes: list[str] = []
        self.committed = False
        self.commit_unknown = False
        self.storing = False
        self.source_copy = ""

    def name(self, label: str) -> None:
        """From now on the run is known by the backup's id."""
        self.context.journal.set_label(self.run.id, label)
        self.label = label

    def move(self, event: RunEvent, **facts: JsonValue) -> None:
        """Make one move of the table; the journal is asked first.

        Raises:
            IllegalMove: a bug.
            Busy: another run has taken the lease over, and nothing is committed yet.
        """
        if not self.committed:
            self.context.raise_if_lost()
        self._moved(event, **facts)

    def _moved(self, event: RunEvent, **facts: JsonValue) -> None:
        edge = self.context.journal.move(self.run.id, event, **facts)
        self.state = edge.to
        self.context.tell(f"{edge.to}: {edge.says}", state=str(edge.to))

    def note(self, sentence: str) -> None:
        """Say something that belongs to the backup's record; it is in the journal too."""
        self.notes.append(sentence)
        self.context.journal.note(self.run.id, sentence)

    def on_the_way_out(self, what: str, action: Callable[[], object]) -> None:
        """Undo something when the run ends; a failure to do so is noted and never hides the reason of the end.

        What stays behind is in the journal, so the next run's recovery removes it.
        """

        def act() -> None:
            try:
                action()
            except BackupdError as error:
                with suppress(BackupdError):
                    self.note(f"{what} did not work: {error.problem} ({error.because}); the next run does it")

        self.undo.callback(act)

    def give_up(self, error: BaseException) -> None:
        """Move to the end that fits the error and the state.

        A run with a record in the archive only waits; one whose commit is unknown stays open for recovery.
        """
        if self.state in FINAL_STATES or self.state is RunState.PENDING or self.commit_unknown:
            return
        says = f"{error.problem} ({error.because})" if isinstance(error, BackupdError) else type(error).__name__
        # A journal that cannot be written now leaves the run "in progress"; recovery ends it.
        with suppress(BackupdError):
            if self.committed:
                if self.state is RunState.STORED:
                    self._moved(RunEvent.PROVE)
                self._moved(RunEvent.POSTPONE, because=says)
                return
            self._moved(ending_for(self.state, error), because=says)


def told_as_role_change(walk: Walk, error: BackupdError) -> BackupdError:
    """What a run ended with; where its source has another role by now, all went wrong for that reason."""
    if not walk.source_copy or error.details.get("role_change") or error.exit_status not in _MAY_HIDE_A_ROLE_CHANGE:
        return error
    because, next_step = error.because, error.next_step
    if not error.details.get("two_actives"):
        try:
            pair = walk.context.writer.pair()
        except BackupdError:
            return error
        role = walk.context.writer.source_role
        in_that_role, other = (pair.passive, "active") if role is CopyRole.PASSIVE else (pair.active, "passive")
        if pair.history is None or in_that_role.name == walk.source_copy:
            return error
        because = f"{walk.source_copy} was the {role} and is the {other} now, so that {error.problem}: {error.because}"
        next_step = "nothing: the next run follows the new roles"
    return NotHealthy("the roles changed during the run", because=because, next_step=next_step, role_change=True)


def ending_for(state: RunState, error: BaseException) -> RunEvent:
    """The event that ends a run in ``state`` because of ``error``."""
    edges = EDGES[state]
    if isinstance(error, Refused) and RunEvent.REFUSE in edges:
        return RunEvent.REFUSE
    if isinstance(error, DamageFound) and RunEvent.FAIL in edges:
        return RunEvent.FAIL
    return RunEvent.ABORT if RunEvent.ABORT in edges else RunEvent.FAIL
