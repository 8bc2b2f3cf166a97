"""backupctl restore: shows the plan and what will be lost, asks, and restores."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import exact_points, house, keys, look_around, origin, output, progress, restore_words
from backupd.cli.exact_points import BeforePositionOption, BeforeXidOption, ToNameOption
from backupd.cli.keys import KeyOption, PassphraseFileOption
from backupd.cli.look_around import OpenOption, StopOption
from backupd.cli.options import (
    ArchiveOption,
    ConfigOption,
    DryRunOption,
    JsonOption,
    Which,
    YesOption,
)
from backupd.cli.origin import BinDirectoryOption, EndpointOption, FromOption, MaybeDatabaseArgument, NameOption
from backupd.cli.question import agreed, typed
from backupd.cli.wish import AtOption, BackupOption, read_wish
from backupd.errors import ArchiveUnreachable, ConfigInvalid, DamageFound, Refused, UsageProblem

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.decide.restore_path import RestoreWish
    from backupd.runs.context import RunContext

_POSITION = re.compile(r"(?:[0-9]+ ?[@:] ?)?[0-9A-Za-z]+/[0-9A-Fa-f]+")  # of any engine: it reads it itself

EXAMPLES = (
    "backupctl restore orders --target /tmp/look             # the latest state, into a directory",
    "backupctl restore orders --at '10 min ago' --dry-run    # the plan for the active copy",
    "backupctl restore orders --at 2026-11-22T14:05:00Z --yes",
    "backupctl restore orders --before-position 5f3a9c21d0e47b86/4711 --dry-run   # just before a commit",
    "backupctl restore orders --target /tmp/look --open      # look around and copy rows out, until Ctrl-C",
    "backupctl restore orders --in-place --dry-run           # no room for a second copy beside the active",
    "backupctl restore orders --archive second --dry-run     # when the first archive is away",
    "backupctl restore --from s3://bucket/orders --target /srv/orders --key orders.key.txt   # nothing else is left",
)


ToOption = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="POSITION", help="A position of the log: HISTORY/OFFSET; postgres: LSN or TIMELINE:LSN."
    ),
]


InPlaceOption = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="PostgreSQL's active: reuse its files instead of building beside them; what is there is gone at once.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says about one restore, its database apart."""

    wish: RestoreWish
    position: str | None
    exact: tuple[str | None, int | None, str | None]
    notes: tuple[str, ...]
    target: str
    archive: Which
    in_place: bool
    opens: bool
    yes: bool
    dry_run: bool
    as_json: bool


def restore(
    *,
    database: MaybeDatabaseArgument = None,
    at: AtOption = None,
    to: ToOption = None,
    before_position: BeforePositionOption = None,
    before_xid: BeforeXidOption = None,
    to_name: ToNameOption = None,
    backup: BackupOption = None,
    target: Annotated[
        str, typer.Option("--target", metavar="active|DIR", help="The active copy, or a directory; never a passive.")
    ] = "active",
    archive: ArchiveOption = Which.FIRST,
    place: FromOption = None,
    name: NameOption = None,
    endpoint_url: EndpointOption = None,
    bin_directory: BinDirectoryOption = None,
    in_place: InPlaceOption = False,
    opens: OpenOption = False,
    stops: StopOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    config: ConfigOption = None,
) -> int:
    """Restore the latest state, or that of a time, a position, a commit or a backup; the plan is shown first."""
    named = origin.named(database, name, place)
    origin.check_target(target, place)
    look_around.check_words(target, opens=opens, stops=stops, as_json=as_json)
    exact = (before_position, before_xid, to_name)
    exact_points.refuse_several(at, to, backup, *exact)
    _refuse_other_than_positions(to)
    wish, note = read_wish(at, backup)
    notes = (*([note] if note else []), *(["all is read from the second archive"] if archive is Which.SECOND else []))
    asked = _Asked(wish, to, exact, notes, target, archive, in_place, opens, yes, dry_run, as_json)
    words = origin.Words(place, named, endpoint_url, bin_directory)
    with origin.opened(words, config, keys.sources(key, passphrase_file)) as opened:
        one = origin.only_one(opened, named) if place else str(named)
        if stops:
            return look_around.stop(house.one(opened, one), target, as_json=as_json)
        with _told_of_the_second(opened, one, archive):
            return _restore(opened, one, asked)


