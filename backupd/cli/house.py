"""Opens the house for one command, and finds the database that was meant."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.cli import keys
from backupd.cli.options import Which
from backupd.errors import BackupdError, NotFound

if TYPE_CHECKING:
    from backupd.archive.keys import KeySources
    from backupd.bootstrap import House
    from backupd.ports import ReportProgress
    from backupd.runs.context import RunContext

CONFIG_VARIABLE = "BACKUPD_CONFIG"
CONFIG_HERE = "backupd.toml"


def config_path(option: str | None) -> Path:
    """Where the service config is: ``--config``, else the variable, else ``./backupd.toml``.

    Raises:
        ConfigInvalid: there is none.
    """
    from backupd.policy.load import find_config

    if not option and not os.environ.get(CONFIG_VARIABLE) and Path(CONFIG_HERE).is_file():
        option = CONFIG_HERE
    return find_config(option, os.environ)


@contextlib.contextmanager
def opened(option: str | None, sources: KeySources | None = None) -> Iterator[House]:
    """The house that the config describes; closed at the end.  ``sources`` are of private keys, else the environment's.

    Raises:
        ConfigInvalid: the config or, later, a policy cannot be used.
    """
    from backupd.bootstrap import open_house

    house = open_house(config_path(option))
    house.key_sources = sources or keys.sources()
    try:
        yield house
    except BackupdError as error:
        _name_the_database(error)
        raise
    finally:
        house.close()


# The database that this command works on; the rooms below say DATABASE, for they do not know its name.
_meant: list[str] = []


def _name_the_database(error: BackupdError) -> None:
    if _meant:
        error.because = error.because.replace("DATABASE", _meant[-1])
        error.next_step = error.next_step.replace("DATABASE", _meant[-1])


def one(
    house: House, database: str, report: ReportProgress | None = None, *, archive: Which = Which.FIRST
) -> RunContext:
    """Everything a run on this database needs, with one of its policy's archives.

    Raises:
        NotFound: no policy names it; the nearest right name is said.
        ConfigInvalid: the second archive is meant, and the policy names none.
    """
    _meant.append(database)
    try:
        context = house.context(database, report) if report else house.context(database)
    except NotFound:
        raise unknown(database, house.databases()) from None
    if archive is Which.FIRST:
        return context
    from backupd.runs.second_archive import second_of

    return second_of(context)


def chosen(house: House, database: str | None) -> Sequence[str]:
    """The named database, or all of them.

    Raises:
        NotFound: there is no policy at all.
        ConfigInvalid: all are meant, and one of the policies is invalid.
    """
    if database is not None:
        return (database,)  # its own policy is looked at when it is opened; another one's problem is not its own
    names = house.databases()
    if not names:
        raise NotFound(
            "there is no policy",
            because=f"{house.config.policies_dir} holds no *.toml file",
            next_step="write one with: backupctl init DIR --database NAME --copy a=PATH --copy b=PATH --active a",
        )
    return names


def unknown(database: str, names: Sequence[str]) -> NotFound:
    """The failure for a name that no policy has."""
    import difflib

    near = difflib.get_close_matches(database, names, n=1, cutoff=0.5)
    if near:
        next_step = f"did you mean {near[0]}?"
    elif names:
        next_step = "use one of these names: " + ", ".join(names)
    else:
        next_step = "write a policy with: backupctl init DIR --database NAME --copy a=PATH --copy b=PATH --active a"
    because = f"the policies name {', '.join(names)}" if names else "there is no policy"
    return NotFound(f"no database is called {database!r}", because=because, next_step=next_step, near=near)
