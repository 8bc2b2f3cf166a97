"""The pair as it remembers itself: who is active, and what a restore or a person has asked for."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backupd.durable import read_json, write_json
from backupd.engines.sqlite.layout import make_directory
from backupd.errors import DamageFound


@dataclass(frozen=True, slots=True)
class PairState:
    """The durable facts of a pair.

    Attributes:
        active, passive: names of the copies.
        epoch: grows with every change of the active.
        new_history_because: a restore replaced the active's file; the next capture begins a new history.
        seed_because: a person asked for a full seed of the passive.
        restoring: the run that has the active's file in hand; replication keeps away from it.
        identity: tells this pair from every other; an archive is bound to it.
    """

    active: str
    passive: str
    epoch: int = 1
    new_history_because: str = ""
    seed_because: str = ""
    restoring: str = ""
    identity: str = ""


def load_pair(path: Path) -> PairState | None:
    """The remembered pair, or None before the first start.

    Raises:
        DamageFound: the file is there but cannot be read as a pair.
    """
    if not path.exists():
        return None
    value = read_json(path)
    try:
        if value is None:
            raise KeyError("not JSON")
        return PairState(
            active=str(value["active"]),
            passive=str(value["passive"]),
            epoch=int(value["epoch"]),
            new_history_because=str(value["new_history_because"]),
            seed_because=str(value["seed_because"]),
            restoring=str(value["restoring"]),
            identity=str(value["identity"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DamageFound(
            f"cannot read {path}",
            because=f"it is not what backupd wrote ({error})",
            next_step="put it back from a backup of the host, or remove it: the next start asks the policy",
        ) from None


def open_pair(path: Path, names: tuple[str, str], first_active: str) -> PairState:
    """The remembered pair; the first start makes it from the policy's ``first_active``, once for all who ask then."""

    def remembered() -> PairState | None:
        found = load_pair(path)
        return found if found is not None and {found.active, found.passive} == set(names) else None

    if (found := remembered()) is not None:
        return found
    _make_directory_of(path)
    with _only_one(path.parent):
        if (found := remembered()) is not None:
            return found
        passive = names[1] if names[0] == first_active else names[0]
        state = PairState(active=first_active, passive=passive, identity=secrets.token_hex(16))
        save_pair(path, state)
        return state


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Wait until no other thread or process is in here; the kernel lets go of it when one dies."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make_directory_of(path: Path) -> None:
    make_directory(path.parent)
    os.chmod(path.parent, 0o700)


def save_pair(path: Path, state: PairState) -> None:
    """Remember the pair, durably."""
    _make_directory_of(path)
    write_json(path, {name: getattr(state, name) for name in PairState.__slots__}, step_name="pair.write")


def change_pair(path: Path, **changes: str | int) -> PairState:
    """Remember the pair with some facts changed; the caller holds the lock that makes it the only one."""
    state = load_pair(path)
    if state is None:
        raise DamageFound(
            f"cannot read {path}", because="it is gone", next_step="start the service once, it is made again"
        )
    state = replace(state, **changes)  # type: ignore[arg-type]
    save_pair(path, state)
    return state


def new_history() -> str:
    """A name for a new history: 16 hex digits that nobody had before."""
    return secrets.token_hex(8)
