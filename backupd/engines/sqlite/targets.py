"""Which target a person means, and the rule that it is never a passive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.mounts import real_place
from backupd.engines.sqlite.active_target import ActiveTarget
from backupd.engines.sqlite.directory_target import DirectoryTarget
from backupd.errors import Refused
from backupd.ports import RestoreTarget

if TYPE_CHECKING:
    from backupd.engines.sqlite.writer import SqliteWriter


def choose_target(writer: SqliteWriter, target: str) -> RestoreTarget:
    """``active``, the name of a copy, or a directory.

    Raises:
        Refused: the target is the passive, by name, by its file or by its directory;
            or it is the active's own directory, named as if it were a scratch one.
    """
    pair = writer.pair_state()
    if target in ("active", pair.active):
        return ActiveTarget(writer)
    passive, active = writer.copies[pair.passive], writer.copies[pair.active]
    here = real_place(target)
    if target == pair.passive or here in (real_place(passive), real_place(passive.parent)):
        raise Refused(
            f"cannot restore to {target}",
            because=f"that is the passive copy ({pair.passive}), and restores go to the active only",
            next_step=f"backupctl restore {writer.database} --target active (the passive is seeded from it), "
            "or name a scratch directory",
        )
    if here in (real_place(active), real_place(active.parent)):
        raise Refused(
            f"cannot restore to {target}",
            because="the active copy lives there, and replacing it needs replication to be told",
            next_step=f"backupctl restore {writer.database} --target active",
        )
    return DirectoryTarget(Path(target).absolute(), file_name=active.name)
