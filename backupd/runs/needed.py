"""What a restore needs and does not find is damage: a missing object is told like a flipped one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backupd.errors import DamageFound, ObjectMissing


@contextmanager
def needed_objects(backup_id: str) -> Iterator[None]:
    """Turn *no such object*, of an object that a backup's record names, into damage.

    Args:
        backup_id: the backup that is restored; the next step verifies it.

    Raises:
        DamageFound: an object was missing in the block; its name is in the problem.
    """
    try:
        yield
    except ObjectMissing as missing:
        raise DamageFound(
            missing.problem,
            because=f"{missing.because}, and a backup's record names it",
            next_step=f"see what else is missing: backupctl verify --level presence {backup_id}; "
            "then restore from a backup that is whole",
            **missing.details,
        ) from missing
