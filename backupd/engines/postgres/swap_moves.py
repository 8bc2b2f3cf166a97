"""Carries a planned swap out: ``global`` leaves first, and no server may have been there when it did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from backupd.durable import sync_directory
from backupd.engines.postgres.swap import CORE, Room, SwapPlan
from backupd.errors import BackupdError, NotHealthy
from backupd.steps import step


def nobody_starts() -> None:
    """``refuse_running`` of a directory in which no server has ever been."""


def has_begun(plan: SwapPlan) -> bool:
    """Whether ``global`` has left, or was not there: until then the old cluster is whole, and a server may start."""
    main = plan.rooms[0]
    here, gone = os.path.lexists(main.place / CORE), os.path.lexists(main.old / CORE)
    return gone or not here or (0, CORE) not in plan.leaves


def carry_out(plan: SwapPlan, refuse_running: Callable[[], None]) -> None:
    """Do all moves that are not done yet; may be repeated until it comes back.

    Args:
        plan: the moves.
        refuse_running: raises where a server works in the data directory. A server that was started before
            ``global`` had left goes on without it, and would write into what comes; so this is asked before that
            move and after it, and then the move is taken back.

    Raises:
        NotHealthy: a move did not work; run it again when its reason is gone.
        Refused: by ``refuse_running``; nothing was moved, or ``global`` is back.
    """
    comes = set(plan.comes)
    try:
        for room in plan.rooms:
            room.old.mkdir(mode=0o700, exist_ok=True)
        _begin(plan, refuse_running)
        for index, name in plan.leaves:
            room = plan.rooms[index]
            # A name that has come already is not the one that had to leave.
            came = (index, name) in comes and not os.path.lexists(room.stage / name)
            if not came and os.path.lexists(room.place / name) and not os.path.lexists(room.old / name):
                _move(room.place / name, room.old / name)
        _sync(plan.rooms)
        for index, name in plan.comes:
            room = plan.rooms[index]
            if (index, name) == (0, CORE):
                _sync(plan.rooms)  # and this may not be there before all else is
            if os.path.lexists(room.stage / name):
                _move(room.stage / name, room.place / name)
        _sync(plan.rooms)
    except OSError as error:
        raise NotHealthy(
            f"the restored files could not all be put in place in {plan.rooms[0].place}",
            because=f"{error.filename}: {error.strerror or error}; "
            + ("no server starts there until they are" if has_begun(plan) else "nothing was moved"),
            next_step="fix that, then: backupctl recover (it goes on where this stopped)",
        ) from None


def _begin(plan: SwapPlan, refuse_running: Callable[[], None]) -> None:
    """Let ``global`` leave for good; from then on no server can start there."""
    main = plan.rooms[0]
    left = any(move != (0, CORE) and os.path.lexists(plan.rooms[move[0]].old / move[1]) for move in plan.leaves)
    if left or any(not os.path.lexists(plan.rooms[index].stage / name) for index, name in plan.comes):
        return  # more than that was moved already, so nobody was there
    refuse_running()
    if not has_begun(plan):
        _move(main.place / CORE, main.old / CORE)
    _sync([main])  # nothing else may be gone from the disk while this is still there
    try:
        refuse_running()
    except BackupdError:
        if os.path.lexists(main.old / CORE) and not os.path.lexists(main.place / CORE):
            _move(main.old / CORE, main.place / CORE)
            _sync([main])
        raise


def _move(source: Path, target: Path) -> None:
    step("pg.swap.move")
    os.rename(source, target)


def _sync(rooms: Iterable[Room]) -> None:
    step("pg.swap.sync")
    for room in rooms:
        for directory in (room.place, room.stage, room.old):
            if directory.is_dir():
                sync_directory(directory)
