"""What a restore or a seed has begun in a data directory: a small durable file that recovery reads after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.swap import Room
from backupd.errors import NotHealthy
from backupd.steps import step

_NAME = "journal.json"


class Phase(StrEnum):
    """How far it is: before ``SWAPPING`` everything can be undone, from there it only goes forward."""

    BUILDING = "building"
    SWAPPING = "swapping"
    SWAPPED = "swapped"


@dataclass(frozen=True, slots=True)
class StageJournal:
    """The state of one restore; what it needs to start the server again as it was started before.

    ``must_seed`` is the note about the passive, of a restore; ``standby`` whom to follow, of a seed; ``given_up``
    that the files of the database that was there are in the stage, so that nothing is left to go back to.
    """

    run_id: str
    phase: Phase = Phase.BUILDING
    rooms: tuple[tuple[str, str], ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    was_running: bool = False
    start_options: tuple[str, ...] = ()
    log_file: str = ""
    bin_directory: str = ""
    must_seed: dict[str, str] = field(default_factory=dict)
    standby: dict[str, str] = field(default_factory=dict)
    given_up: bool = False

    @classmethod
    def read(cls, room: Room) -> Self | None:
        """The journal in a data directory's ``.backupd-restore``; None when there is none.

        Raises:
            NotHealthy: it is there and cannot be read now, so nobody knows what must not be touched.
        """
        path = room.own / _NAME
        try:
            value = json.loads(path.read_bytes())
            known = {name: value[name] for name in cls.__slots__ if name in value}
            known["phase"] = Phase(known.get("phase", Phase.BUILDING))
            known["rooms"] = tuple((str(place), str(prefix)) for place, prefix in known.get("rooms", ()))
            known["start_options"] = tuple(known.get("start_options", ()))
            return cls(**known)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            said = error.strerror if isinstance(error, OSError) else None
            raise NotHealthy(
                f"what a restore has begun in {room.place} is not known",
                because=f"{path}: {said or 'it is not what backupd has written there'}",
                next_step=f"look at that disk, then the same again; and keep {room.own}: a cluster may be in it",
            ) from None

    def write(self, room: Room, owner: Owner) -> Self:
        """Make it durable. Raises NotHealthy."""
        step("pg.restore.journal")
        try:
            owner.write_file(room.own / _NAME, json.dumps(asdict(self), indent=1).encode())
        except OSError as error:
            raise NotHealthy(
                f"cannot write {room.own / _NAME}",
                because=error.strerror or str(error),
                next_step=f"make room at {room.place} or fix its rights, then run the same restore again",
            ) from None
        return self

    def noting(self, rooms: Iterable[Room]) -> Self:
        """The same with these, too, as places that were begun in: what an earlier try had elsewhere goes with it."""
        return self.but(rooms=tuple(dict.fromkeys((*self.rooms, *((str(it.place), it.prefix) for it in rooms)))))

    def but(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return replace(self, **changes)