def _restore(opened: House, database: str, asked: _Asked) -> int:
    from backupd.runs.restore import run_restore
    from backupd.runs.restore_plan import plan_restore

    wish, notes, as_json = asked.wish, asked.notes, asked.as_json
    with progress.shown() as report:
        context = house.one(opened, database, report, archive=asked.archive)
        if asked.position is not None:
            wish = _to_position(asked.position, context)
        elif found := exact_points.exact_wish(context, *asked.exact):
            wish, notes = found[0], (found[1], *notes)
        plan = plan_restore(context, wish, asked.target, in_place=asked.in_place)
        if as_json and asked.dry_run:
            output.print_json({"dry_run": True, **plan.to_json()})
            return 0
    if not as_json:
        restore_words.print_plan(database, plan, notes)
    if asked.dry_run:
        return 0
    harmless = plan.role != "active" and not plan.lost
    _agree(database, plan, yes=asked.yes or harmless, may_ask=sys.stdin.isatty() and not as_json)
    with progress.shown() as report:
        # A yes to a plan that names a file as lost is the force that its replacement needs.
        context = house.one(opened, database, report, archive=asked.archive)
        outcome = run_restore(context, plan, force=plan.role != "active" and bool(plan.lost))
    if as_json:
        output.print_json(outcome.to_json())
    else:
        restore_words.print_outcome(database, outcome)
    if asked.opens:
        look_around.look_around(context, asked.target)
    return 0


@contextmanager
def _told_of_the_second(opened: House, database: str, archive: Which) -> Iterator[None]:
    """Where the first archive is away or damaged, a second one is the next thing to try."""
    try:
        yield
    except (ArchiveUnreachable, DamageFound) as error:
        if archive is Which.FIRST and opened.context(database).second is not None:
            error.next_step += f"; or from the second archive: backupctl restore {database} --archive second"
        raise


def _refuse_other_than_positions(to: str | None) -> None:
    if to is not None and not _POSITION.fullmatch(to.strip()):
        raise _no_position(to, "a position is a place in the log, like 5f3a9c21d0e47b86/4711 or 0/3000028")


def _to_position(to: str, context: RunContext) -> RestoreWish:
    """How positions are written is the engine's to know."""
    from backupd.decide.restore_path import RestoreWish

    try:
        return RestoreWish.to_position(context.writer.parse_position(to.strip()))
    except ConfigInvalid as error:
        raise _no_position(to, error.because, error.next_step) from error


_OTHERWISE = "take a position from: backupctl show BACKUP, or give a time with --at"


def _no_position(to: str, because: str, next_step: str = _OTHERWISE) -> UsageProblem:
    return UsageProblem(f"--to {to} cannot be used", because=because, next_step=next_step)


def _agree(database: str, plan: Any, *, yes: bool, may_ask: bool) -> None:
    """Nothing is asked when the plan cannot be carried out: the run itself says why.

    Raises:
        Refused: the answer is no, or there is nobody to ask.
    """
    if yes or plan.blockers:
        return
    if not may_ask:
        raise Refused(
            f"restore of {database} needs a yes",
            because="it overwrites live data, and there is no terminal to ask at"
            if plan.role == "active"
            else "there is no terminal to ask at",
            next_step="look at the plan with --dry-run, then say --yes",
        )
    # A tired person says y to anything; who types the name has read which database it is.
    live = plan.role == "active" and plan.facts.exists
    said = typed(database, f"overwrite {plan.path}") if live else agreed(f"overwrite {plan.path}?")
    if not said:
        raise Refused(
            f"restore of {database} was not agreed to",
            because=f"the answer was not {database if live else 'yes'}; nothing was changed",
            next_step=f"run it again, and {'type the name of the database' if live else 'answer yes'}",
        )
