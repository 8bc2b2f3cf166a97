"""Where drills restore to: a scratch directory each, which says whose it is, so that a dead one's is removed."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from backupd.durable import read_json, write_json
from backupd.errors import BackupdError, Busy, NotHealthy, Refused
from backupd.journal.records import RunKind
from backupd.model.amounts import size_text
from backupd.model.states import IllegalMove, RunState
from backupd.ports import ScratchTarget
from backupd.process import ProcessIdentity, is_alive, this_process
from backupd.runs.context import RunContext
from backupd.steps import step

_MARKER = "backupd-drill.json"
_PREFIX = "drill-"
_DATA = "data"


class DrillPlace:
    """The scratch directory of one drill; ``data`` is where the restored state comes to be."""

    def __init__(self, context: RunContext, run_id: str) -> None:
        self._context, self._run_id = context, run_id
        # A short name: the path of a server's socket has room for little more than a hundred characters.
        self.directory = drill_directory(context) / f"{_PREFIX}{run_id.rpartition('-')[2]}"
        self.data = self.directory / _DATA

    def make(self) -> None:
        """Make it, with the marker that says which process it belongs to. Raises NotHealthy."""
        step("drill.place")
        marker = {"database": self._context.database, "run": self._run_id, "process": asdict(this_process())}
        try:
            for missing in [each for each in (*reversed(self.directory.parents), self.directory) if not each.exists()]:
                missing.mkdir()
                missing.chmod(0o711)  # the server of what is restored runs as its own user, and is to pass
            write_json(self.directory / _MARKER, marker, step_name="drill.marker")
        except OSError as error:
            raise NotHealthy(
                f"no scratch directory can be made in {self.directory.parent}",
                because=f"{error.filename or self.directory}: {error.strerror or error}",
                next_step="make room there and allow writing, or name another place: drill.directory in the policy",
            ) from None

    def target(self) -> ScratchTarget:
        """The place as a restore sees it. Raises Refused: it belongs to a copy."""
        return scratch_target(self._context, self.data)

    def remove(self) -> None:
        """Stop what runs there and remove all; may be repeated. Raises NotHealthy."""
        remove_place(self._context, self.directory)


def try_place(context: RunContext) -> str:
    """Make and remove a place as a drill would, so that a place that will not do is told before Sunday night.

    Raises:
        NotHealthy: it cannot be made there, or the database has no room there.
        Refused: what is restored could not be started there, or it belongs to a copy.
    """
    run_id = f"check-{secrets.token_hex(4)}"
    place = DrillPlace(context, run_id)
    target = place.target()
    try:
        place.make()
        target.begin(run_id)
        free, needed = target.facts().free_bytes, context.writer.room_bytes(copied=True)
    finally:
        place.remove()
    where = place.directory.parent
    if free < needed:
        raise NotHealthy(
            f"there is no room for a drill in {where}",
            because=f"{size_text(needed)} are needed for the database and its log, {size_text(free)} are free",
            next_step="make room there, or name another place: drill.directory in the policy",
        )
    return f"a drill can restore to {where}, where {size_text(free)} are free and {size_text(needed)} are needed"


def drill_directory(context: RunContext) -> Path:
    """Below which all drills of the database happen on this host."""
    options = context.policy.drill
    if options is not None and options.directory is not None:
        return Path(options.directory) / context.database
    return context.state_dir / "drill"


def scratch_target(context: RunContext, data: Path) -> ScratchTarget:
    """A directory as a target that can be opened and discarded; nothing else ever is one. Raises Refused."""
    target = context.writer.restore_target(str(data))
    if not isinstance(target, ScratchTarget):
        raise Refused(
            f"cannot drill in {data}",
            because="that is no scratch directory of its own",
            next_step="name another place: drill.directory in the policy",
        )
    return target


def remove_place(context: RunContext, directory: Path) -> None:
    """Remove one scratch directory and stop what runs there. Raises NotHealthy."""
    if not directory.is_dir():
        return
    scratch_target(context, directory / _DATA).discard()
    step("drill.remove")
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass  # somebody else removes it, too
    except OSError as error:
        raise NotHealthy(
            f"the scratch directory {directory} cannot be removed",
            because=error.strerror or str(error),
            next_step="look what is there and remove it, then: backupctl recover",
        ) from None


def clear_dead_drills(context: RunContext) -> tuple[str, ...]:
    """Remove what drills left whose process is dead, and end their runs; answers with sentences.

    Raises:
        NotHealthy: one cannot be removed now.
    """
    sentences = []
    runs = [run for run in context.journal.abandoned(context.database) if run.kind is RunKind.DRILL]
    own = {Path(noted) for run in runs if isinstance(noted := run.facts.get("directory"), str)}
    # One may have died before it had written whose its directory is; another one's policy may have changed since.
    places = {place for above in {drill_directory(context), *(each.parent for each in own)} for place in _dead(above)}
    for place in sorted(places | {each for each in own if each.is_dir()}):
        remove_place(context, place)
        sentences.append(f"removed {place}, which a drill had left that died")
    for run in runs:
        with suppress(IllegalMove):  # another process has ended it this moment
            context.journal.finish(run.id, RunState.ABORTED, "the process of this drill died")
            sentences.append(f"the drill {run.id} had died; it proved nothing")
    return tuple(sentences)


def refuse_second(context: RunContext) -> None:
    """Two drills at once would want twice the room. Raises Busy."""
    for run in context.journal.in_progress(context.database):
        if run.kind is RunKind.DRILL and is_alive(run.process):
            raise Busy(
                f"a drill of {context.database} cannot begin now",
                because=f"another one, {run.id}, goes on in process {run.process.pid}",
                next_step="wait until it is over: backupctl status " + context.database,
            )


def _dead(directory: Path) -> list[Path]:
    """Scratch directories there that say whose they are, and belong to nobody who lives."""
    found = []
    with suppress(OSError):
        for place in sorted(directory.glob(f"{_PREFIX}*")):
            with suppress(BackupdError, TypeError, KeyError):
                said = read_json(place / _MARKER)
                if said is not None and not is_alive(ProcessIdentity(**said["process"])):
                    found.append(place)
    return found
