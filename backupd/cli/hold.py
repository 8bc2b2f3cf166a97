"""backupctl hold and release: keep one backup out of prune's reach for a reason, and let it go again."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import house, output
from backupd.cli.options import ConfigOption, DryRunOption, JsonOption
from backupd.errors import ArchiveUnreachable, NotFound

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.runs.context import RunContext

HOLD_EXAMPLES = ("backupctl hold 20261122T010000Z-F-1a2b3c4d --reason 'asked for by the auditor, until 2031'",)
RELEASE_EXAMPLES = ("backupctl release 20261122T010000Z-F-1a2b3c4d",)

BackupArgument = Annotated[str, typer.Argument(metavar="BACKUP", help="A backup's id, from: backupctl list")]


def hold(
    backup: BackupArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it must stay; holds and explain show it.")] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Keep a backup, and all that it builds on, from being pruned until it is released; both nodes see the hold."""
    from backupd.runs.holds import hold_backup

    with house.opened(config) as opened:
        context = _context_of(opened, backup)
        placed = None if dry_run else hold_backup(context, backup, reason, f"{_person()} on {context.node}")
    if as_json:
        output.print_json({"backup": backup, "dry_run": dry_run, "hold": placed.to_json() if placed else None})
    elif placed:
        output.print_line(f"{backup} is held ({placed.id}); release it with: backupctl release {backup}")
    else:
        output.print_line(f"{backup} would be held")
    return 0


def release(
    backup: BackupArgument,
    hold_id: Annotated[
        str, typer.Option("--hold", metavar="ID", help="Which hold, when it has several, from: backupctl holds")
    ] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Release the hold of a backup; prune decides about it by the policy again."""
    from backupd.runs.holds import release_backup

    with house.opened(config) as opened:
        context = _context_of(opened, backup)
        released = release_backup(context, backup, hold_id, dry_run=dry_run)
    if as_json:
        output.print_json({"backup": backup, "dry_run": dry_run, "hold": released.to_json()})
    else:
        word = "would be released" if dry_run else "is released"
        output.print_line(f"the hold {released.id} of {backup} {word} (it said: {released.reason})")
    return 0


def _person() -> str:
    """Who types; sudo's own variable tells more than root."""
    if named := os.environ.get("SUDO_USER"):
        return named
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return f"user {os.getuid()}"


def _context_of(opened: House, backup: str) -> RunContext:
    """The database whose archive lists the backup.

    Raises:
        NotFound: none does.
        ArchiveUnreachable: none that can be read does.
    """
    names = house.chosen(opened, None)
    away: ArchiveUnreachable | None = None
    for name in names:
        context = house.one(opened, name)
        try:
            context.archive().get(backup)
        except NotFound:
            if len(names) == 1:
                raise
        except ArchiveUnreachable as error:
            away = error  # it may be in another database's archive, which is there
        else:
            return context
    if away is not None:
        raise away
    raise NotFound(
        f"no backup is called {backup!r}",
        because=f"none of the archives of {', '.join(names)} holds it",
        next_step="backupctl list",
    )
